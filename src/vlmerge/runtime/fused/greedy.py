"""Greedy answers by the fused decoder: prompts without padding, CUDA graphs for the steps, finished rows leave the batch.

Gives what `runtime.decode.greedy` gives, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from vlmerge.errors import CandidateFailure
from vlmerge.methods.remembered import forget_eldest
from vlmerge.runtime.decode import Decoder, Enough, Row, Written, choose
from vlmerge.runtime.fused.forward import Cells, forward
from vlmerge.runtime.fused.prompts import Layout, Packed, Plan, plan
from vlmerge.runtime.fused.shapes import Blocks
from vlmerge.runtime.fused.weights import Weights

LOOK_AFTER = 4
"""Steps between looks at what was written: a look makes the GPU wait for the host."""
PLANS = 1024
"""Batches that are remembered: a search set of as many questions even where one is asked at a time."""
SIZES = (1, 2, 4, 8, 16, 24, 32, 40, 50, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Batch sizes that a graph is made for; a larger batch has its own."""


class FusedDecoder:
    """A decoder with its cache and graphs; both last as long as the weights stay where they are in memory."""

    def __init__(self, decoder: Decoder, weights: Weights, tile: int, read_at_once: int) -> None:
        self._decoder = decoder
        self._weights = weights
        self._tile = tile
        self._read_at_once = read_at_once
        self._cells: Cells | None = None
        self._steps: _Steps | None = None
        self._plans: dict[tuple[object, ...], Plan] = {}

    @torch.inference_mode()
    def greedy(
        self, prefixes: Sequence[Tensor], rows: Sequence[Row], max_new_tokens: int, enough: Enough | None = None
    ) -> list[Written]:
        """Answers one batch; see `runtime.decode.greedy`."""
        batch = self._plan(tuple(len(prefix) for prefix in prefixes), tuple(rows), max_new_tokens)
        cells = self._room(batch.layout)
        steps = self._steps_for(cells, len(rows), max_new_tokens)
        hidden = self._read(batch, cells, prefixes)
        return steps.write(batch, hidden, max_new_tokens, enough)

    def give_back(self) -> None:
        """Frees the cache and the graphs, which hold on to it; the next batch makes new ones."""
        self._cells = self._steps = None
        self._plans.clear()

    def _plan(self, lengths: tuple[int, ...], rows: tuple[Row, ...], max_new_tokens: int) -> Plan:
        key = (lengths, rows, max_new_tokens)
        if key not in self._plans:
            forget_eldest(self._plans, PLANS)
            self._plans[key] = plan(lengths, rows, max_new_tokens, self._tile, self._read_at_once, self._decoder.device)
        return self._plans[key]

    def _room(self, layout: Layout) -> Cells:
        held = self._cells
        if held is None or held.count < layout.cells or held.positions < layout.positions:
            count = max(layout.cells, 0 if held is None else held.count)
            positions = max(layout.positions, 0 if held is None else held.positions)
            # Graphs hold on to the old cells: both go before the new ones come.
            self._cells = self._steps = held = None
            self._cells = held = Cells.empty(self._weights, count, positions)
        return held

    def _steps_for(self, cells: Cells, rows: int, max_new_tokens: int) -> _Steps:
        steps = self._steps
        if steps is None or steps.rows < rows or steps.room < max_new_tokens:
            room = max(max_new_tokens, 0 if steps is None else steps.room)
            self._steps = steps = None
            held = min((size for size in SIZES if size >= rows), default=rows)
            self._steps = steps = _Steps(self._decoder, self._weights, cells, held, room)
        return steps

    def _read(self, batch: Plan, cells: Cells, prefixes: Sequence[Tensor]) -> Tensor:
        """Reads all prompts; gives the hidden state [rows, hidden] that each row's first token comes from."""
        out = self._weights.norm.new_empty((batch.spans.shape[1], len(self._weights.norm)))
        for packed in batch.portions:
            hidden = self._forward(self._embedded(packed, prefixes), packed, cells)
            if len(packed.owners):
                out.index_copy_(0, packed.owners, hidden)
        return out

    def _forward(self, embedded: Tensor, packed: Packed, cells: Cells) -> Tensor:
        # A shared prefix alone asks for no hidden states; kernels want at least one.
        wanted = packed.last if len(packed.last) else packed.last.new_zeros(1)
        return forward(self._weights, embedded, packed.positions, packed.cells, packed.blocks, cells, wanted)

    def _embedded(self, packed: Packed, prefixes: Sequence[Tensor]) -> Tensor:
        suffixes = self._decoder.embed(packed.ids)
        parts: list[Tensor] = []
        start = 0
        for each in packed.sequences:
            if each.prefix is not None:
                parts.append(prefixes[each.prefix])
            parts.append(suffixes[start : start + len(each.suffix)])
            start += len(each.suffix)
        return torch.cat(parts)


