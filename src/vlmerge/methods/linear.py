"""linear: the weighted sum of the weights, divided by the sum of the weights unless `normalize: false`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.methods.method import Values
from vlmerge.methods.summing import Summing
from vlmerge.methods.sums import Terms, require_a_sum, weighted

if TYPE_CHECKING:
    from torch import Tensor


class Linear(Summing):
    """Σ wᵢ·xᵢ [/ Σ wᵢ] (model soups, Wortsman et al. 2022). A base is one more input."""

    spec: MethodSpec = SPECS["linear"]

    def check(self, values: Values) -> None:
        """Weights that sum to zero cannot be normalised."""
        if values.flag("normalize"):
            require_a_sum(values.weights())

    def terms(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: None) -> Terms:
        """Summed in listed order, so that the order decides at most the last bit of float32."""
        del base, known
        return weighted(tensors, values.weights(), normalize=values.flag("normalize"))
