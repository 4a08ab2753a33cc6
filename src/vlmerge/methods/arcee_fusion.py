"""arcee_fusion: the other model's weights where they matter most, the base's elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.methods.method import Values
from vlmerge.methods.pointwise import Pointwise
from vlmerge.methods.products import row_of

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.scratch import Scratch

SMOOTH = 1e-8
"""Added to probabilities, as mergekit adds it."""


class ArceeFusion:
    """|x - base| times the row's divergence from the base's row; what is above median + 1.5 · (q3 - q1) is the other's.

    A row's divergence is KL(softmax(x) || softmax(base)) (Arcee 2024), in float64, since in float32 rounding decides it.
    Quartiles are exact; mergekit takes them from a random sample of large tensors.
    """

    spec: MethodSpec = SPECS["arcee_fusion"]

    def check(self, values: Values) -> None:
        """There is nothing to choose."""

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> Known:
        """Divergences and the threshold are found out when the shape is first told."""
        del tensors, base, scratch
        return {}

    def rule(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: Known, scratch: Scratch) -> Pointwise:
        """Element by element."""
        assert base is not None
        shape = values.shape
        if shape not in known:
            known[shape] = _measure(tensors[0], base, shape, scratch)
        divergences, threshold = known[shape]

        def formula(origin: Tensor | None, chunks: Sequence[Tensor], place: slice) -> Tensor:
            assert origin is not None
            weight = divergences[row_of(place, shape, origin.device)]
            matters = (chunks[0].double() - origin.double()).abs_().mul_(weight) >= threshold
            return torch.where(matters, chunks[0], origin)

        return Pointwise(base, tuple(tensors), formula)


Known = dict[tuple[int, ...], "tuple[Tensor, float]"]
"""Shape → divergence of each row, float64 [rows], and the threshold of importance."""


def _measure(other: Tensor, base: Tensor, shape: Sequence[int], scratch: Scratch) -> tuple[Tensor, float]:
    width, length = shape[-1], len(base)
    rows, step = length // width, max(1, scratch.chunk // width)
    divergences = torch.empty(rows, dtype=torch.float64, device=base.device)
    importance = torch.empty(length, dtype=torch.float64, device=base.device)
    for first in range(0, rows, step):
        span = slice(first * width, min(first + step, rows) * width)
        one, two = other[span].double().view(-1, width), base[span].double().view(-1, width)
        p, q = one.softmax(-1).add_(SMOOTH), two.softmax(-1).add_(SMOOTH)
        found = (p * (p / q).log_()).sum(-1)
        divergences[first : first + len(found)] = found
        importance[span] = ((one - two).abs_() * found[:, None]).view(-1)
    median, low, high = (_ranked(importance, share) for share in (0.5, 0.25, 0.75))
    return divergences, median + 1.5 * (high - low)


def _ranked(values: Tensor, share: float) -> float:
    """The value at int(share · (n - 1)) of the sorted ones."""
    return float(values.kthvalue(int(share * (len(values) - 1)) + 1).values)
