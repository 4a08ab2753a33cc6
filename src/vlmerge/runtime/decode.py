"""Greedy answers to a batch of prompts: shared prefixes are read once, finished rows leave the batch.

Gives, up to rounding, the tokens of `transformers.generate(do_sample=False)`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from vlmerge.errors import CandidateFailure
from vlmerge.runtime.cache import ROOM, LastLayerRead, RoomyCache

FEWER = 0.8
"""Finished rows leave once the living are fewer than this share of the batch: others are copied into their places."""
TOKENS_AT_ONCE = 2048
"""Tokens of prompts that a CPU reads together: enough to keep it busy, few enough for its caches."""


Enough = Callable[[Sequence[int]], bool]
"""Whether an answer, as token ids, is long enough: one of the texts that stop it has come."""


@dataclass(frozen=True)
class Row:
    """A prompt in two parts.

    Attributes:
        prefix: Key of the part it shares with other rows (system text and pictures), or None.
        suffix: Token ids of the rest.
    """

    prefix: int | None
    suffix: tuple[int, ...]


@dataclass(frozen=True)
class Decoder:
    """What decoding needs of a live model.

    Attributes:
        body: The decoder without its head: embeddings [rows, tokens, hidden] → hidden states of the same shape.
        head: Hidden states → logits over the vocabulary.
        embed: Token ids → embeddings.
        layers: Number of decoder layers.
        ends: Token ids that end an answer.
        device: Where it runs.
    """

    body: Any
    head: Callable[[Tensor], Tensor]
    embed: Callable[[Tensor], Tensor]
    layers: int
    ends: tuple[int, ...]
    device: torch.device


@dataclass(frozen=True)
class Written:
    """One answer: its token ids without the end token, and whether the end token came before the limit."""

    ids: tuple[int, ...]
    ended: bool


@torch.inference_mode()
def greedy(
    decoder: Decoder, prefixes: Sequence[Tensor], rows: Sequence[Row], max_new_tokens: int, enough: Enough | None = None
) -> list[Written]:
    """Answers one batch.

    Args:
        decoder: The live decoder.
        prefixes: Embedded prefixes, each [tokens, hidden].
        rows: The prompts. Either all or none of them have a prefix.
        max_new_tokens: Longest answer.
        enough: Whether what a row has written so far suffices, though no end token came; it may have written a little more.

    Raises:
        CandidateFailure: The logits are not finite.
    """
    # Rows with the same prefix are read together.
    places = sorted(range(len(rows)), key=lambda row: rows[row].prefix or 0)
    reading = _read_prompts(decoder, prefixes, [rows[row] for row in places])
    following, finite = choose(decoder, reading.hidden)
    written: list[list[int]] = [[] for _ in rows]
    ended = [False] * len(rows)
    for step in range(max_new_tokens):
        tokens = cast("list[int]", following.tolist())  # pyright: ignore[reportUnknownMemberType] - torch leaves it open
        for row, token in zip(places, tokens, strict=True):
            if token in decoder.ends:
                ended[row] = True
            elif not ended[row]:
                written[row].append(token)
                ended[row] = enough is not None and enough(written[row])
        going = [place for place, row in enumerate(places) if not ended[row]]
        if not going or step == max_new_tokens - 1:
            break
        if len(going) < FEWER * len(places):
            order = reading.leave(going)
            following = following[torch.tensor(order, device=decoder.device)]
            places = [places[place] for place in order]
        following, still_finite = choose(decoder, reading.step(decoder, following))
        finite = finite & still_finite
    # Looked at once at the end: asking a GPU at every step would make it wait.
    if not bool(finite):
        raise CandidateFailure("the logits are not finite")
    return [Written(tuple(ids), end) for ids, end in zip(written, ended, strict=True)]


def choose(decoder: Decoder, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest token of each row [rows], and whether all logits are finite (a flag on the device)."""
    logits = decoder.head(hidden)
    return logits.argmax(-1), torch.isfinite(logits.amax()) & ~logits.isnan().any()


