"""A tensor with its adapter merged in: W + scaling · B·A, in float32, rounded once to the dtype in which the model stores W.

peft rounds oftener: B·A to the adapter's dtype, scaled there, then the sum to the model's. Both are the same where all is
float32; in 16 bits they differ in the last places, and this is the nearer one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vlmerge.adapters.changes import Change
from vlmerge.checkpoint import AdapterFiles, Checkpoint
from vlmerge.types import TensorInfo

if TYPE_CHECKING:
    import torch

PART = 1 << 22
"""Elements that are computed at once. The same whatever the machine is, and so are the products."""


class AdaptedShards:
    """Weight files of a model, read with an adapter merged in. Holds no tensor: each reading computes it anew."""

    def __init__(self, base: Checkpoint, adapter: AdapterFiles, changes: Mapping[str, Change]) -> None:
        self._base, self._adapter, self._changes = base, adapter, changes

    def header(self, shard: str) -> tuple[TensorInfo, ...]:
        """Tensors of one file: the model's, whose shapes and dtypes an adapter does not change."""
        return tuple(info for info in self._base.tensors.values() if info.shard == shard)

    def read(self, info: TensorInfo) -> torch.Tensor:
        """One tensor on the CPU; a new one where the adapter changes it."""
        tensor = self._base.read(info.name)
        change = self._changes.get(info.name)
        return tensor if change is None else changed(tensor, change, self._adapter.read)


def changed(tensor: torch.Tensor, change: Change, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
    """Merges one change.

    Args:
        tensor: W, of any shape; not written into.
        change: What to do.
        read: Gives the adapter's tensors by name.

    Returns:
        A new contiguous tensor of W's shape and dtype.
    """
    import torch

    source = tensor if change.whole is None else read(change.whole)
    out = torch.empty(tensor.shape, dtype=tensor.dtype)
    if change.down is None or change.up is None:
        return out.copy_(source)
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    up, down = read(change.up).to(wide).flatten(1), read(change.down).to(wide).flatten(1)
    if change.by_rows:
        up, down = down.T, up.T
    lengths = None if change.magnitude is None else read(change.magnitude).to(wide).view(-1, 1)
    flat, result = source.flatten(1), out.view(out.shape[0], -1)
    rows = max(1, PART // max(1, result.shape[1]))
    for start in range(0, result.shape[0], rows):
        span = slice(start, start + rows)
        part = (up[span] @ down).mul_(change.scaling).add_(flat[span])
        if lengths is not None:
            part.mul_(lengths[span] / part.square().sum(dim=1, keepdim=True).sqrt_())
        result[span].copy_(part)
    return out
