"""A key-value cache that grows by writing into room it already has, so that a step copies one token and not the past."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

ROOM = 32
"""Positions added at once when a layer runs out of room."""


class RoomyLayer(DynamicLayer):
    """One decoder layer's cache: `keys` and `values`, [rows, heads, positions, head size], are views into larger buffers."""

    def __init__(self) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] - transformers leaves it open
        self._buffers: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Appends new positions and returns everything up to them."""
        past = self._past() if self.is_initialized else (key_states[:, :, :0], value_states[:, :, :0])
        self.is_initialized = True
        self.dtype, self.device = key_states.dtype, key_states.device
        used = past[0].shape[2]
        total = used + key_states.shape[2]
        if not self._buffers or self._buffers[0].shape[2] < total:
            self._buffers = [_roomy(old, len(old), total) for old in past]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, used:total] = new
        self.keys, self.values = (buffer[:, :, :total] for buffer in self._buffers)
        return self._past()

    def select(self, rows: Tensor) -> None:
        """Keeps (and repeats, if asked) the given rows, with room for what follows."""
        past = self._past()
        used = past[0].shape[2]
        self._buffers = [_roomy(old[rows], len(rows), used) for old in past]
        self.keys, self.values = (buffer[:, :, :used] for buffer in self._buffers)

    def _past(self) -> tuple[Tensor, Tensor]:
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values


class RoomyCache(Cache):
    """A cache of RoomyLayers, one for each decoder layer."""

    def __init__(self, layers: int) -> None:
        self._roomy = [RoomyLayer() for _ in range(layers)]
        super().__init__(layers=list(self._roomy))

    def select(self, rows: Tensor) -> None:
        """Keeps (and repeats) the given rows, an int64 tensor of row numbers, in every layer."""
        for layer in self._roomy:
            layer.select(rows)


def _roomy(past: Tensor, rows: int, positions: int) -> Tensor:
    """A buffer that begins with the past, and has room beyond `positions`."""
    buffer = past.new_empty((rows, past.shape[1], positions + ROOM, past.shape[3]))
    buffer[:, :, : past.shape[2]] = past
    return buffer
