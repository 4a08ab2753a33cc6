"""Where the tensors of one launch lie on a GPU, and which program of the launch works on which piece of which tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmerge.methods.remembered import forget_eldest

BLOCK = 4096
"""Elements of one program."""
STEP = 512
"""Elements that a program works on together where it keeps many numbers of each: registers decide how many programs a GPU runs
at once, and only many of them hide how long memory takes."""
WARPS = 4
"""Warps of such a program: four elements of a step for each thread."""
ALIGNED = 16
"""Bytes of the widest words that memory is read in; and elements of a length that needs no narrower ones at its end."""
TABLES = 48
"""Tables that are kept: those of a run's one or two kinds of recipe at 7B shapes, a few times over."""


@dataclass(frozen=True)
class Place:
    """One result and what it is made of: flat, contiguous, of one length.

    Attributes:
        out: Result; may not overlap an input.
        base: What differences are taken from, or None.
        inputs: At least one, all of the base's dtype.
        addresses: Of the result, its length, of the base (0 without one) and of the inputs: a row of the table.
        aligned: Whether every tensor begins and ends where the widest words do.
    """

    out: Tensor
    base: Tensor | None
    inputs: tuple[Tensor, ...]
    addresses: tuple[int, ...]
    aligned: bool

    @classmethod
    def of(cls, out: Tensor, base: Tensor | None, inputs: tuple[Tensor, ...]) -> Place:
        """Looks the addresses up: once per run, not per candidate."""
        origin = 0 if base is None else base.data_ptr()
        starts = [out.data_ptr(), origin, *(one.data_ptr() for one in inputs)]
        aligned = out.numel() % ALIGNED == 0 and all(start % ALIGNED == 0 for start in starts)
        return cls(out, base, inputs, (starts[0], out.numel(), *starts[1:]), aligned)

    @property
    def kind(self) -> tuple[object, ...]:
        """What tensors of one launch have in common."""
        return (len(self.inputs), self.base is None, self.inputs[0].dtype, self.out.dtype, self.aligned)


@dataclass(frozen=True)
class Table:
    """On the device.

    Attributes:
        addresses: int64 [tensors, 3 + inputs], rows as in `Place`.
        owners: int32 [programs]: the tensor that a program works on; programs of a tensor follow each other.
        starts: int64 [programs]: the first element that it works on.
        firsts: int64 [tensors + 1]: first program of each tensor, and the number of all.
    """

    addresses: Tensor
    owners: Tensor
    starts: Tensor
    firsts: Tensor

    @property
    def programs(self) -> int:
        """How many there are."""
        return len(self.owners)


class Tables:
    """Tables by what they hold: a candidate sends its numbers alone."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._tables: dict[tuple[tuple[int, ...], ...], Table] = {}

    def of(self, places: Sequence[Place]) -> Table:
        """The table for a launch."""
        rows = tuple(place.addresses for place in places)
        table = self._tables.get(rows)
        if table is None:
            forget_eldest(self._tables, TABLES)
            table = self._tables[rows] = self._made(rows)
        return table

    def forget(self) -> None:
        """Frees them."""
        self._tables.clear()

    def _made(self, rows: tuple[tuple[int, ...], ...]) -> Table:
        addresses = torch.tensor(rows, dtype=torch.long)
        counts = (addresses[:, 1] + BLOCK - 1) // BLOCK
        ends = counts.cumsum(0)
        firsts = torch.cat([ends.new_zeros(1), ends])
        owners = torch.repeat_interleave(torch.arange(len(rows), dtype=torch.int32), counts)
        starts = (torch.arange(len(owners)) - firsts[owners.long()]) * BLOCK
        return Table(*(sent(each, self._device) for each in (addresses, owners, starts, firsts)))


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """Numbers on their way to the device; the host does not wait."""
    if device.type == "cuda":
        numbers = numbers.pin_memory()
    return numbers.to(device, non_blocking=True)
