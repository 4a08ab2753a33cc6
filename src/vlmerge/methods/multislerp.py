"""multislerp: the weighted mean of any number of models as directions, with the weighted mean of their lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.errors import CandidateFailure, NoResult
from vlmerge.methods.method import Values
from vlmerge.methods.products import products
from vlmerge.methods.summing import Summing
from vlmerge.methods.sums import Terms, require_a_sum, weighted

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.products import Products
    from vlmerge.methods.scratch import Scratch


class MultiSlerp(Summing):
    """(Σ wᵢ|xᵢ|) · m / |m| with m = Σ wᵢ xᵢ/|xᵢ|; of differences where there is a base (Goddard 2024, mergekit).

    mergekit goes one step further, from m along the mean of the directions' tangents there. That mean is zero, since m is the
    mean of the directions: what it adds is rounding.
    """

    spec: MethodSpec = SPECS["multislerp"]

    def check(self, values: Values) -> None:
        """Weights that sum to zero cannot be normalised."""
        if values.number("eps") <= 0:
            raise CandidateFailure(f"eps has to be above 0 ({values.number('eps'):g})")
        if len(values.sources) > 1 and values.flag("normalize_weights"):
            require_a_sum(values.weights())

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> Products:
        """Dot products."""
        return products(tensors, base, scratch)

    def terms(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: Products) -> Terms:
        """One weighted sum.

        Raises:
            NoResult: Three or more directions that cancel out. Of two the straight line is taken.
        """
        if len(tensors) == 1:
            return Terms(base, (tensors[0],), (1.0,))
        weights, eps = values.weights(), values.number("eps")
        if values.flag("normalize_weights"):
            total = sum(weights)
            weights = [weight / total for weight in weights]
        norms = [math.sqrt(max(0.0, float(known[place, place]))) for place in range(len(tensors))]
        if base is not None and max(norms) == 0:
            return Terms(base, (), ())  # No model has changed this tensor.
        factors = np.array([weight / (norm + eps) for weight, norm in zip(weights, norms, strict=True)])
        size = math.sqrt(max(0.0, float(factors @ known @ factors)))
        if size < eps:
            if len(tensors) > 2:
                raise NoResult("the directions of the models cancel out: they have no mean")
            factors = np.array(weights)
        else:
            length = sum(weight * norm for weight, norm in zip(weights, norms, strict=True))
            factors *= length / size
        return weighted(tensors, [float(factor) for factor in factors], base=base)
