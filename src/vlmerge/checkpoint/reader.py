"""A checkpoint on this machine: validated from its headers, then read tensor by tensor out of mapped files."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vlmerge.checkpoint import fingerprint, layout
from vlmerge.checkpoint.guarded import CONFIG_BYTES, INDEX_BYTES, TOKENIZER_BYTES, guarded, read_guarded
from vlmerge.checkpoint.headers import WeightsFormat
from vlmerge.checkpoint.licence import read_licence
from vlmerge.checkpoint.pickled import PickledShards
from vlmerge.checkpoint.safetensors_header import read_header
from vlmerge.errors import CheckpointError
from vlmerge.types import TensorInfo

if TYPE_CHECKING:
    import torch

    from vlmerge.checkpoint.adapter_files import MergedAdapter
    from vlmerge.config.model_ref import ModelRef


class Shards(Protocol):
    """Weight files of one folder."""

    def header(self, shard: str) -> tuple[TensorInfo, ...]:
        """Tensors of one file, in its order."""
        ...

    def read(self, info: TensorInfo) -> torch.Tensor:
        """One tensor on the CPU."""
        ...


class SafetensorsShards:
    """The `.safetensors` files of one folder, mapped when first read. Tensors are views of the map: no copy is made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, Any] = {}
        self._lock = threading.Lock()

    def header(self, shard: str) -> tuple[TensorInfo, ...]:
        """Tensors of one file, in the order of its data; raises CheckpointError if header or file is not whole."""
        return read_header(guarded(self._folder, shard))

    def read(self, info: TensorInfo) -> torch.Tensor:
        """One tensor on the CPU."""
        from safetensors import SafetensorError, safe_open

        try:
            with self._lock:
                if info.shard not in self._open:
                    # Stays open for as long as the checkpoint: entering is what maps the file, leaving would unmap it.
                    opened: Any = safe_open(self._folder / info.shard, framework="pt", device="cpu")
                    self._open[info.shard] = opened.__enter__()
            return self._open[info.shard].get_tensor(info.name)
        except (SafetensorError, OSError) as error:
            # The header was whole when the folder was opened: what is wrong now has changed since.
            raise CheckpointError(
                "a weight file cannot be read any more",
                where=f"{self._folder / info.shard}, {info.name}",
                expected="the file as it was when the model was opened",
                found=str(error),
                remedy="leave the model's files alone while they are read, and run again",
            ) from error


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model folder whose files were checked. See `Headers` for the attributes; made by `open_checkpoint` and `resolve`.

    Attributes:
        weight_files: Files that hold or index the weights, relative to `path`.
    """

    ref: ModelRef
    path: Path
    revision: str | None
    config: dict[str, Any]
    tensors: Mapping[str, TensorInfo]
    weights_format: WeightsFormat
    weight_files: tuple[str, ...]
    total_bytes: int
    licence: str | None
    _shards: Shards = field(repr=False)
    adapter: MergedAdapter | None = None

    def read(self, name: str) -> torch.Tensor:
        """One tensor on the CPU in its own dtype: never write into it.

        It is backed by the mapped file, unless an adapter changes it: then it is computed anew each time.
        """
        return self._shards.read(self.tensors[name])

    def side_files(self) -> dict[str, Path]:
        """Files that a merged model takes over unchanged: relative name → file, sorted by name."""
        return list_side_files(self.path)

    def fingerprint(self) -> str:
        """sha256 over names and contents of config.json and the weight files; the same for a folder and the hub's cache.

        With an adapter it is over the fingerprints of both.
        """
        own = fingerprint.fingerprint(self.path, [layout.CONFIG, *self.weight_files])
        return own if self.adapter is None else fingerprint.joined(own, self.adapter.files.fingerprint())


def open_checkpoint(path: Path, ref: ModelRef, revision: str | None = None) -> Checkpoint:
    """Opens a model folder and checks it whole before anybody reads a weight.

    Raises:
        CheckpointError: config.json or weights are missing, a shard is missing, cut short or damaged, index and shards
            disagree, a `.bin` holds more than tensors, a file leads out of the folder.
    """
    _refuse_adapter(path)
    config = layout.parse_config(read_guarded(path, layout.CONFIG, CONFIG_BYTES), str(path / layout.CONFIG))
    names = {entry.name for entry in path.iterdir()}
    weights = layout.find_weights(names, str(path))
    shards = SafetensorsShards(path) if weights.format == "safetensors" else PickledShards(path)
    if weights.is_index:
        where = str(path / weights.file)
        index = layout.parse_index(read_guarded(path, weights.file, INDEX_BYTES), where, weights.format)
        files = index.shards
        require_shards(index.shards, names, where)
        tensors = join_shards([shards.header(shard) for shard in files], where)
        check_index(index, tensors, where)
    else:
        files = (weights.file,)
        tensors = join_shards([shards.header(weights.file)], str(path / weights.file))
    return Checkpoint(
        ref=ref,
        path=path,
        revision=revision,
        config=config,
        tensors=tensors,
        weights_format=weights.format,
        weight_files=(*files, weights.file) if weights.is_index else files,
        total_bytes=sum((path / file).stat().st_size for file in files),
        licence=read_licence(path),
        _shards=shards,
    )


def list_side_files(folder: Path) -> dict[str, Path]:
    """Files of a model folder that a merged model takes over: relative name → file, sorted by name.

    Raises:
        CheckpointError: One leads out of the folder, or is too large to be one.
    """
    names = [entry.relative_to(folder).as_posix() for entry in [*folder.glob("*"), *folder.glob("*/*")] if entry.is_file()]
    return {name: guarded(folder, name, TOKENIZER_BYTES) for name in layout.side_file_names(names)}


def require_shards(shards: Sequence[str], names: set[str], where: str) -> None:
    """Raises CheckpointError if a shard that the index names is not among the files."""
    missing = [shard for shard in shards if shard not in names]
    if missing:
        raise CheckpointError(
            "a shard that the index names is missing",
            where=where,
            expected=", ".join(shards),
            found=f"all but {', '.join(missing)}",
            remedy="download or copy the missing files",
        )


def join_shards(shards: Sequence[Sequence[TensorInfo]], where: str) -> dict[str, TensorInfo]:
    """All tensors by name, shard by shard; raises CheckpointError if one stands in two shards, or there is none."""
    tensors: dict[str, TensorInfo] = {}
    for info in (info for shard in shards for info in shard):
        if info.name in tensors:
            raise CheckpointError(
                "a tensor stands in two shards",
                where=f"{where}, {info.name}",
                expected="each tensor in one file",
                found=f"{tensors[info.name].shard} and {info.shard}",
                remedy="download the model again; shards of two versions may have been mixed",
            )
        tensors[info.name] = info
    if not tensors:
        raise CheckpointError(
            "the weight files hold no tensor", where=where, expected="weights", found="none", remedy="use a whole model"
        )
    return tensors


def check_index(index: layout.Index, tensors: Mapping[str, TensorInfo], where: str) -> None:
    """Raises CheckpointError unless index and shards name the same tensors at the same places."""
    absent = [name for name, shard in index.tensors.items() if name not in tensors or tensors[name].shard != shard]
    unnamed = [name for name in tensors if name not in index.tensors]
    if absent or unnamed:
        parts = [
            f"{len(absent)} not in the shard that the index names ({_some(absent)})" if absent else "",
            f"{len(unnamed)} in a shard that the index does not name ({_some(unnamed)})" if unnamed else "",
        ]
        raise CheckpointError(
            "the index and the shards do not hold the same tensors",
            where=where,
            expected="each tensor in the shard that the index names",
            found="; ".join(part for part in parts if part),
            remedy="download the model again; index and shards may be of different versions",
        )


def _refuse_adapter(path: Path) -> None:
    if (path / layout.ADAPTER_CONFIG).is_file() and not (path / layout.CONFIG).exists():
        raise CheckpointError(
            "this is an adapter, not a model",
            where=str(path),
            expected=f"a model folder, with {layout.CONFIG}",
            found=layout.ADAPTER_CONFIG,
            remedy="name the model that it was trained for, and the adapter behind it: `MODEL+ADAPTER`",
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
