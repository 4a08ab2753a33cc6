"""The best approximation of lower rank of a difference between two matrices: the directions in which it is largest.

Eckart and Young 1936: of all matrices of rank k the projection of d on its k largest singular directions is nearest to d. Those
directions are the eigenvectors of d dᵀ (of dᵀ d where d is taller than wide). They are taken from products in float64, in which
float32 differences lose nothing, and what is kept is a projection of d itself: an error of the directions counts by its square.
Next to a decomposition of d in float32 that is more exact, and it costs a third of the time. Eigenvectors have no sign, nor
need they: it cancels in U Uᵀ d.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, cast

import torch

from vlmerge.errors import CandidateFailure
from vlmerge.methods.scratch import spans

if TYPE_CHECKING:
    from torch import Tensor

LINES = 1024
"""Rows or columns of a difference that are multiplied at once."""
DIRECTIONS = 128
"""Directions that a difference is projected on at once. Products always have this form, whatever the rank: its bits do not
depend on how many further directions are asked for."""
BLOCK = 1 << 22
"""Elements of a result that are computed at once, from a row's beginning: whoever asks for which part gets the same bits."""


class Factors(NamedTuple):
    """d ≈ leftᵀ · right, row-major: the first k rows of both are its approximation of rank k.

    Attributes:
        left: [k, rows of d].
        right: [k, columns of d].
    """

    left: Tensor
    right: Tensor


class Approximations:
    """What was found out about one tensor's differences: factors do not depend on weights, so that a run asks once.

    Of each source those of the largest rank are held, in the host's memory: on a card there is no room reckoned for them.
    """

    def __init__(self) -> None:
        self._held: dict[int, Factors] = {}

    def of(self, source: int, one: Tensor, base: Tensor, shape: tuple[int, ...], rank: int, work: torch.dtype) -> Factors:
        """Factors of the source of that number, on its device.

        Args:
            source: Its number among the inputs.
            one, base: Flat.
            shape: Rows and columns.
            rank: From 1 to less than the smaller of them.
            work: dtype of the factors.

        Raises:
            CandidateFailure: The difference is not finite.
        """
        held = self._held.get(source)
        if held is None or len(held.left) < rank:
            held = factors(one.view(shape), base.view(shape), rank, work)
            self._held[source] = Factors(held.left.cpu(), held.right.cpu())
        return Factors(held.left[:rank].to(one.device), held.right[:rank].to(one.device))


def rank_of(share: float, shape: tuple[int, ...]) -> int | None:
    """Directions that a share of them is: at least one, rounded down; None where the whole is kept, or nothing has directions.

    Args:
        share: Above 0, up to 1.
        shape: Of the tensor; empty for what is no matrix.
    """
    if len(shape) != 2 or share >= 1:
        return None
    count = max(1, int(share * min(shape)))
    return count if count < min(shape) else None


def factors(one: Tensor, base: Tensor, rank: int, work: torch.dtype) -> Factors:
    """The approximation of one - base of a rank, on the tensors' device.

    Args:
        one, base: [rows, columns].
        rank: From 1 to the smaller of them.
        work: dtype of the factors.

    Raises:
        CandidateFailure: The difference is not finite.
    """
    tall = one.shape[0] > one.shape[1]
    short, long, device = min(one.shape), max(one.shape), one.device

    def difference(span: slice) -> Tensor:
        """Columns of the wide difference (or of the tall one's transpose), float64 [short, …]."""
        part = (one[span], base[span]) if tall else (one[:, span], base[:, span])
        found = part[0].double() - part[1].double()
        return found.T if tall else found

    gram = torch.zeros((short, short), dtype=torch.float64, device=device)
    for span in spans(0, long, LINES):
        part = difference(span)
        gram.addmm_(part, part.T)
    if not torch.isfinite(gram).all():
        raise CandidateFailure("NaN or infinity in the difference from the base")
    with one_thread():
        vectors = cast("Tensor", torch.linalg.eigh(gram)[1])  # pyright: ignore[reportUnknownMemberType] - torch leaves it open
    del gram
    many = min(short, -(-rank // DIRECTIONS) * DIRECTIONS)
    directions = vectors[:, short - many :].flip(1).T.contiguous()
    del vectors
    lengths = torch.empty((many, long), dtype=work, device=device)
    for span in spans(0, long, LINES):
        part = difference(span)
        for some in spans(0, many, DIRECTIONS):
            lengths[some, span] = (directions[some] @ part).to(work)
    directions, lengths = directions[:rank].to(work), lengths[:rank].clone()
    return Factors(lengths, directions) if tall else Factors(directions, lengths)


@contextmanager
def one_thread() -> Generator[None]:
    """Eigenvectors differ in their last bits with the number of threads; and several hardly help."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Weighed:
    """Σ wᵢ · leftᵢᵀ · rightᵢ, block by block of whole rows.

    Args:
        parts: At least one; of one shape.
        weights: One each.
    """

    def __init__(self, parts: list[Factors], weights: list[float]) -> None:
        self._parts = parts
        self._weights = weights
        self._height, self._width = parts[0].left.shape[1], parts[0].right.shape[1]
        self._rows = max(1, BLOCK // self._width)
        self._number = -1
        self._last: Tensor | None = None

    def at(self, place: slice) -> Tensor:
        """A part of the flat sum, in memory of its own."""
        out = torch.empty(place.stop - place.start, dtype=self._parts[0].left.dtype, device=self._parts[0].left.device)
        size = self._rows * self._width
        for number in range(place.start // size, -(-place.stop // size)):
            begin, end = max(place.start, number * size), min(place.stop, (number + 1) * size)
            out[begin - place.start : end - place.start] = self._block(number)[begin - number * size : end - number * size]
        return out

    def _block(self, number: int) -> Tensor:
        """Flat; the last one is remembered, for parts are asked for one after another."""
        if self._last is None or self._number != number:
            self._last = None
            rows = slice(number * self._rows, min((number + 1) * self._rows, self._height))
            total: Tensor | None = None
            for (left, right), weight in zip(self._parts, self._weights, strict=True):
                if total is None:
                    total = torch.mm(left[:, rows].T, right).mul_(weight)
                else:
                    total.addmm_(left[:, rows].T, right, alpha=weight)
            assert total is not None
            self._number, self._last = number, total.view(-1)
        return self._last
