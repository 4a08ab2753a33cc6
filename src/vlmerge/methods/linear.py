"""linear: the weighted sum of the weights, divided by the sum of the weights unless `normalize: false`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.errors import CandidateFailure
from vlmerge.methods.method import Values
from vlmerge.methods.summing import Summing
from vlmerge.methods.sums import Terms, weighted

if TYPE_CHECKING:
    from torch import Tensor


class Linear(Summing):
    """Σ wᵢ·xᵢ [/ Σ wᵢ] (model soups, Wortsman et al. 2022). A base is one more input."""

    spec: MethodSpec = SPECS["linear"]

    def check(self, values: Values) -> None:
        """Weights that sum to zero cannot be normalised; "zero" allows for the rounding of decimal fractions."""
        weights = values.weights()
        if values.flag("normalize") and abs(sum(weights)) <= 1e-9 * sum(map(abs, weights)):
            raise CandidateFailure(f"the weights sum to zero ({' + '.join(f'{weight:g}' for weight in weights)})")

    def terms(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: None) -> Terms:
        """Summed in listed order, so that the order decides at most the last bit of float32."""
        del base, known
        return weighted(tensors, values.weights(), normalize=values.flag("normalize"))
