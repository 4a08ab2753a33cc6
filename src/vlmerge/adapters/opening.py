"""From the name of a model, perhaps with an adapter, to its checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, overload

from vlmerge.adapters.adapted import AdaptedShards
from vlmerge.adapters.changes import changes_of
from vlmerge.adapters.settings import read_settings
from vlmerge.checkpoint import Checkpoint, MergedAdapter, Progress, RemoteCheckpoint, resolve, resolve_adapter

if TYPE_CHECKING:
    from vlmerge.config.model_ref import ModelRef


@overload
def open_model(
    ref: ModelRef, *, headers_only: Literal[False] = False, cached_only: bool = False, progress: Progress | None = None
) -> Checkpoint: ...
@overload
def open_model(
    ref: ModelRef, *, headers_only: bool, cached_only: bool = False, progress: Progress | None = None
) -> Checkpoint | RemoteCheckpoint: ...
def open_model(
    ref: ModelRef, *, headers_only: bool = False, cached_only: bool = False, progress: Progress | None = None
) -> Checkpoint | RemoteCheckpoint:
    """Finds a model and its adapter, if it names one, and checks that they fit; arguments as `checkpoint.resolve` has them.

    With an adapter the checkpoint is the model's in all but this: tensors that the adapter changes are computed when they are
    read, `adapter` tells of it, and the fingerprint is over both. Config and tokenizer stay the model's.

    Raises:
        CheckpointError: Not found, gated, offline, no room on the disk, incomplete, unsafe.
        MismatchError: The adapter cannot be merged into the model exactly.
    """
    opened = resolve(ref.alone, headers_only=headers_only, cached_only=cached_only, progress=progress)
    if ref.adapter is None:
        return opened
    files = resolve_adapter(ref.adapter, headers_only=headers_only, cached_only=cached_only, progress=progress)
    settings = read_settings(files)
    changes = changes_of(files, settings, opened) if opened.tensors and files.tensors else None
    adapter = MergedAdapter(files, None if changes is None else frozenset(changes))
    if isinstance(opened, RemoteCheckpoint):
        return replace(opened, ref=ref, adapter=adapter)
    return replace(opened, ref=ref, adapter=adapter, _shards=AdaptedShards(opened, files, changes or {}))
