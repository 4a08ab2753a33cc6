"""svd_linear: task arithmetic of differences cleaned of their small singular directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.methods.low_rank import Approximations, Factors, Weighed, rank_of
from vlmerge.methods.method import Values
from vlmerge.methods.pointwise import Pointwise
from vlmerge.methods.scratch import work_dtype
from vlmerge.methods.sums import divisor_of
from vlmerge.methods.task_arithmetic import TaskArithmetic

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.method import Rule
    from vlmerge.methods.scratch import Scratch

PLAIN = TaskArithmetic()


class SvdLinear:
    """base + lambda · Σ wᵢ·cleaned(xᵢ - base) [/ Σ wᵢ].

    OptMerge (Wei et al. 2025, arXiv 2505.19892) cleans task vectors like that before it optimises the merged one: of each
    weight matrix it keeps 1/n of the singular directions, n the number of models. Its optimisation is not part of this method,
    nor is the mean task vector that its code subtracts before and adds after, where models were trained whole.
    """

    spec: MethodSpec = SPECS["svd_linear"]

    def check(self, values: Values) -> None:
        """Any weights have a result; ranks are checked where recipes are read."""

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> Approximations:
        """Directions are found out when a rank is first asked for."""
        del tensors, base, scratch
        return Approximations()

    def rule(
        self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: Approximations, scratch: Scratch
    ) -> Rule:
        """Task arithmetic, where everything is kept whole; else products of factors, and differences that are kept whole."""
        assert base is not None
        weights, scale = values.weights(), values.number("lambda")
        work = work_dtype(base.dtype, *(tensor.dtype for tensor in tensors))
        cleaned: list[Factors] = []
        of_cleaned: list[float] = []
        whole: list[Tensor] = []
        of_whole: list[float] = []
        for number, (tensor, weight) in enumerate(zip(tensors, weights, strict=True)):
            if weight == 0 or scale == 0:
                continue
            rank = rank_of(float(values.sources[number]["rank"] or 0.0), values.shape)
            if rank is None:
                whole.append(tensor)
                of_whole.append(weight)
            else:
                cleaned.append(known.of(number, tensor, base, values.shape, rank, work))
                of_cleaned.append(weight)
        if not cleaned:
            return PLAIN.rule(tensors, base, values, None, scratch)
        total_of = Weighed(cleaned, of_cleaned)
        divisor = divisor_of(weights) if values.flag("normalize") else 1.0

        def formula(origin: Tensor | None, chunks: Sequence[Tensor], place: slice) -> Tensor:
            assert origin is not None
            total, origin = total_of.at(place), origin.to(work)
            for chunk, weight in zip(chunks, of_whole, strict=True):
                total.add_(chunk.to(work).sub_(origin), alpha=weight)
            if divisor != 1:
                # A tensor: torch divides by a number through its reciprocal on a GPU.
                total.div_(torch.tensor(divisor, dtype=work, device=origin.device))
            return origin.add_(total, alpha=scale)

        return Pointwise(base, tuple(whole), formula)
