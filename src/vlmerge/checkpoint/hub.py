"""Models on the hub: what to download, what to read by range, and how to do with the cache alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.checkpoint import layout
from vlmerge.checkpoint.guarded import CONFIG_BYTES, INDEX_BYTES, read_guarded
from vlmerge.checkpoint.headers import WeightsFormat
from vlmerge.checkpoint.hub_errors import offline
from vlmerge.checkpoint.hub_repository import Repository, download_files, find_cached, look_up, remote_header
from vlmerge.checkpoint.licence import read_licence
from vlmerge.checkpoint.reader import Checkpoint, check_index, join_shards, list_side_files, open_checkpoint, require_shards
from vlmerge.errors import CheckpointError
from vlmerge.types import TensorInfo

if TYPE_CHECKING:
    from vlmerge.checkpoint.adapter_files import MergedAdapter
    from vlmerge.checkpoint.progress import Progress
    from vlmerge.config.model_ref import ModelRef


@dataclass(frozen=True)
class RemoteCheckpoint:
    """A model on the hub, known by its headers. See `Headers` for the attributes.

    `path` holds the small files (config, tokenizer, processor, card), no weights. `tensors` is empty for
    `weights_format == "bin"`: shapes in a pickle cannot be read by range, and are confirmed after the download.
    """

    ref: ModelRef
    path: Path
    revision: str
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]
    weights_format: WeightsFormat
    total_bytes: int
    licence: str | None
    adapter: MergedAdapter | None = None

    def side_files(self) -> dict[str, Path]:
        """Files that a merged model takes over unchanged: relative name → file, sorted by name."""
        return list_side_files(self.path)


def open_cached(ref: ModelRef) -> Checkpoint:
    """Opens a model that the hub's cache holds whole, without a network; raises CheckpointError if it does not."""
    snapshot = _find_complete(ref)
    if snapshot is None:
        raise offline(ref)
    return _open_snapshot(ref, snapshot)


def fetch(ref: ModelRef, *, headers_only: bool, progress: Progress | None) -> Checkpoint | RemoteCheckpoint:
    """Brings a model here, or its headers; a model that is whole in the cache is used where the hub cannot be asked.

    The revision is resolved once: every file is of the commit that config.json came from.
    """
    try:
        repository = look_up(ref, layout.CONFIG)
    except CheckpointError:
        if (whole := _find_complete(ref)) is not None:
            return _open_snapshot(ref, whole)
        raise
    weights = layout.find_weights(repository.sizes.keys(), str(ref))
    small = [*layout.side_file_names(repository.sizes), *layout.card_file_names(repository.sizes)]
    index: layout.Index | None = None
    shards: tuple[str, ...] = (weights.file,)
    if weights.is_index:
        download_files(repository, [weights.file], None)
        text = read_guarded(repository.snapshot, weights.file, INDEX_BYTES)
        index = layout.parse_index(text, f"{ref}, {weights.file}", weights.format)
        shards = index.shards
    require_shards(shards, set(repository.sizes), f"{ref}, {weights.file}")
    if headers_only and not _is_complete(repository.snapshot):
        download_files(repository, small, progress)
        return _remote(repository, weights, index, shards)
    download_files(repository, [*small, *shards], progress)
    return _open_snapshot(ref, repository.snapshot)


def _remote(
    repository: Repository, weights: layout.Weights, index: layout.Index | None, shards: Sequence[str]
) -> RemoteCheckpoint:
    text = read_guarded(repository.snapshot, layout.CONFIG, CONFIG_BYTES)
    config = layout.parse_config(text, f"{repository.ref}, {layout.CONFIG}")
    tensors: dict[str, TensorInfo] = {}
    if weights.format == "safetensors":
        where = f"{repository.ref}, {weights.file}"
        tensors = join_shards([remote_header(repository, shard) for shard in shards], where)
        if index is not None:
            check_index(index, tensors, where)
    return RemoteCheckpoint(
        ref=repository.ref,
        path=repository.snapshot,
        revision=repository.commit,
        config=config,
        tensors=tensors,
        weights_format=weights.format,
        total_bytes=sum(repository.sizes[shard] for shard in shards),
        licence=read_licence(repository.snapshot),
    )


def _find_complete(ref: ModelRef) -> Path | None:
    """The folder of the cache that holds the model whole, or None."""
    snapshot = find_cached(ref, layout.CONFIG)
    return snapshot if snapshot is not None and _is_complete(snapshot) else None


def _is_complete(snapshot: Path) -> bool:
    """Whether a folder of the cache has its weights; side files are downloaded before them."""
    names = {entry.name for entry in snapshot.iterdir() if entry.exists()}
    try:
        weights = layout.find_weights(names, str(snapshot))
        if weights.is_index:
            text = read_guarded(snapshot, weights.file, INDEX_BYTES)
            require_shards(layout.parse_index(text, weights.file, weights.format).shards, names, str(snapshot))
    except CheckpointError:
        return False
    return True


def _open_snapshot(ref: ModelRef, snapshot: Path) -> Checkpoint:
    try:
        return open_checkpoint(snapshot, ref, revision=snapshot.name)
    except CheckpointError as error:
        raise CheckpointError(
            error.what,
            where=error.where,
            expected=error.expected,
            found=error.found,
            remedy=f"if the copy in the cache is damaged, remove {snapshot.parents[1]} and run again; else: {error.remedy}",
        ) from error
