"""Where a batch's tokens go in the cache: prompts without padding one after the other, then each row's room for more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmerge.runtime.decode import Row
from vlmerge.runtime.fused.shapes import Blocks


@dataclass(frozen=True)
class Prompt:
    """Tokens that are read in one go.

    Attributes:
        prefix: Which embedded prefix it begins with, or None.
        suffix: Token ids after that.
        row: The row whose next token its last token gives; None for a prefix that several rows share.
        start: Its first cell.
        length: Its tokens.
        before: Cells that it sees whole: first one and number. They come before it in the row.
    """

    prefix: int | None
    suffix: tuple[int, ...]
    row: int | None
    start: int
    length: int
    before: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Layout:
    """A batch in the cache.

    Attributes:
        first: Shared prefixes, and prompts that share nothing; each sees itself alone.
        second: What follows a shared prefix.
        spans: For each row: first cell and number of what it sees whole, first cell of its own room, cells used there.
        cells: Cells in all, with the room of padding rows at the end.
        spare: First cell of the room of padding rows.
        positions: Highest position that may come, plus one.
    """

    first: tuple[Prompt, ...]
    second: tuple[Prompt, ...]
    spans: tuple[tuple[int, int, int, int], ...]
    cells: int
    spare: int
    positions: int


def lay_out(lengths: Sequence[int], rows: Sequence[Row], room: int) -> Layout:
    """Places a batch.

    Args:
        lengths: Tokens of each prefix.
        rows: The prompts.
        room: Tokens that may follow each.
    """
    users = Counter(row.prefix for row in rows if row.prefix is not None)
    first: list[Prompt] = []
    end = 0
    shared: dict[int, tuple[int, int]] = {}
    whole: dict[int, tuple[int, int]] = {}
    for number, row in enumerate(rows):
        # A row without a suffix needs the prefix's own last hidden state, and so a reading of its own.
        if row.prefix is not None and row.suffix and users[row.prefix] > 1:
            if row.prefix not in shared:
                shared[row.prefix] = (end, lengths[row.prefix])
                first.append(Prompt(row.prefix, (), None, end, lengths[row.prefix]))
                end += lengths[row.prefix]
            continue
        length = len(row.suffix) + (0 if row.prefix is None else lengths[row.prefix])
        whole[number] = (end, length)
        first.append(Prompt(row.prefix, row.suffix, number, end, length))
        end += length
    second: list[Prompt] = []
    spans: list[tuple[int, int, int, int]] = []
    for number, row in enumerate(rows):
        if number in whole:
            spans.append((*whole[number], end, 0))
            end += room
            continue
        assert row.prefix is not None
        before = shared[row.prefix]
        second.append(Prompt(None, row.suffix, number, end, len(row.suffix), before))
        spans.append((*before, end, len(row.suffix)))
        end += len(row.suffix) + room
    positions = max(length + used for _, length, _, used in spans) + room
    return Layout(tuple(first), tuple(second), tuple(spans), end + room, end, positions)


def portions(sequences: Sequence[Prompt], most: int) -> Iterator[list[Prompt]]:
    """Sequences in order, together at most that many tokens (or one that is longer)."""
    portion: list[Prompt] = []
    tokens = 0
    for each in sequences:
        if portion and tokens + each.length > most:
            yield portion
            portion, tokens = [], 0
        portion.append(each)
        tokens += each.length
    if portion:
        yield portion


@dataclass(frozen=True)
class Packed:
    """Tokens of several sequences one after the other, as the device is told of them.

    Attributes:
        sequences: Which.
        ids: Ids of the tokens that come after prefixes.
        positions, cells: Of each token, int64 [tokens].
        blocks: Who sees what.
        last: Last tokens of the sequences that belong to a row.
        owners: Those rows.
    """

    sequences: tuple[Prompt, ...]
    ids: Tensor
    positions: Tensor
    cells: Tensor
    blocks: Blocks
    last: Tensor
    owners: Tensor


def pack(portion: Sequence[Prompt], tile: int, device: torch.device) -> Packed:
    """Index tensors for reading sequences together; a tile has at most `tile` queries."""
    positions = torch.cat([torch.arange(each.before[1], each.before[1] + each.length) for each in portion])
    cells = torch.cat([torch.arange(each.start, each.start + each.length) for each in portion])
    tiles: list[tuple[int, int, int, int, int, int]] = []
    last: list[int] = []
    first = 0
    for each in portion:
        for begin in range(0, each.length, tile):
            count = min(tile, each.length - begin)
            tiles.append((first + begin, count, *each.before, each.start, begin + 1))
        first += each.length
        if each.row is not None:
            last.append(first - 1)
    columns = torch.tensor(tiles).T.contiguous().to(device)
    ids = [token for each in portion for token in each.suffix]
    owners = [each.row for each in portion if each.row is not None]
    return Packed(
        tuple(portion),
        torch.tensor(ids, dtype=torch.long, device=device),
        positions.to(device),
        cells.to(device),
        Blocks(*columns.unbind(), tile=tile),
        torch.tensor(last, dtype=torch.long, device=device),
        torch.tensor(owners, dtype=torch.long, device=device),
    )


@dataclass(frozen=True)
class Plan:
    """How a batch is read; the same questions have the same one for every candidate.

    Attributes:
        layout: Where its tokens go.
        portions: What is read together, in order.
        spans: The layout's, on the device: int64 [4, rows].
    """

    layout: Layout
    portions: tuple[Packed, ...]
    spans: Tensor


def plan(lengths: Sequence[int], rows: Sequence[Row], room: int, tile: int, most: int, device: torch.device) -> Plan:
    """Lays a batch out and packs it, at most `most` tokens together; the other arguments as for `lay_out` and `pack`."""
    layout = lay_out(lengths, rows, room)
    packed = [pack(portion, tile, device) for kind in (layout.first, layout.second) for portion in portions(kind, most)]
    return Plan(layout, tuple(packed), torch.tensor(layout.spans, device=device).T.contiguous())