@dataclass
class _Reading:
    """A batch that has been read up to some position: its cache, which of its positions count, and the next position."""

    cache: RoomyCache
    valid: Tensor
    position: Tensor
    hidden: Tensor

    def step(self, decoder: Decoder, tokens: Tensor) -> Tensor:
        """Reads one more token of each row; gives hidden states [rows, hidden]."""
        self.valid = torch.cat([self.valid, self.valid.new_ones((len(tokens), 1))], 1)
        output = decoder.body(
            inputs_embeds=decoder.embed(tokens)[:, None],
            attention_mask=self.valid[:, None, None, :],
            position_ids=self.position[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.position = self.position + 1
        return output.last_hidden_state[:, -1]

    def leave(self, going: Sequence[int]) -> list[int]:
        """Lets the other rows leave; gives the former places of those that stay, in the order that they now have."""
        device, left = self.valid.device, len(going)
        staying = set(going)
        holes = [place for place in range(left) if place not in staying]
        movers = [place for place in going if place >= left]
        places = torch.tensor([holes, movers], dtype=torch.long, device=device)  # Empty ones would be float.
        self.cache.leave(left, places[0], places[1])
        order = list(range(left))
        for hole, mover in zip(holes, movers, strict=True):
            order[hole] = mover
        kept = torch.tensor(order, device=device)
        self.valid, self.position = self.valid[kept], self.position[kept]
        return order


def _read_prompts(decoder: Decoder, prefixes: Sequence[Tensor], rows: Sequence[Row]) -> _Reading:
    """Reads prompts part by part into one cache, in which all are padded on the left to the longest."""
    before = max((len(prefix) for prefix in prefixes), default=0)
    longest = max(len(row.suffix) for row in rows)
    cache = RoomyCache(decoder.layers, len(rows), before + longest + ROOM)
    read: list[tuple[Tensor, Tensor, Tensor]] = []
    for window in _parts(rows, before, longest, TOKENS_AT_ONCE if decoder.device.type == "cpu" else None):
        part = rows[window]
        cache.begin(window)
        valid, position = None, None
        if prefixes:
            needed = {prefix: place for place, prefix in enumerate(dict.fromkeys(row.prefix for row in part))}
            # Nobody asks what follows a prefix: the last layer's attention and MLP need not be reckoned.
            shared = RoomyCache(decoder.layers, len(needed), before, suffices=True)
            embeddings, valid = _padded([prefixes[prefix] for prefix in needed if prefix is not None], before)
            with contextlib.suppress(LastLayerRead):
                _read(decoder, shared, (embeddings, valid), None, None)
            position = valid.sum(1)
            owners = torch.tensor([needed[row.prefix] for row in part], device=decoder.device)
            cache.spread(shared, owners)
            valid, position = valid[owners], position[owners]
        suffixes = [decoder.embed(torch.tensor(row.suffix, device=decoder.device)) for row in part]
        read.append(_read(decoder, cache, _padded(suffixes, longest), valid, position))
    cache.whole()
    hidden, valid, position = (torch.cat(each) for each in zip(*read, strict=True))
    return _Reading(cache, valid, position, hidden)


def _parts(rows: Sequence[Row], before: int, longest: int, at_once: int | None) -> list[slice]:
    """Rows that are read together: about as many tokens as are given, and all that share a prefix. None: all rows."""
    starts, tokens = [0], 0
    for place, row in enumerate(rows):
        new = row.prefix is None or place == 0 or row.prefix != rows[place - 1].prefix
        cost = longest + (before if new else 0)
        if at_once is not None and new and tokens and tokens + cost > at_once:
            starts.append(place)
            tokens = 0
        tokens += cost
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)]


def _padded(rows: Sequence[Tensor], longest: int) -> tuple[Tensor, Tensor]:
    """Embedded tokens, each [tokens, hidden], padded on the left to [rows, longest, hidden]; and which are there."""
    embeddings = rows[0].new_zeros((len(rows), longest, rows[0].shape[-1]))
    present = torch.zeros((len(rows), longest), dtype=torch.bool, device=embeddings.device)
    for place, row in enumerate(rows):
        embeddings[place, longest - len(row) :] = row
        present[place, longest - len(row) :] = True
    return embeddings, present


def _read(
    decoder: Decoder, cache: RoomyCache, block: tuple[Tensor, Tensor], valid: Tensor | None, position: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Reads a left-padded block [rows, tokens, hidden] after what the cache holds.

    Returns:
        Hidden states of the last token [rows, hidden]; which positions of the cache count [rows, positions]; the rows' next
        positions [rows].
    """
    embeddings, present = block
    past = 0 if valid is None else valid.shape[1]
    start = torch.zeros(len(present), dtype=torch.long, device=present.device) if position is None else position
    positions = (start[:, None] + present.cumsum(1) - 1).clamp(min=0)
    seen = present if valid is None else torch.cat([valid, present], 1)
    tokens = present.shape[1]
    causal = torch.ones((tokens, past + tokens), dtype=torch.bool, device=present.device).tril(past)
    # Padding attends to itself: a row of a softmax that is masked everywhere would be NaN.
    itself = torch.eye(tokens, past + tokens, dtype=torch.bool, device=present.device).roll(past, 1)
    mask = (causal & seen[:, None, :]) | itself
    output = decoder.body(
        inputs_embeds=embeddings,
        attention_mask=mask[:, None],
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    )
    return output.last_hidden_state[:, -1], seen, start + present.sum(1)
