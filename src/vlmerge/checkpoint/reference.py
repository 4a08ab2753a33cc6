"""From the name of a model to its checkpoint: a folder, the hub's cache, or the hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from vlmerge.checkpoint import hub, hub_adapters
from vlmerge.checkpoint.adapter_files import AdapterFiles, open_adapter
from vlmerge.checkpoint.hub import RemoteCheckpoint
from vlmerge.checkpoint.hub_errors import no_such_folder
from vlmerge.checkpoint.progress import Progress
from vlmerge.checkpoint.reader import Checkpoint, open_checkpoint
from vlmerge.errors import CheckpointError

if TYPE_CHECKING:
    from vlmerge.config.model_ref import ModelRef

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


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
        ref: The model, perhaps with a revision (branch, tag or commit), without an adapter.
        headers_only: Read configs, tokenizer and tensor shapes, never weights. A model that is whole in the cache is opened
            from there.
        cached_only: Never ask the network; for models that a run has already pinned and downloaded.
        progress: Told of the bytes downloaded.

    Raises:
        CheckpointError: Not found, gated, offline, no room on the disk, incomplete, unsafe.
    """
    from huggingface_hub import is_offline_mode

    if ref.adapter is not None:
        raise ValueError("a model with an adapter is opened by adapters.open_model")
    folder = _folder(ref)
    if folder is not None:
        return open_checkpoint(folder, ref)
    if cached_only or is_offline_mode():
        return hub.open_cached(ref)
    return hub.fetch(ref, headers_only=headers_only, progress=progress)


def resolve_adapter(
    ref: ModelRef, *, headers_only: bool = False, cached_only: bool = False, progress: Progress | None = None
) -> AdapterFiles:
    """Finds an adapter, as `resolve` finds a model; with `headers_only` its weights may be absent (`is_here`).

    Raises:
        CheckpointError: Not found, gated, offline, no room on the disk, incomplete, unsafe.
    """
    from huggingface_hub import is_offline_mode

    folder = _folder(ref)
    if folder is not None:
        return open_adapter(folder, ref)
    if cached_only or is_offline_mode():
        return hub_adapters.open_cached_adapter(ref)
    return hub_adapters.fetch_adapter(ref, headers_only=headers_only, progress=progress)


def _folder(ref: ModelRef) -> Path | None:
    """The folder that is meant; None for a hub id."""
    folder = Path(ref.path).expanduser()
    if folder.is_dir():
        if ref.revision is not None:
            raise CheckpointError(
                "a folder has no revisions",
                where=str(ref),
                expected="a hub id, or the folder's name alone",
                found=f"the folder {folder}",
                remedy="leave `@revision` out, or rename the folder if the hub's model is meant",
            )
        return folder
    if not _HUB_ID.fullmatch(ref.path):
        raise no_such_folder(ref)
    return None
