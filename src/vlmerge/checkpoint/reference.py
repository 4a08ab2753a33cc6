"""From the name of a model to its checkpoint: a folder, the hub's cache, or the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from vlmerge.checkpoint.hub import RemoteCheckpoint
from vlmerge.checkpoint.progress import Progress
from vlmerge.checkpoint.reader import Checkpoint

if TYPE_CHECKING:
    from vlmerge.config.model_ref import ModelRef


@overload
def resolve(
    ref: ModelRef, *, headers_only: Literal[False] = False, cached_only: bool = False, progress: Progress | None = None
) -> Checkpoint: ...
@overload
def resolve(
    ref: ModelRef, *, headers_only: bool, cached_only: bool = False, progress: Progress | None = None
) -> Checkpoint | RemoteCheckpoint: ...
def resolve(
    ref: ModelRef, *, headers_only: bool = False, cached_only: bool = False, progress: Progress | None = None
) -> Checkpoint | RemoteCheckpoint:
    """Finds a model: a folder that exists is local, anything else is a hub id.

    Args:
        ref: The model, perhaps with a revision (branch, tag or commit).
        headers_only: Read configs, tokenizer and tensor shapes, never weights. A model that is whole in the cache is opened from there.
        cached_only: Never ask the network; for models that a run has already pinned and downloaded.
        progress: Told of the bytes downloaded.

    Raises:
        CheckpointError: Not found, gated, offline, no room on the disk, incomplete, unsafe.
    """
    raise NotImplementedError