class _Steps:
    """Up to `room` tokens for up to `rows` rows, state and graphs at fixed addresses."""

    def __init__(self, decoder: Decoder, weights: Weights, cells: Cells, rows: int, room: int) -> None:
        self._decoder = decoder
        self._weights = weights
        self._cells = cells
        self.rows = rows
        self.room = room
        device = decoder.device
        # State: token; first cell and number of what is seen whole; first cell of the row's own room; cells used there.
        self._state = torch.zeros((5, rows), dtype=torch.long, device=device)
        self._written = torch.zeros((rows, room), dtype=torch.long, device=device)
        self._at = torch.zeros(1, dtype=torch.long, device=device)
        self._finite = torch.ones((), dtype=torch.bool, device=device)
        self._numbers = torch.arange(rows, device=device)
        self._ones = torch.ones(rows, dtype=torch.long, device=device)
        self._graphs: dict[int, Callable[[], None]] = {}
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def write(self, batch: Plan, hidden: Tensor, max_new_tokens: int, enough: Enough | None = None) -> list[Written]:
        """Writes all answers of a batch from the hidden states that its prompts end with."""
        layout, count = batch.layout, len(hidden)
        size = self._size(count)
        self._step(size)  # Made now: making it runs it, on whatever the state holds.
        self._state.zero_()
        self._state[3] = layout.spare
        self._state[1:, :count] = batch.spans
        self._finite.fill_(True)
        self._at.zero_()
        self._choose(hidden, count)
        written: list[list[int]] = [[] for _ in range(count)]
        ended = [False] * count
        places = list(range(count))
        looked = 0
        for done in range(1, max_new_tokens + 1):
            if done % LOOK_AFTER == 0 or done == max_new_tokens:
                going = self._look(looked, done, places, written, ended, enough)
                looked = done
                if not going or done == max_new_tokens:
                    break
                if self._size(len(going)) < size:
                    size = self._size(len(going))
                    self._keep(going, size, layout.spare)
                    places = [places[place] for place in going]
            self._step(size)()
        if not bool(self._finite):
            raise CandidateFailure("the logits are not finite")
        return [Written(tuple(ids), end) for ids, end in zip(written, ended, strict=True)]

    # ── inside ──

    def _size(self, rows: int) -> int:
        # Of the list alone: which batches came before must not decide how a batch is reckoned.
        return min((size for size in SIZES if size >= rows), default=self.rows)

    def _look(
        self,
        since: int,
        until: int,
        places: list[int],
        written: list[list[int]],
        ended: list[bool],
        enough: Enough | None,
    ) -> list[int]:
        """Takes down what was written; gives the places that go on."""
        tokens = cast("list[list[int]]", self._written[: len(places), since:until].tolist())  # pyright: ignore[reportUnknownMemberType] - torch leaves it open
        for row, line in zip(places, tokens, strict=True):
            for token in line:
                if ended[row]:
                    break
                if token in self._decoder.ends:
                    ended[row] = True
                else:
                    written[row].append(token)
                    ended[row] = enough is not None and enough(written[row])
        return [place for place, row in enumerate(places) if not ended[row]]

    def _keep(self, going: list[int], size: int, spare: int) -> None:
        """Moves the rows that go on to the front; their cells stay where they are."""
        kept = self._state[:, torch.tensor(going, device=self._state.device)]
        saved_at, saved_finite = self._at.clone(), self._finite.clone()
        self._step(size)
        self._state.zero_()
        self._state[3] = spare
        self._state[:, : len(going)] = kept
        self._at.copy_(saved_at)
        self._finite.copy_(saved_finite)

    def _step(self, size: int) -> Callable[[], None]:
        """A step for the first `size` rows; on a GPU a graph. Making one spoils the state."""
        if size not in self._graphs:
            self._graphs[size] = self._record(size)
        return self._graphs[size]

    def _record(self, size: int) -> Callable[[], None]:
        self._state.zero_()
        # What is run here writes one token's keys and values: into the last cell, which no prompt and no row has.
        self._state[3] = self._cells.count - 1
        self._at.zero_()
        if self._pool is None:
            self._run(size)
            return lambda: self._run(size)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._run(size)  # Kernels are compiled and chosen before they are recorded.
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            self._run(size)
        return graph.replay

    def _run(self, size: int) -> None:
        tokens, start1, length1, start2, used = self._state[:, :size].unbind()
        blocks = Blocks(self._numbers[:size], self._ones[:size], start1, length1, start2, used + 1, tile=1)
        embedded = self._decoder.embed(tokens)
        hidden = forward(self._weights, embedded, length1 + used, start2 + used, blocks, self._cells)
        used.add_(1)
        self._choose(hidden, size)

    def _choose(self, hidden: Tensor, size: int) -> None:
        chosen, finite = choose(self._decoder, hidden)
        self._finite.logical_and_(finite)
        self._state[0, :size] = chosen
        self._written[:size].index_copy_(1, self._at, chosen[:, None])
        self._at.add_(1)
