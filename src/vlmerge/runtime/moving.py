"""Between host memory and the device: tensors that do not fit the device come when they are needed, beside its work."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

from vlmerge.methods import Scratch

SLAB = 1 << 30
"""Bytes of pinned memory that are taken at once: torch rounds each request up to a power of two."""
UNDER_WAY = 512 << 20
"""Bytes on the device that may wait for their kernels before the host waits, too."""


class PinnedMemory:
    """Host memory that a device reads by itself; plain memory where there is none."""

    def __init__(self) -> None:
        self._pins = torch.cuda.is_available()
        self._slab: Tensor | None = None
        self._used = 0

    def copy(self, tensor: Tensor) -> Tensor:
        """A copy there."""
        size = tensor.nbytes
        if self._slab is None or self._used + size > len(self._slab):
            self._slab = torch.empty(max(SLAB, size), dtype=torch.uint8, pin_memory=self._pins)
            self._used = 0
        room = self._slab[self._used : self._used + size].view(tensor.dtype).view(tensor.shape)
        self._used += -(-size // 64) * 64
        room.copy_(tensor)
        return room


class Mover:
    """Moves tensors to a device and results into its parameters, on a stream of its own where there are streams.

    Attributes:
        scratch: The host's buffers for merging beside the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._under_way: deque[tuple[Any, int]] = deque()
        self._since = 0
        self._rooms: list[Tensor | None] = [None, None]
        self._sent: list[Any] = [None, None]
        self._turn = 0
        self.scratch = Scratch()

    def bring(self, tensor: Tensor) -> Tensor:
        """A tensor of host memory, on the device; kernels that are launched after this find it there."""
        if self._stream is None:
            return tensor.to(self._device)
        with torch.cuda.stream(self._stream):
            moved = tensor.to(self._device, non_blocking=True)
        here = torch.cuda.current_stream(self._device)
        here.wait_stream(self._stream)
        moved.record_stream(here)
        self._since += moved.nbytes
        return moved

    def used(self) -> None:
        """All kernels that read what was brought are launched: waits until little enough of it is under way."""
        if self._stream is None or not self._since:
            return
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        self._under_way.append((event, self._since))
        self._since = 0
        while len(self._under_way) > 1 and sum(size for _, size in self._under_way) > UNDER_WAY:
            self._under_way.popleft()[0].synchronize()

    def room_for(self, count: int, dtype: torch.dtype) -> Tensor:
        """Host memory for `count` results. There are two such rooms, used in turns; what was sent from this one has left."""
        self._turn = 1 - self._turn
        if self._sent[self._turn] is not None:
            self._sent[self._turn].synchronize()
        size = count * dtype.itemsize
        room = self._rooms[self._turn]
        if room is None or len(room) < size:
            room = self._rooms[self._turn] = torch.empty(size, dtype=torch.uint8, pin_memory=self._stream is not None)
        return room[:size].view(dtype)

    def send(self, result: Tensor, parameter: Tensor) -> None:
        """Writes what is in the room that was asked for last into a parameter."""
        if self._stream is None or result.dtype != parameter.dtype:
            parameter.copy_(result)
            return
        # On the device's own stream: nothing that reads the parameter may still be under way.
        parameter.copy_(result, non_blocking=True)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._device))
        self._sent[self._turn] = event

    def finish(self) -> None:
        """Forgets what was under way; call it when the device is done."""
        self._under_way.clear()
        self._since = 0
