"""Working memory of a merge: small, reused for every tensor, sized for the cache of the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

# 4 MiB in float32: long enough that two cores are worth waking (half as fast at an eighth of it), and still within the caches.
CPU_CHUNK = 1 << 20
# On a GPU the launch of a kernel costs as much as 4 MiB of traffic: longer chunks, still within its cache.
GPU_CHUNK = 1 << 22


class Scratch:
    """Buffers of one device. Not for use by two threads at once."""

    def __init__(self, device: torch.device | str = "cpu", chunk: int | None = None) -> None:
        self.device = torch.device(device)
        self.chunk = chunk or (CPU_CHUNK if self.device.type == "cpu" else GPU_CHUNK)
        self._buffers: dict[tuple[int, torch.dtype], Tensor] = {}
        self._indices: dict[int, tuple[NDArray[np.int64], Tensor]] = {}

    def buffer(self, number: int, dtype: torch.dtype, length: int) -> Tensor:
        """The first `length` (≤ chunk) elements of buffer `number`; contents are whatever was there."""
        key = (number, dtype)
        if key not in self._buffers:
            self._buffers[key] = torch.empty(self.chunk, dtype=dtype, device=self.device)
        return self._buffers[key][:length]

    def index(self, rows: NDArray[np.int64]) -> Tensor:
        """The rows as a tensor on the device; moved there once."""
        # The array is kept beside its tensor so that its id cannot come to mean another one.
        if id(rows) not in self._indices:
            self._indices[id(rows)] = (rows, torch.as_tensor(rows, device=self.device))
        return self._indices[id(rows)][1]

    def spans(self, length: int) -> Iterator[slice]:
        """Consecutive chunks of a flat tensor."""
        return spans(0, length, self.chunk)


def spans(start: int, end: int, step: int) -> Iterator[slice]:
    """Consecutive parts of a flat tensor between two places, `step` elements each but the last."""
    for begin in range(start, end, step):
        yield slice(begin, min(begin + step, end))


def work_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """float64 where any input has it, else float32: the precision of differences and sums."""
    return torch.float64 if torch.float64 in dtypes else torch.float32
