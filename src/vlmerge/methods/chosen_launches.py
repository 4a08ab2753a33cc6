"""Sums of chosen differences, many tensors in one launch: what a run needs to know of differences stays on the device.

Raises ImportError where Triton is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vlmerge.methods.differences import LOTS, REMEMBERED, Choice, Differences
from vlmerge.methods.kernels.gpu_chosen import FIELDS, add_chosen, measure
from vlmerge.methods.kernels.gpu_select import HIGHS, count_high, select
from vlmerge.methods.kernels.gpu_table import sent
from vlmerge.methods.remembered import forget_eldest

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.kernels.gpu_table import Place, Table, Tables
    from vlmerge.methods.method import Values
    from vlmerge.methods.sparse import Share, Sparse

SLOTS = 1 << 15
"""Thresholds (and norms) that the device remembers: those of some dozens of candidates at 7B shapes."""


@dataclass(frozen=True)
class Chosen:
    """One tensor: out = base + scale · (sum of weighted chosen differences) / divisor.

    Attributes:
        place: Its tensors; the inputs are those of the shares.
        shares: What each input contributes.
        known: What was found out about its differences; added to.
        draws, elect, by_parts: See `Sparse`: `random`, `elect` and `divides_by_parts`.
        divisor, scale: Numbers.
    """

    place: Place
    shares: tuple[Share, ...]
    known: Differences
    draws: bool
    elect: bool
    by_parts: bool
    divisor: float
    scale: float

    @classmethod
    def of(cls, method: Sparse, values: Values, place: Place, shares: Sequence[Share], known: object) -> Chosen:
        """The job for a method's values."""
        assert isinstance(known, Differences)
        return cls(
            place, tuple(shares), known, method.random, method.elect, method.divides_by_parts(values),
            method.divisor(values), values.number("lambda"),
        )  # fmt: skip

    @property
    def kind(self) -> tuple[object, ...]:
        """What tensors of one launch have in common."""
        return (*self.place.kind, self.draws, self.elect, self.by_parts)


class ChosenLaunches:
    """Launches such sums, and finds thresholds and norms before where they are not known yet."""

    def __init__(self, device: torch.device, tables: Tables) -> None:
        self._device = device
        self._tables = tables
        self._found: Tensor | None = None
        self._norms: Tensor | None = None
        self._used = 0
        self._generation = 0

    def run(self, jobs: Sequence[Chosen]) -> Tensor:
        """Merges tensors of one kind; gives a flag for each (int32, on the device): 1 where the result is not finite."""
        places = [job.place for job in jobs]
        table, first = self._tables.of(places), places[0]
        found, norms = self._memory(sum(3 * len(job.shares) for job in jobs))
        draft = _Draft(self._generation, self._used)
        for job in jobs:
            draft.add(job)
        self._used = draft.used
        pairs, asked, wanted = (sent(torch.tensor(each, dtype=torch.long), self._device) for each in draft.rows())
        given = [[*(share.weight for share in job.shares), job.divisor, job.scale] for job in jobs]
        numbers, draws = sent(torch.tensor(given, dtype=torch.float32), self._device), jobs[0].draws
        if draft.selects:
            select(table, first, self._highs(jobs, table, draft), wanted, pairs[:, :, 0].contiguous(), found)
        if draft.measures:
            measure(table, first, pairs, numbers, asked, found, norms, draws=draws)
        draft.commit()
        return add_chosen(
            table, first, pairs, numbers, found, norms, draws=draws, elect=jobs[0].elect, share=jobs[0].by_parts
        )  # fmt: skip

    def _memory(self, needed: int) -> tuple[Tensor, Tensor]:
        """Room for `needed` more rows; where there is none, all rows are forgotten."""
        if self._found is None or self._norms is None or self._used + needed > SLOTS:
            self._found = torch.zeros((max(SLOTS, needed), 2), dtype=torch.long, device=self._device)
            self._norms = torch.zeros(max(SLOTS, needed), dtype=torch.float64, device=self._device)
            self._used = 0
            self._generation += 1
        return self._found, self._norms

    def _highs(self, jobs: Sequence[Chosen], table: Table, draft: _Draft) -> Tensor:
        """Addresses of the counters of upper digits, counted where that was not done yet; int64 [tensors, inputs]."""
        missing = [
            (job, share.number)
            for job, wanted in zip(jobs, draft.wanted, strict=True)
            for share, count in zip(job.shares, wanted, strict=True)
            if count and share.number not in job.known.highs
        ]
        new = torch.zeros((len(missing), HIGHS), dtype=torch.int32, device=self._device)
        made = {(id(job.known), number): row for (job, number), row in zip(missing, new.unbind(), strict=True)}
        if made:
            into = [[_address(made.get((id(job.known), share.number))) for share in job.shares] for job in jobs]
            count_high(table, jobs[0].place, sent(torch.tensor(into, dtype=torch.long), self._device))
            for job, number in missing:
                job.known.highs[number] = made[id(job.known), number]
        addresses = [[_address(job.known.highs.get(share.number)) for share in job.shares] for job in jobs]
        return sent(torch.tensor(addresses, dtype=torch.long), self._device)


