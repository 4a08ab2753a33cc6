"""Greedy answers to a batch of prompts: shared prefixes are read once, finished rows leave the batch.

Gives, up to rounding, the tokens of `transformers.generate(do_sample=False)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from vlmerge.errors import CandidateFailure
from vlmerge.runtime.cache import RoomyCache

FEWER = 0.8
"""Finished rows leave once the living are fewer than this share of the batch; leaving costs a copy of the cache."""


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
def greedy(decoder: Decoder, prefixes: Sequence[Tensor], rows: Sequence[Row], max_new_tokens: int) -> list[Written]:
    """Answers one batch.

    Args:
        decoder: The live decoder.
        prefixes: Embedded prefixes, each [tokens, hidden].
        rows: The prompts. Either all or none of them have a prefix.
        max_new_tokens: Longest answer.

    Raises:
        CandidateFailure: The logits are not finite.
    """
    reading = _read_prompts(decoder, prefixes, rows)
    following, finite = choose(decoder, reading.hidden)
    written: list[list[int]] = [[] for _ in rows]
    ended = [False] * len(rows)
    places = list(range(len(rows)))
    for step in range(max_new_tokens):
        tokens = cast("list[int]", following.tolist())  # pyright: ignore[reportUnknownMemberType] - torch leaves it open
        for row, token in zip(places, tokens, strict=True):
            if token in decoder.ends:
                ended[row] = True
            elif not ended[row]:
                written[row].append(token)
        going = [place for place, row in enumerate(places) if not ended[row]]
        if not going or step == max_new_tokens - 1:
            break
        if len(going) < FEWER * len(places):
            keep = torch.tensor(going, device=decoder.device)
            reading.keep(keep)
            following = following[keep]
            places = [places[place] for place in going]
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

    def keep(self, rows: Tensor) -> None:
        """Lets the other rows leave."""
        self.cache.select(rows)
        self.valid, self.position = self.valid[rows], self.position[rows]


def _read_prompts(decoder: Decoder, prefixes: Sequence[Tensor], rows: Sequence[Row]) -> _Reading:
    cache = RoomyCache(decoder.layers)
    device = decoder.device
    if prefixes:
        valid, position = _read(decoder, cache, _padded(prefixes), None, None)[1:]
        owners = torch.tensor([row.prefix for row in rows], device=device)
        cache.select(owners)
        valid, position = valid[owners], position[owners]
    else:
        valid, position = None, None
    longest = max(len(row.suffix) for row in rows)
    ids = torch.tensor([[0] * (longest - len(row.suffix)) + list(row.suffix) for row in rows], device=device)
    lengths = torch.tensor([len(row.suffix) for row in rows], device=device)
    present = torch.arange(longest, device=device) >= (longest - lengths)[:, None]
    hidden, valid, position = _read(decoder, cache, (decoder.embed(ids), present), valid, position)
    return _Reading(cache, valid, position, hidden)


def _padded(prefixes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    longest = max(len(prefix) for prefix in prefixes)
    embeddings = prefixes[0].new_zeros((len(prefixes), longest, prefixes[0].shape[-1]))
    present = torch.zeros((len(prefixes), longest), dtype=torch.bool, device=embeddings.device)
    for row, prefix in enumerate(prefixes):
        embeddings[row, longest - len(prefix) :] = prefix
        present[row, longest - len(prefix) :] = True
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
