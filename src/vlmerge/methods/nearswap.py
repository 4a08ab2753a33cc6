"""nearswap: the other model's weights where they are near the base's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.methods.method import Values
from vlmerge.methods.pointwise import Pointwise

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.scratch import Scratch

NEAREST = 1e-6
"""Distances below this count as this (mergekit's threshold)."""


class NearSwap:
    """s·x + (1-s)·base, s = t / |x - base| for each element, at most 1 (Alchemonaut 2024)."""

    spec: MethodSpec = SPECS["nearswap"]

    def check(self, values: Values) -> None:
        """Any t has a result."""

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> None:
        """Nothing depends on the tensors alone."""
        del tensors, base, scratch

    def rule(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: None, scratch: Scratch) -> Pointwise:
        """Element by element."""
        del known, scratch
        t = values.number("t")

        def formula(origin: Tensor | None, chunks: Sequence[Tensor], place: slice) -> Tensor:
            del place
            assert origin is not None
            other = chunks[0]
            share = (other - origin).abs_().clamp_min_(NEAREST).reciprocal_().mul_(t).clamp_(0.0, 1.0)
            return other.mul_(share).add_(origin.mul_(share.neg_().add_(1.0)))

        return Pointwise(base, tuple(tensors), formula)