class _Draft:
    """What the kernels are told about the pairs of a launch, and which rows of thresholds and norms are new."""

    def __init__(self, generation: int, used: int) -> None:
        self._generation = generation
        self.used = used
        self.pairs: list[list[list[int]]] = []
        self.asked: list[list[list[int]]] = []
        self.wanted: list[list[int]] = []
        self._new: list[tuple[Differences, tuple[object, ...], int]] = []

    @property
    def selects(self) -> bool:
        """Whether any threshold is to be found."""
        return any(map(any, self.wanted))

    @property
    def measures(self) -> bool:
        """Whether any norms are."""
        return any(any(map(any, each)) for each in self.asked)

    def add(self, job: Chosen) -> None:
        """Takes a job's pairs down."""
        pairs: list[list[int]] = []
        asked: list[list[int]] = []
        wanted: list[int] = []
        for share in job.shares:
            what = share.wanted
            assert isinstance(what, int | Choice)  # What is looked for in another way is not launched.
            slot, chance, key, new = -1, LOTS, (0, 0), False
            if isinstance(what, int):
                slot, new = self._slot(job.known, ("largest", share.number, what))
            elif what.kind == "drawn":
                chance, key = what.chance, what.key
            wanted.append(what if new and isinstance(what, int) else 0)
            norms, measured = (-1, -1), (0, 0)
            if share.rescale:
                rows = [self._slot(job.known, ("norm", share.number, *part)) for part in ((), _named(what))]
                norms, measured = zip(*rows, strict=True)
            asked.append([int(each) for each in measured])
            pairs.append([slot, *norms, chance, *key])
        self.pairs.append(pairs)
        self.asked.append(asked)
        self.wanted.append(wanted)

    def rows(self) -> tuple[list[list[list[int]]], list[list[list[int]]], list[list[int]]]:
        """Pairs with their FIELDS; which norms are asked for; how many are kept where a threshold is asked for."""
        assert len(self.pairs[0][0]) == FIELDS
        return self.pairs, self.asked, self.wanted

    def commit(self) -> None:
        """The new rows are filled, or will be before anything that is launched after this."""
        for known, key, slot in self._new:
            forget_eldest(known.on_device, REMEMBERED)
            known.on_device[key] = (self._generation, slot)

    def _slot(self, known: Differences, key: tuple[object, ...]) -> tuple[int, bool]:
        """The row for a key, and whether it is new."""
        generation, slot = known.on_device.get(key, (-1, -1))
        if generation == self._generation:
            return slot, False
        self.used += 1
        self._new.append((known, key, self.used - 1))
        return self.used - 1, True


def _named(what: Choice | int) -> tuple[object, ...]:
    return (what,) if isinstance(what, int) else (what.kind, what.chance, what.key)


def _address(counters: Tensor | None) -> int:
    return 0 if counters is None else counters.data_ptr()
