"""task_arithmetic: the base plus weighted differences from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.methods.method import Values
from vlmerge.methods.summing import Summing
from vlmerge.methods.sums import Terms, divisor_of

if TYPE_CHECKING:
    from torch import Tensor


class TaskArithmetic(Summing):
    """base + lambda · Σ wᵢ·(xᵢ - base) [/ Σ wᵢ] (Ilharco et al. 2023)."""

    spec: MethodSpec = SPECS["task_arithmetic"]

    def check(self, values: Values) -> None:
        """Any weights have a result: a sum near zero does not divide."""

    def terms(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: None) -> Terms:
        """Differences and sums in float32 (float64 where an input is), rounded once."""
        del known
        weights, scale = values.weights(), values.number("lambda")
        divisor = divisor_of(weights) if values.flag("normalize") else 1.0
        kept = [(tensor, weight) for tensor, weight in zip(tensors, weights, strict=True) if weight != 0 and scale != 0]
        return Terms(base, tuple(tensor for tensor, _ in kept), tuple(weight for _, weight in kept), divisor, scale)
