"""What the kernels are told about attention: its heads, and which queries look at which cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TILES = (128, 64, 32)
"""Rows of queries (times heads that share keys) in a tile of prompt attention: the first that a card has the room for."""


@dataclass(frozen=True)
class Heads:
    """Shape of attention: query heads, key-value heads, size of each."""

    queries: int
    keys: int
    size: int

    @property
    def group(self) -> int:
        """Query heads that share keys."""
        return self.queries // self.keys


@dataclass(frozen=True)
class Blocks:
    """Which queries look at which cells; one entry for each tile, int64 on the device.

    The queries of a tile are neighbours and belong to one row. They see a first span of cells whole; of a second one, which
    their own cells end, query number j sees `seen + j`.

    Attributes:
        first: First query of the tile.
        count: Queries in it.
        start1, length1: First span of cells.
        start2, seen: Second span.
        tile: Queries a tile has at most.
    """

    first: Tensor
    count: Tensor
    start1: Tensor
    length1: Tensor
    start2: Tensor
    seen: Tensor
    tile: int


def queries_per_tile(heads: Heads, tile: int) -> int:
    """Queries of one row that prompt attention takes together, in tiles of that many rows."""
    return max(1, tile // (1 << (heads.group - 1).bit_length()))
