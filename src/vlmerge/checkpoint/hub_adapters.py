"""Adapters on the hub and in its cache: small, so that a merge downloads them whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlmerge.checkpoint import layout
from vlmerge.checkpoint.adapter_files import AdapterFiles, adapter_weights, open_adapter, remote_adapter
from vlmerge.checkpoint.hub_errors import offline
from vlmerge.checkpoint.hub_repository import download_files, find_cached, look_up, remote_header
from vlmerge.errors import CheckpointError

if TYPE_CHECKING:
    from vlmerge.checkpoint.progress import Progress
    from vlmerge.config.model_ref import ModelRef


def open_cached_adapter(ref: ModelRef) -> AdapterFiles:
    """Opens an adapter that the hub's cache holds whole, without a network; raises CheckpointError if it does not."""
    snapshot = _find_complete(ref)
    if snapshot is None:
        raise offline(ref)
    return open_adapter(snapshot, ref, revision=snapshot.name)


def fetch_adapter(ref: ModelRef, *, headers_only: bool, progress: Progress | None) -> AdapterFiles:
    """Brings an adapter here, or its headers; one that is whole in the cache is used where the hub cannot be asked."""
    try:
        repository = look_up(ref, layout.ADAPTER_CONFIG)
    except CheckpointError:
        if (whole := _find_complete(ref)) is not None:
            return open_adapter(whole, ref, revision=whole.name)
        raise
    weights = adapter_weights(repository.sizes.keys(), str(ref))
    licences = [name for name in layout.side_file_names(repository.sizes) if name.startswith("LICEN")]
    download_files(repository, [*licences, *layout.card_file_names(repository.sizes)], progress)
    if headers_only and not all(repository.is_here(file) for file in weights):
        safe = all(file.endswith(".safetensors") for file in weights)
        headers = [remote_header(repository, file) for file in weights] if safe else None
        return remote_adapter(ref, repository.snapshot, {file: repository.sizes[file] for file in weights}, headers)
    download_files(repository, weights, progress)
    return open_adapter(repository.snapshot, ref, revision=repository.commit)


def _find_complete(ref: ModelRef) -> Path | None:
    """The folder of the cache that holds the adapter whole, or None."""
    snapshot = find_cached(ref, layout.ADAPTER_CONFIG)
    if snapshot is None:
        return None
    try:
        adapter_weights([entry.name for entry in snapshot.iterdir() if entry.exists()], str(snapshot))
    except CheckpointError:
        return None
    return snapshot
