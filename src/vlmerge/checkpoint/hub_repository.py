"""One commit of a repository on the hub: looked up once, then downloaded file by file or read by range."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.checkpoint.hub_errors import explained
from vlmerge.checkpoint.safetensors_header import parse_entries, wrong_size
from vlmerge.errors import CheckpointError
from vlmerge.types import TensorInfo

if TYPE_CHECKING:
    from vlmerge.checkpoint.progress import Progress
    from vlmerge.config.model_ref import ModelRef


@dataclass(frozen=True)
class Repository:
    """One commit of a repository on the hub.

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


def look_up(ref: ModelRef, first: str) -> Repository:
    """Asks the hub for the commit that a reference means, and what files it has; `first` is downloaded on the way.

    Raises:
        CheckpointError: Not found, gated, without the file, or the hub cannot be asked.
    """
    from huggingface_hub import HfApi, constants

    with explained(ref, first):
        snapshot = _get(ref, first, ref.revision, _bar()).parent
        info = HfApi(endpoint=constants.ENDPOINT).model_info(ref.path, revision=snapshot.name, files_metadata=True)
    files = info.siblings or []
    return Repository(
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


def download_files(repository: Repository, names: Sequence[str], progress: Progress | None) -> None:
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


def remote_header(repository: Repository, shard: str) -> tuple[TensorInfo, ...]:
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


def find_cached(ref: ModelRef, first: str) -> Path | None:
    """The folder of the cache that has the file `first` of a repository, or None."""
    from huggingface_hub import constants, try_to_load_from_cache

    with explained(ref):
        found = try_to_load_from_cache(ref.path, first, revision=ref.revision or constants.DEFAULT_REVISION)
    return Path(found).parent if isinstance(found, str) else None


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
