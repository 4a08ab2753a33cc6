"""One tensor of a merge piece by piece: a merge to disk needs little memory, and writes a piece while it computes the next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from vlmerge.errors import CandidateFailure
from vlmerge.methods.combine import as_cast, cast_of, combine, host_tensor, inputs_of, rule_of
from vlmerge.methods.finite import is_finite, require_finite
from vlmerge.methods.scratch import spans

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.anatomy import TensorPair
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.methods.combine import Read
    from vlmerge.methods.resolved import Step
    from vlmerge.methods.scratch import Scratch


class Turns:
    """Two buffers of each dtype that take turns: one is read while the other is filled.

    Attributes:
        piece: Elements of a buffer.
    """

    def __init__(self, piece: int) -> None:
        self.piece = piece
        self._buffers: dict[torch.dtype, tuple[Tensor, Tensor]] = {}
        self._turn = 0

    def buffer(self, dtype: torch.dtype, length: int) -> Tensor:
        """The buffer that was asked for last but one; contents are whatever was there. `length` is at most a piece."""
        if dtype not in self._buffers:
            self._buffers[dtype] = (torch.empty(self.piece, dtype=dtype), torch.empty(self.piece, dtype=dtype))
        self._turn = 1 - self._turn
        return self._buffers[dtype][self._turn][:length]


def merged_pieces(step: Step, read: Read, scratch: Scratch, turns: Turns) -> Iterator[Tensor]:
    """What `combine` computes, flat, in consecutive pieces; each is good until the next but one is asked for.

    Where vocabulary rows are gathered or laid out anew, the whole is one piece. Casts of the inputs are made piece by piece for
    methods that go element by element, whole for others.

    Raises:
        CandidateFailure: The result is not finite.
    """
    rows, length = step.pair.rows, math.prod(step.pair.shape)
    if length == 0:
        yield turns.buffer(step.out_dtype, 0)
        return
    if step.pair.rearranged is not None or (rows is not None and not rows.straight):
        out = torch.empty(step.pair.shape, dtype=step.out_dtype)
        combine(step, read, out, scratch)
        yield out.view(-1)
        return
    by_element = step.method.spec.by_element
    tensors, base = inputs_of(step, read, cast=not by_element)
    end = length if rows is None else rows.merged * (length // step.pair.shape[0])
    flat, origin = [tensor.view(-1)[:end] for tensor in tensors], None if base is None else base.view(-1)[:end]
    whole = None if by_element else rule_of(step, flat, origin, scratch)
    for span in spans(0, end, turns.piece):
        out = turns.buffer(step.out_dtype, span.stop - span.start)
        if whole is not None:
            rule = whole.part(span)
        else:
            parts = [as_cast(tensor[span], step.cast) for tensor in flat]
            rule = rule_of(step, parts, None if origin is None else as_cast(origin[span], step.cast), scratch)
        yield _finite(rule.write(out, scratch), step, out)
    if end < length:
        host = read(step.host, step.pair.host_name).reshape(-1)
        for out in _copied(host, (end, length), step.out_dtype, step.cast, turns):
            yield _finite(is_finite(out, scratch), step, out)


def kept_pieces(
    pair: TensorPair, host: ModelRef, read: Read, dtype: torch.dtype, cast: torch.dtype | None, scratch: Scratch, turns: Turns
) -> Iterator[Tensor]:
    """What `keep` writes, likewise.

    Raises:
        MismatchError: It is not finite.
    """
    tensor = host_tensor(pair, host, read)
    cast = cast_of(pair, tensor, cast)
    if tensor.numel() == 0:
        yield turns.buffer(dtype, 0)
    for out in _copied(tensor.reshape(-1), (0, tensor.numel()), dtype, cast, turns):
        if not is_finite(out, scratch):
            # Told of the whole: of the model's own numbers, or of what the cast made of them.
            for each in (tensor, as_cast(tensor, cast).to(dtype)):
                require_finite(each, scratch, model=str(host), name=pair.host_name)
        yield out


def _copied(
    source: Tensor, within: tuple[int, int], dtype: torch.dtype, cast: torch.dtype | None, turns: Turns
) -> Iterator[Tensor]:
    for span in spans(*within, turns.piece):
        part = source[span]
        yield turns.buffer(dtype, len(part)).copy_(as_cast(part, cast))


def _finite(finite: bool, step: Step, out: Tensor) -> Tensor:
    if not finite:
        raise CandidateFailure(f"NaN or infinity in {step.pair.name}")
    return out
