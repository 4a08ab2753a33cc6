"""Weights in `pytorch_model*.bin`: read by torch's restricted loader alone, so that nothing in the file is executed."""

from __future__ import annotations

import pickle
import re
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vlmerge.checkpoint.dtypes import SAFETENSORS_NAMES
from vlmerge.checkpoint.guarded import guarded
from vlmerge.errors import CheckpointError
from vlmerge.types import TensorInfo

if TYPE_CHECKING:
    import torch

_ZIP = b"PK\x03\x04"
_LFS_POINTER = b"version https://git-lfs"


class PickledShards:
    """The `.bin` files of one folder, opened when first read.

    A file in torch's zip format (since 1.6) stays mapped. One in the older format cannot be mapped and is read whole: only
    the last one that was asked for is kept in memory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mapped: dict[str, Mapping[str, torch.Tensor]] = {}
        self._in_memory: tuple[str, Mapping[str, torch.Tensor]] | None = None
        self._lock = threading.Lock()

    def header(self, shard: str) -> tuple[TensorInfo, ...]:
        """Tensors of a file in its own order; raises CheckpointError for what cannot be read safely or cannot be merged."""
        return tuple(_info(name, tensor, shard, self._folder / shard) for name, tensor in self._open(shard).items())

    def read(self, info: TensorInfo) -> torch.Tensor:
        """One tensor on the CPU, contiguous. Tensors that share or view a storage (tied weights) come out as themselves."""
        return self._open(info.shard)[info.name].detach().contiguous()

    def _open(self, shard: str) -> Mapping[str, torch.Tensor]:
        with self._lock:
            if shard in self._mapped:
                return self._mapped[shard]
            if self._in_memory is not None and self._in_memory[0] == shard:
                return self._in_memory[1]
            path = guarded(self._folder, shard)
            mapped = _starts_with(path, _ZIP)
            self._in_memory = None
            tensors = _load(path, mapped=mapped)
            if mapped:
                self._mapped[shard] = tensors
            else:
                self._in_memory = (shard, tensors)
            return tensors


def _starts_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError as error:
        raise CheckpointError(
            "a weight file cannot be read", where=str(path), found=str(error), remedy="check the file and its permissions"
        ) from error


def _reason(error: BaseException) -> str:
    """What the loader met, without torch's advice to load the file all the same."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    unknown = re.search(r"Unsupported \w+ \S+", str(error))
    if named:
        return f"a pickled {named[1]}"
    return unknown[0] if unknown else type(error).__name__


def _load(path: Path, *, mapped: bool) -> Mapping[str, torch.Tensor]:
    import torch

    if _starts_with(path, _LFS_POINTER):
        raise CheckpointError(
            "a weight file is only a pointer of Git LFS",
            where=str(path),
            remedy="run `git lfs pull` in that folder, or give the hub id instead of the clone",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of pickle protocols: what cannot be read is refused below.
            data: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "a .bin file holds more than tensors, or is damaged, and was refused; nothing from the file was executed",
            where=str(path),
            expected="tensors alone, as torch's restricted loader (weights_only=True) accepts them",
            found=_reason(error),
            remedy="use a safetensors version of this model, from an author you trust",
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # torch raises RuntimeError, EOFError, ValueError, … for damaged files, all meaning the same
        raise CheckpointError(
            "a .bin file is damaged or cut short; nothing from the file was executed",
            where=str(path),
            expected="a file written by torch.save",
            found=f"{path.stat().st_size} bytes; {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}",
            remedy="download or copy the file again",
        ) from error
    if not isinstance(data, dict):
        raise _no_tensor(path, f"a {type(data).__name__} instead of a dictionary of tensors")
    for name, tensor in cast("dict[Any, Any]", data).items():
        if (
            not isinstance(name, str)
            or not isinstance(tensor, torch.Tensor)
            or tensor.layout != torch.strided
            or tensor.is_meta
        ):
            raise _no_tensor(path, f"{name!r}: {type(tensor).__name__}")
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            # One number that pretends to be a matrix of terabytes, which reading would fill.
            raise _no_tensor(path, f"{name!r}: a view of {tensor.nbytes} bytes on {tensor.untyped_storage().nbytes()}")
    return cast("dict[str, torch.Tensor]", data)


def _info(name: str, tensor: torch.Tensor, shard: str, path: Path) -> TensorInfo:
    dtype = SAFETENSORS_NAMES.get(str(tensor.dtype))
    if dtype is None:
        raise CheckpointError(
            "a tensor has a data type that cannot be merged",
            where=f"{path}, {name}",
            expected=", ".join(SAFETENSORS_NAMES),
            found=str(tensor.dtype),
            remedy="use the model's unquantised weights",
        )
    return TensorInfo(name, dtype, tuple(tensor.shape), shard)


def _no_tensor(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        "a .bin file is not a dictionary of dense tensors",
        where=str(path),
        expected="tensor name → tensor",
        found=found,
        remedy="use the weights of a transformers model (its pytorch_model.bin), not a training checkpoint",
    )
