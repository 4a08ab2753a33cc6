"""Models on the hub: what to download, what to read by range, and how to do with the cache alone."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.checkpoint import layout
from vlmerge.checkpoint.guarded import CONFIG_BYTES, INDEX_BYTES, read_guarded
from vlmerge.checkpoint.headers import WeightsFormat
from vlmerge.checkpoint.hub_errors import explained, offline
from vlmerge.checkpoint.licence import read_licence
from vlmerge.checkpoint.reader import Checkpoint, check_index, join_shards, list_side_files, open_checkpoint, require_shards
from vlmerge.checkpoint.safetensors_header import parse_entries, wrong_size
from vlmerge.errors import CheckpointError
from vlmerge.types import TensorInfo

if TYPE_CHECKING:
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

    def side_files(self) -> dict[str, Path]:
        """Files that a merged model takes over unchanged: relative name → file, sorted by name."""
        return list_side_files(self.path)


@dataclass(frozen=True)
class _Repository:
    """One commit of a model on the hub.

    Attributes:
        commit: Its hash.
        sizes: File name → bytes.
        blobs: File name → name of its contents in the cache; large files under their sha256.
        snapshot: Where the cache keeps this commit.
    """

    ref: ModelRef
    commit: str
    sizes: dict[str, int]
    blobs: dict[str, str]
    snapshot: Path

    def is_here(self, name: str) -> bool:
        """Whether the contents of a file are in the cache, be it from another commit."""
        blob = self.blobs.get(name)
        return (self.snapshot / name).exists() or (blob is not None and (self.snapshot.parents[1] / "blobs" / blob).exists())


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
        repository = _look_up(ref)
    except CheckpointError:
        if (whole := _find_complete(ref)) is not None:
            return _open_snapshot(ref, whole)
        raise
    weights = layout.find_weights(repository.sizes.keys(), str(ref))
    small = [*layout.side_file_names(repository.sizes), *layout.card_file_names(repository.sizes)]
    index: layout.Index | None = None
    shards: tuple[str, ...] = (weights.file,)
    if weights.is_index:
        _download(repository, [weights.file], None)
        text = read_guarded(repository.snapshot, weights.file, INDEX_BYTES)
        index = layout.parse_index(text, f"{ref}, {weights.file}", weights.format)
        shards = index.shards
    require_shards(shards, set(repository.sizes), f"{ref}, {weights.file}")
    if headers_only and not _is_complete(repository.snapshot):
        _download(repository, small, progress)
        return _remote(repository, weights, index, shards)
    _download(repository, [*small, *shards], progress)
    return _open_snapshot(ref, repository.snapshot)


def _look_up(ref: ModelRef) -> _Repository:
    from huggingface_hub import HfApi, constants

    with explained(ref):
        snapshot = _get(ref, layout.CONFIG, ref.revision, _bar()).parent
        info = HfApi(endpoint=constants.ENDPOINT).model_info(ref.path, revision=snapshot.name, files_metadata=True)
    files = info.siblings or []
    return _Repository(
        ref=ref,
        commit=snapshot.name,
        sizes={file.rfilename: file.size or 0 for file in files},
        blobs={file.rfilename: blob for file in files if (blob := file.lfs.sha256 if file.lfs else file.blob_id)},
        snapshot=snapshot,
    )


def _get(ref: ModelRef, name: str, revision: str | None, bar: Any) -> Path:
    """One file, from the cache or into it."""
    from huggingface_hub import constants
    from huggingface_hub import hf_hub_download as download  # pyright: ignore[reportUnknownVariableType] - its tqdm is untyped

    return Path(download(ref.path, name, revision=revision, endpoint=constants.ENDPOINT, tqdm_class=bar))


def _download(repository: _Repository, names: Sequence[str], progress: Progress | None) -> None:
    """Downloads what the cache lacks, one file after the other so that an interrupt stops at once; finished files stay."""
    from huggingface_hub import constants

    needed = sum(repository.sizes[name] for name in names if not repository.is_here(name))
    free = shutil.disk_usage(repository.snapshot).free
    if needed > free:
        raise CheckpointError(
            "the disk is too small for the download",
            where=f"{repository.ref}, into {constants.HF_HUB_CACHE}",
            expected=f"{needed:,} bytes free",
            found=f"{free:,} bytes free",
            remedy="free some space, or set HF_HOME to a folder on a larger disk",
        )
    for name in names:
        bar = _bar(progress, f"{repository.ref.path}: {name}", repository.sizes[name])
        with explained(repository.ref):
            _get(repository.ref, name, repository.commit, bar)


def _remote(
    repository: _Repository, weights: layout.Weights, index: layout.Index | None, shards: Sequence[str]
) -> RemoteCheckpoint:
    text = read_guarded(repository.snapshot, layout.CONFIG, CONFIG_BYTES)
    config = layout.parse_config(text, f"{repository.ref}, {layout.CONFIG}")
    tensors: dict[str, TensorInfo] = {}
    if weights.format == "safetensors":
        where = f"{repository.ref}, {weights.file}"
        tensors = join_shards([_remote_header(repository, shard) for shard in shards], where)
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


def _remote_header(repository: _Repository, shard: str) -> tuple[TensorInfo, ...]:
    """The header of one file by HTTP range requests: a hundred kilobytes instead of gigabytes."""
    from huggingface_hub import HfApi, constants

    where = f"{repository.ref}, {shard}"
    with explained(repository.ref):
        header = HfApi(endpoint=constants.ENDPOINT).parse_safetensors_file_metadata(
            repository.ref.path, shard, revision=repository.commit
        )
    entries = {
        name: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": tensor.data_offsets}
        for name, tensor in header.tensors.items()
    }
    infos, end = parse_entries(entries, shard, where)
    size = repository.sizes[shard]
    if 0 < size < 8 + end:
        raise wrong_size(where, 8 + end, size)
    return infos


def _find_complete(ref: ModelRef) -> Path | None:
    """The folder of the cache that holds the model whole, or None."""
    from huggingface_hub import constants, try_to_load_from_cache

    with explained(ref):
        config = try_to_load_from_cache(ref.path, layout.CONFIG, revision=ref.revision or constants.DEFAULT_REVISION)
    return Path(config).parent if isinstance(config, str) and _is_complete(Path(config).parent) else None


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


def _bar(progress: Progress | None = None, label: str = "", size: int = 0) -> Any:
    """A class for the hub's client, which makes one progress bar per file: it draws nothing and tells `progress`."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
            super().__init__(disable=True)  # pyright: ignore[reportUnknownMemberType] - the client's class has no types
            self.done = initial

        def update(self, n: float | None = 1) -> None:
            self.done += int(n or 0)
            if progress is not None:
                progress(label, self.done, size)

    return Bar
