"""linear: the weighted sum of the weights, divided by the sum of the weights unless `normalize: false`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.errors import CandidateFailure
from vlmerge.methods.method import Values
from vlmerge.methods.sums import Terms, add_up, weighted

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.scratch import Scratch


class Linear:
    """Σ wᵢ·xᵢ [/ Σ wᵢ] (model soups, Wortsman et al. 2022). A base is one more input."""

    spec: MethodSpec = SPECS["linear"]

    def check(self, values: Values) -> None:
        """Weights that sum to zero cannot be normalised; "zero" allows for the rounding of decimal fractions."""
        weights = values.weights()
        if values.flag("normalize") and abs(sum(weights)) <= 1e-9 * sum(map(abs, weights)):
            raise CandidateFailure(f"the weights sum to zero ({' + '.join(f'{weight:g}' for weight in weights)})")

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> None:
        """Nothing depends on the tensors alone."""

    def terms(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: None) -> Terms:
        """Summed in listed order, so that the order decides at most the last bit of float32."""
        del base, known
        return weighted(tensors, values.weights(), normalize=values.flag("normalize"))

    def merge(
        self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: None, out: Tensor, scratch: Scratch
    ) -> bool:
        """One pass."""
        return add_up(self.terms(tensors, base, values, known), out, scratch)
