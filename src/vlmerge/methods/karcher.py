"""karcher: the point on the sphere from which the models' directions are nearest, with the mean of their lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.errors import NoResult
from vlmerge.methods.method import Values
from vlmerge.methods.products import products
from vlmerge.methods.summing import Summing
from vlmerge.methods.sums import Terms, weighted

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vlmerge.methods.products import Products
    from vlmerge.methods.scratch import Scratch


OPPOSITE = 1e-8
"""Sine of an angle near 180° below which no way between two directions is the shorter one."""


class Karcher(Summing):
    """The Karcher (Riemannian) mean of unit vectors by fixed-point steps (Karcher 1977); all models count alike.

    Every step stays among the sums of the models: it is taken on their factors, and the weights are read once.
    """

    spec: MethodSpec = SPECS["karcher"]

    def check(self, values: Values) -> None:
        """Any values have a result."""

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> Products:
        """Dot products."""
        return products(tensors, base, scratch)

    def terms(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: Products) -> Terms:
        """One weighted sum.

        Raises:
            NoResult: A model's direction is opposite to the mean.
        """
        del base
        factors = mean_direction(known, int(values.number("max_iter")), values.number("tol"))
        return weighted(tensors, [float(factor) for factor in factors])


def mean_direction(dots: Products, most: int, tolerance: float) -> NDArray[np.float64]:
    """Factors of the models.

    Args:
        dots: Dot products of the models, [models, models].
        most: Steps.
        tolerance: Models of a smaller norm have no direction; smaller angles and steps do not count.

    Raises:
        NoResult: A direction is opposite to the mean.
    """
    norms = np.sqrt(np.maximum(np.diag(dots), 0.0))
    there = [place for place, norm in enumerate(norms) if norm > tolerance]
    if not there:
        return np.zeros(len(norms))
    share = 1.0 / len(there)
    units = np.zeros((len(there), len(norms)))
    for number, place in enumerate(there):
        units[number, place] = 1.0 / norms[place]
    mean = share * units.sum(0)
    size = _norm(mean, dots)
    mean = units[0] if size < tolerance else mean / size
    for _ in range(most):
        step = np.zeros_like(mean)
        for unit in units:
            cosine = min(1.0, max(-1.0, float(mean @ dots @ unit)))
            angle = math.acos(cosine)
            if angle >= tolerance and math.sin(angle) < OPPOSITE:
                raise NoResult("two directions are opposite: they have no mean")
            if angle >= tolerance:
                step += share * (angle / math.sin(angle)) * (unit - cosine * mean)
        size = _norm(step, dots)
        if size < tolerance:
            break
        mean = math.cos(size) * mean + math.sin(size) / size * step
        mean = mean / _norm(mean, dots)
    return mean * norms.mean()


def _norm(factors: NDArray[np.float64], dots: Products) -> float:
    return math.sqrt(max(0.0, float(factors @ dots @ factors)))
