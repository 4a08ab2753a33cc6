"""Models on the hub: what to download, what to read by range, and how to do with the cache alone."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.checkpoint import layout
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

    `path` holds the small files (config, tokenizer, processor, card), no weights. `tensors` is empty for `weights_format == "bin"`:
    shapes in a pickle cannot be read by range, and are confirmed after the download.
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
    """One commit of a model on the hub: its files with their sizes in bytes, and where the cache keeps them."""

    ref: ModelRef
    commit: str
    sizes: dict[str, int]
    snapshot: Path


def open_cached(ref: ModelRef) -> Checkpoint:
    """Opens a model that the hub's cache holds whole, without a network; raises CheckpointError if it does not."""
    from huggingface_hub import constants, try_to_load_from_cache

    with explained(ref):
        config = try_to_load_from_cache(ref.path, layout.CONFIG, revision=ref.revision or constants.DEFAULT_REVISION)
    if not isinstance(config, str):
        raise offline(ref)
    snapshot = Path(config).parent
    if not _is_complete(snapshot):
        raise offline(ref)
    return _open_snapshot(ref, snapshot)


def fetch(ref: ModelRef, *, headers_only: bool, progress: Progress | None) -> Checkpoint | RemoteCheckpoint:
    """Brings a model here, or its headers; a model that is whole in the cache is used when the hub does not answer.

    The revision is resolved once: every file is of the commit that config.json came from.
    """
    try:
        repository = _look_up(ref)
        weights = layout.find_weights(repository.sizes.keys(), str(ref))
        small = [*layout.side_file_names(repository.sizes), *layout.card_file_names(repository.sizes)]
        if weights.is_index:
            index = _read_index(repository, weights)
            shards: Sequence[str] = index.shards
        else:
            index, shards = None, (weights.file,)
        require_shards(shards, set(repository.sizes), f"{ref}, {weights.file}")
        if headers_only and not _is_complete(repository.snapshot):
            _download(repository, small, progress)
            return _remote(repository, weights, index, shards)
        _download(repository, [*small, *shards], progress)
    except CheckpointError:
        try:
            return open_cached(ref)
        except CheckpointError:
            pass  # The cache is no help: the first error says why.
        raise
    return _open_snapshot(ref, repository.snapshot)


def _look_up(ref: ModelRef) -> _Repository:
    from huggingface_hub import HfApi, constants, hf_hub_download

    with explained(ref):
        config = Path(
            hf_hub_download(ref.path, layout.CONFIG, revision=ref.revision, endpoint=constants.ENDPOINT, tqdm_class=_bar())
        )
        commit = config.parent.name
        info = HfApi(endpoint=constants.ENDPOINT).model_info(ref.path, revision=commit, files_metadata=True)
    return _Repository(ref, commit, {file.rfilename: file.size or 0 for file in info.siblings or []}, config.parent)


def _read_index(repository: _Repository, weights: layout.Weights) -> layout.Index:
    _download(repository, [weights.file], None)
    text = (repository.snapshot / weights.file).read_bytes()
    return layout.parse_index(text, f"{repository.ref}, {weights.file}", weights.format)


def _download(repository: _Repository, names: Sequence[str], progress: Progress | None) -> None:
    """Downloads what the cache lacks, one file after the other so that an interrupt stops at once; finished files stay."""
    from huggingface_hub import constants, hf_hub_download

    missing = [name for name in names if not (repository.snapshot / name).exists()]
    needed = sum(repository.sizes[name] for name in missing)
    free = shutil.disk_usage(repository.snapshot).free
    if needed > free:
        raise CheckpointError(
            "the disk is too small for the download",
            where=f"{repository.ref}, into {constants.HF_HUB_CACHE}",
            expected=f"{needed:,} bytes free",
            found=f"{free:,} bytes free",
            remedy="free some space, or set HF_HOME to a folder on a larger disk",
        )
    for name in missing:
        label = f"{repository.ref.path}: {name}"
        with explained(repository.ref):
            hf_hub_download(
                repository.ref.path,
                name,
                revision=repository.commit,
                endpoint=constants.ENDPOINT,
                tqdm_class=_bar(progress, label, repository.sizes[name]),
            )


def _remote(
    repository: _Repository, weights: layout.Weights, index: layout.Index | None, shards: Sequence[str]
) -> RemoteCheckpoint:
    config = layout.parse_config((repository.snapshot / layout.CONFIG).read_bytes(), f"{repository.ref}, {layout.CONFIG}")
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


def _is_complete(snapshot: Path) -> bool:
    """Whether a folder of the cache has its weights; side files are downloaded before them."""
    names = {entry.name for entry in snapshot.iterdir() if entry.exists()}
    try:
        weights = layout.find_weights(names, str(snapshot))
        if weights.is_index:
            text = (snapshot / weights.file).read_bytes()
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
            remedy=f"if the copy in the cache is damaged, remove {snapshot.parent.parent} and run again; else: {error.remedy}",
        ) from error


def _bar(progress: Progress | None = None, label: str = "", size: int = 0) -> Any:
    """A class for the hub's client, which makes one progress bar per file: it draws nothing and tells `progress`."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # pyright: ignore[reportUntypedBaseClass, reportMissingTypeArgument] - the client's own class has no types
        def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
            super().__init__(disable=True)
            self.done = initial

        def update(self, n: float | None = 1) -> None:
            self.done += int(n or 0)
            if progress is not None:
                progress(label, self.done, size)

    return Bar
