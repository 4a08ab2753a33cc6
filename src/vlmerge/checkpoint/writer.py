"""Writes a checkpoint as a stream: headers first, one tensor in memory at a time, beside the goal, renamed when whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.checkpoint.progress import Progress
from vlmerge.types import TensorInfo

if TYPE_CHECKING:
    import torch

MAX_SHARD_BYTES = 5_000_000_000


def write_checkpoint(
    out: Path,
    tensors: Sequence[TensorInfo],
    produce: Iterable[tuple[str, torch.Tensor]],
    *,
    config: Mapping[str, Any],
    side_files: Mapping[str, Path],
    texts: Mapping[str, str],
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress | None = None,
) -> None:
    """Writes a model folder that `transformers` loads; the same input gives the same bytes.

    Args:
        out: The folder to make; absent or empty.
        tensors: Name, dtype and shape of each tensor of the result (`shard` is not looked at).
        produce: (name, tensor) in the same order, on any device.
        config: Becomes config.json, keys in their order.
        side_files: Relative name → file whose contents are copied (`Checkpoint.side_files()`).
        texts: Relative name → contents of further files, e.g. README.md.
        max_shard_bytes: Above this the weights are split into shards with an index.
        progress: Told of the bytes written.

    Raises:
        CheckpointError: The folder is not empty, or the disk is too small. Nothing is left behind.
    """
    raise NotImplementedError
