"""A key-value cache with room: a step writes one token where it belongs and copies nothing of the past.

Rows can be read in parts (each a window of the whole), and finished rows leave by letting the last ones take their places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

ROOM = 64
"""Positions added at once when a layer runs out of room."""


class LastLayerRead(Exception):  # noqa: N818 - not an error: it ends a forward pass of which nothing more is wanted
    """The last layer's keys and values are in the cache."""


class RoomyLayer(DynamicLayer):
    """One decoder layer's cache: `keys` and `values`, [rows, heads, positions, head size], are views into larger buffers.

    Args:
        rows: Rows of the whole.
        positions: Positions that there will be room for at first.
        suffices: Whether nothing after this layer's keys and values is wanted.
    """

    def __init__(self, rows: int, positions: int, suffices: bool) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] - transformers leaves it open
        self._suffices = suffices
        self._rows, self._positions = rows, positions
        self._window = slice(0, rows)
        self._used = 0
        self._buffers: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Appends new positions to the window's rows and returns everything up to them.

        Raises:
            LastLayerRead: They suffice.
        """
        appended = self._append(key_states, value_states)
        if self._suffices:
            raise LastLayerRead
        return appended

    def begin(self, window: slice) -> None:
        """Lets what follows read and write these rows alone, from their first position on."""
        self._window, self._used, self.is_initialized = window, 0, False

    def spread(self, prefixes: RoomyLayer, owners: Tensor) -> None:
        """Begins the window's rows with a copy of the prefix that each has."""
        assert prefixes.keys is not None
        assert prefixes.values is not None
        self._append(prefixes.keys[owners], prefixes.values[owners])

    def whole(self) -> None:
        """Lets what follows read and write all rows."""
        self._window = slice(0, self._rows)
        self._show()

    def leave(self, left: int, holes: Tensor, movers: Tensor) -> None:
        """Keeps the first `left` rows, after the movers from behind them have filled the holes among them."""
        for buffer in self._buffers:
            buffer[holes, :, : self._used] = buffer[movers, :, : self._used]
        self._buffers = [buffer[:left] for buffer in self._buffers]
        self._rows = left
        self.whole()

    def _append(self, *states: Tensor) -> tuple[Tensor, Tensor]:
        self.dtype, self.device, self.is_initialized = states[0].dtype, states[0].device, True
        total = self._used + states[0].shape[2]
        if not self._buffers or self._buffers[0].shape[2] < total:
            self._make_room(total, states)
        for buffer, new in zip(self._buffers, states, strict=True):
            buffer[self._window, :, self._used : total] = new
        self._used = total
        return self._show()

    def _make_room(self, positions: int, states: Sequence[Tensor]) -> None:
        self._positions = self._positions if positions <= self._positions else positions + ROOM
        past = self._buffers
        self._buffers = [new.new_empty((self._rows, new.shape[1], self._positions, new.shape[3])) for new in states]
        for buffer, old in zip(self._buffers, past, strict=False):
            buffer[:, :, : self._used] = old[:, :, : self._used]

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = (buffer[self._window, :, : self._used] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values


class RoomyCache(Cache):
    """A cache of RoomyLayers, one for each decoder layer, all of which do what one does.

    Args:
        layers: Decoder layers.
        rows: Rows of the whole.
        positions: Positions that there will be room for at first.
        suffices: Whether only keys and values are wanted: a forward pass then ends with `LastLayerRead` where those are.
    """

    def __init__(self, layers: int, rows: int, positions: int, *, suffices: bool = False) -> None:
        self._roomy = [RoomyLayer(rows, positions, suffices and layer == layers - 1) for layer in range(layers)]
        super().__init__(layers=list(self._roomy))

    def begin(self, window: slice) -> None:
        """Lets what follows read and write these rows alone, from their first position on."""
        for layer in self._roomy:
            layer.begin(window)

    def spread(self, prefixes: RoomyCache, owners: Tensor) -> None:
        """Begins the window's rows with the prefixes that are theirs: `owners`, int64, the prefix of each row."""
        for layer, read in zip(self._roomy, prefixes._roomy, strict=True):
            layer.spread(read, owners)

    def whole(self) -> None:
        """Lets what follows read and write all rows, which all have as many positions."""
        for layer in self._roomy:
            layer.whole()

    def leave(self, left: int, holes: Tensor, movers: Tensor) -> None:
        """Keeps the first `left` rows, after the movers from behind them have filled the holes among them (int64, as many)."""
        for layer in self._roomy:
            layer.leave(left, holes, movers)
