"""One tensor of a merge piece by piece: a merge to disk needs little memory, and writes a piece while it computes the next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from vlmerge.errors import CandidateFailure
from vlmerge.methods.combine import combine, inputs_of, rule_of
from vlmerge.methods.finite import is_finite, require_finite

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.anatomy import TensorPair
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.methods.combine import Read
    from vlmerge.methods.resolved import Step
    from vlmerge.methods.scratch import Scratch

PIECE = 1 << 23
"""Elements: long beside what a call of a kernel costs."""


class Turns:
    """Two buffers of each dtype that take turns: one is read while the other is filled."""

    def __init__(self) -> None:
        self.piece = PIECE
        self._buffers: dict[torch.dtype, tuple[Tensor, Tensor]] = {}
        self._turn = 0

    def next(self, dtype: torch.dtype, length: int) -> Tensor:
        """The buffer that was asked for last but one; contents are whatever was there. `length` is at most a piece."""
        if dtype not in self._buffers:
            self._buffers[dtype] = (torch.empty(self.piece, dtype=dtype), torch.empty(self.piece, dtype=dtype))
        self._turn = 1 - self._turn
        return self._buffers[dtype][self._turn][:length]

    def spans(self, length: int, start: int = 0) -> Iterator[slice]:
        """Pieces of a flat tensor from `start` on; at least one."""
        for begin in range(start, max(length, start + 1), self.piece):
            yield slice(begin, min(begin + self.piece, length))


def combined(step: Step, read: Read, scratch: Scratch, turns: Turns) -> Iterator[Tensor]:
    """What `combine` computes, flat, in consecutive pieces; each is good until the next but one is asked for.

    Raises:
        CandidateFailure: The result is not finite.
    """
    rows, length = step.pair.rows, math.prod(step.pair.shape)
    if rows is not None and not rows.straight:
        out = torch.empty(step.pair.shape, dtype=step.out_dtype)
        combine(step, read, out, scratch)
        yield out.view(-1)
        return
    tensors, base = inputs_of(step, read)
    end = length if rows is None else rows.merged * (length // step.pair.shape[0])
    rule = rule_of(step, [tensor.view(-1)[:end] for tensor in tensors], None if base is None else base.view(-1)[:end], scratch)
    for span in turns.spans(end):
        out = turns.next(step.out_dtype, span.stop - span.start)
        if not rule.part(span).write(out, scratch):
            raise CandidateFailure(f"NaN or infinity in {step.pair.name}")
        yield out
    if end == length:
        return
    host = read(step.host, step.pair.host_name).view(-1)
    for out in _copied(host, end, step.out_dtype, step.cast, turns):
        if not is_finite(out, scratch):
            raise CandidateFailure(f"NaN or infinity in {step.pair.name}")
        yield out


def kept(
    pair: TensorPair, host: ModelRef, read: Read, dtype: torch.dtype, cast: torch.dtype | None, scratch: Scratch, turns: Turns
) -> Iterator[Tensor]:
    """A tensor that is not merged, likewise.

    Raises:
        MismatchError: It is not finite.
    """
    tensor = read(host, pair.host_name)
    keeps = cast is None or not tensor.dtype.is_floating_point or pair.is_buffer
    for out in _copied(tensor.reshape(-1), 0, dtype, None if keeps else cast, turns):
        if not is_finite(out, scratch):
            for each in (tensor, out):
                require_finite(each, scratch, model=str(host), name=pair.host_name)
        yield out


def _copied(source: Tensor, start: int, dtype: torch.dtype, cast: torch.dtype | None, turns: Turns) -> Iterator[Tensor]:
    for span in turns.spans(len(source), start):
        part = source[span]
        yield turns.next(dtype, len(part)).copy_(part if cast is None else part.to(cast))
