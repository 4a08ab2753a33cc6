"""A key-value cache that grows by writing into room it already has, so that a step copies one token and not the past."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

ROOM = 32
"""Positions added at once when a layer runs out of room."""


class RoomyLayer(DynamicLayer):
    """One decoder layer's cache: `keys` and `values`, [rows, heads, positions, head size], are views into larger buffers."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Appends new positions and returns everything up to them."""
        if not self.is_initialized:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.is_initialized = True
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        used = self.keys.shape[2]
        total = used + key_states.shape[2]
        if self._buffers is None or self._buffers[0].shape[2] < total:
            self._buffers = (self._enlarged(self.keys, key_states, total), self._enlarged(self.values, value_states, total))
        keys, values = self._buffers
        keys[:, :, used:total] = key_states
        values[:, :, used:total] = value_states
        self.keys, self.values = keys[:, :, :total], values[:, :, :total]
        return self.keys, self.values

    def select(self, rows: Tensor) -> None:
        """Keeps (and repeats, if asked) the given rows, with room for what follows."""
        used = self.keys.shape[2]
        kept = []
        for past in (self.keys, self.values):
            buffer = past.new_empty((len(rows), past.shape[1], used + ROOM, past.shape[3]))
            buffer[:, :, :used] = past[rows]
            kept.append(buffer)
        self._buffers = (kept[0], kept[1])
        self.keys, self.values = kept[0][:, :, :used], kept[1][:, :, :used]

    @staticmethod
    def _enlarged(past: Tensor, new: Tensor, total: int) -> Tensor:
        buffer = new.new_empty((new.shape[0], new.shape[1], total + ROOM, new.shape[3]))
        buffer[:, :, : past.shape[2]] = past
        return buffer


class RoomyCache(Cache):
    """A cache of RoomyLayers, one for each decoder layer."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[RoomyLayer() for _ in range(layers)])

    def select(self, rows: Tensor) -> None:
        """Keeps (and repeats) the given rows, an int64 tensor of row numbers, in every layer."""
        for layer in self.layers:
            layer.select(rows)
