"""task_arithmetic: the base plus weighted differences from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.methods.method import Values
from vlmerge.methods.scratch import work_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.scratch import Scratch


class TaskArithmetic:
    """base + lambda · Σ wᵢ·(xᵢ - base) [/ Σ wᵢ] (Ilharco et al. 2023)."""

    spec: MethodSpec = SPECS["task_arithmetic"]

    def check(self, values: Values) -> None:
        """Any weights have a result: a sum near zero does not divide."""

    def merge(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, out: Tensor, scratch: Scratch) -> None:
        """Differences and sums in float32 (float64 where an input is), rounded once."""
        assert base is not None
        weights, scale = values.weights(), values.number("lambda")
        divisor = sum(weights) if values.flag("normalize") else 1.0
        if abs(divisor) < 1e-8:
            divisor = 1.0
        terms = [(tensor, weight) for tensor, weight in zip(tensors, weights, strict=True) if weight != 0 and scale != 0]
        if not terms:
            out.copy_(base)
            return
        if len(terms) == 1 and terms[0][1] == divisor and scale == 1:
            # base + (x - base) is x; computed, it would lose bits where the base is much larger.
            out.copy_(terms[0][0])
            return
        work = work_dtype(base.dtype, *(tensor.dtype for tensor in tensors))
        for span in scratch.spans(out.numel()):
            length = span.stop - span.start
            start = scratch.buffer(0, work, length).copy_(base[span])
            total = scratch.buffer(1, work, length)
            difference = scratch.buffer(2, work, length)
            for number, (tensor, weight) in enumerate(terms):
                difference.copy_(tensor[span]).sub_(start)
                if number == 0:
                    torch.mul(difference, weight, out=total)
                else:
                    total.add_(difference, alpha=weight)
            if divisor != 1:
                total.div_(divisor)
            if scale != 1:
                total.mul_(scale)
            out[span].copy_(total.add_(start))
