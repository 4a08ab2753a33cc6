"""Writes a checkpoint as a stream: headers first, piece by piece, beside the goal, verified, and renamed when whole.

A piece is written while the next one is computed, and the disk starts on it at once: what is left to wait for at the end is
little, although nothing gets its name before it is on the disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.checkpoint import layout
from vlmerge.checkpoint.beside import check_absent, check_space, written_beside
from vlmerge.checkpoint.dtypes import SAFETENSORS_NAMES
from vlmerge.checkpoint.progress import Progress
from vlmerge.checkpoint.verified import Mark, Verified, marks_of, verify
from vlmerge.types import DTYPE_BYTES, TensorInfo

if TYPE_CHECKING:
    import torch

MAX_SHARD_BYTES = 5_000_000_000
_SLACK_BYTES = 1 << 20
"""Room for config, index and the file system's own records, beyond weights and copies."""


@dataclass(frozen=True)
class Shard:
    """One file to be: its header as bytes, and where in the file each tensor goes."""

    file: str
    header: bytes
    places: Mapping[str, int]
    size: int


def write_checkpoint(
    out: Path,
    tensors: Sequence[TensorInfo],
    produce: Iterable[tuple[str, torch.Tensor]],
    *,
    config: Mapping[str, Any],
    side_files: Mapping[str, Path],
    texts: Mapping[str, str | bytes],
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress | None = None,
) -> Verified:
    """Writes a model folder that `transformers` loads; the same input gives the same bytes.

    Args:
        out: The folder to make; absent or empty.
        tensors: Name, dtype and shape of each tensor of the result (`shard` is not looked at).
        produce: (name, tensor) in the same order, on any device; or (name, part) for consecutive parts of the flat tensor.
            Each has to stay as it is until the next but one is asked for.
        config: Becomes config.json, keys in their order.
        side_files: Relative name → file whose contents are copied (`Checkpoint.side_files()`).
        texts: Relative name → contents of further files, e.g. README.md; text is written as UTF-8.
        max_shard_bytes: Above this the weights are split into shards with an index.
        progress: Told of the bytes written.

    Returns:
        What was found on the disk before the folder got its name.

    Raises:
        CheckpointError: The folder is not empty, the disk is too small, or what is on it is not what was written. Nothing is
            left behind.
        ValueError: `produce` does not give what `tensors` announces: a bug of the caller.
    """
    check_absent(out)
    shards = plan_shards(tensors, max_shard_bytes)
    check_space(
        out, sum(shard.size for shard in shards) + sum(file.stat().st_size for file in side_files.values()) + _SLACK_BYTES
    )
    with written_beside(out) as folder:
        marks = _write_tensors(folder, tensors, shards, produce, f"writing {out.name}", progress)
        for name, file in side_files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(file, folder / name)
        for name, text in texts.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        if len(shards) > 1:
            index = {
                "metadata": {"total_size": sum(info.bytes for info in tensors)},
                "weight_map": {name: shard.file for shard in shards for name in sorted(shard.places)},
            }
            (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        # Last: without it, what a kill leaves behind is no model to anybody who looks into the hidden folder.
        (folder / layout.CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return verify(folder, out, tensors, marks, config)


def plan_shards(tensors: Sequence[TensorInfo], max_shard_bytes: int) -> list[Shard]:
    """Splits the tensors into files, in their order; one that is larger than the limit has a file of its own."""
    groups: list[list[TensorInfo]] = [[]]
    filled = 0
    for info in tensors:
        if groups[-1] and filled + info.bytes > max_shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(info)
        filled += info.bytes
    if len(groups) == 1:
        return [_shard("model.safetensors", groups[0])]
    return [_shard(f"model-{number:05d}-of-{len(groups):05d}.safetensors", group) for number, group in enumerate(groups, 1)]


def _shard(file: str, infos: Sequence[TensorInfo]) -> Shard:
    """Lays out one file. Wide types come first, else in the given order: so every tensor is aligned without holes, which
    the format forbids."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for info in sorted(infos, key=lambda info: -DTYPE_BYTES[info.dtype]):
        header[info.name] = {
            "dtype": info.dtype,
            "shape": list(info.shape),
            "data_offsets": [position, position + info.bytes],
        }
        position += info.bytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    places = {info.name: start + header[info.name]["data_offsets"][0] for info in infos}
    return Shard(file, struct.pack("<Q", len(text)) + text, places, start + position)


def _write_tensors(
    folder: Path,
    tensors: Sequence[TensorInfo],
    shards: Sequence[Shard],
    produce: Iterable[tuple[str, torch.Tensor]],
    label: str,
    progress: Progress | None,
) -> list[Mark]:
    expected = {info.name: info for info in tensors}
    if len(expected) != len(tensors):
        raise ValueError("a tensor name is announced twice")
    stream = iter(produce)
    total, done = sum(info.bytes for info in tensors), 0
    marks: list[Mark] = []
    for shard in shards:
        with (folder / shard.file).open("wb", buffering=0) as file, ThreadPoolExecutor(max_workers=1) as pool:
            writing = pool.submit(_write, file, memoryview(shard.header), 0)
            file.truncate(shard.size)
            for name, place in shard.places.items():
                info, written = expected[name], 0
                whole = False
                while not whole:
                    got, piece = next(stream, (None, None))
                    if got != name or piece is None:
                        raise ValueError(f"expected tensor {name}, got {got}")
                    data = _bytes_of(info, piece, written)
                    marks += marks_of(shard.file, place + written, data, name)
                    writing.result()
                    writing = pool.submit(_write, file, data, place + written)
                    written += data.nbytes
                    done += data.nbytes
                    del piece, data  # What is not a buffer that takes turns goes as soon as it is written.
                    whole = written == info.bytes
                    if progress is not None:
                        progress(label, done, total)
            writing.result()
            os.fsync(file.fileno())
    surplus = next(stream, None)
    if surplus is not None:
        raise ValueError(f"unexpected tensor {surplus[0]}")
    return marks


def _bytes_of(info: TensorInfo, piece: torch.Tensor, before: int) -> memoryview:
    """A piece's memory, once it is what was announced."""
    import torch

    whole = before == 0 and tuple(piece.shape) == info.shape
    fits = whole or (piece.dim() == 1 and before + piece.nbytes <= info.bytes and (piece.nbytes > 0 or info.bytes == 0))
    if SAFETENSORS_NAMES.get(str(piece.dtype)) != info.dtype or not fits:
        raise ValueError(f"{info.name}: announced {info.dtype} {list(info.shape)}, got {piece.dtype} {list(piece.shape)}")
    raw: Any = piece.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(raw)


def _write(file: FileIO, data: memoryview, place: int) -> None:
    """Writes at a place, whole. A file that was closed meanwhile is an error, whoever has its number now."""
    start, rest = place, data
    while rest.nbytes:
        count = os.pwrite(file.fileno(), rest, place)
        rest, place = rest[count:], place + count
    if data.nbytes and hasattr(os, "posix_fadvise"):
        # Of memory that is not on the disk yet this means: begin to write it. What already is may leave the page cache. A hint:
        # file systems may refuse it.
        with contextlib.suppress(OSError):
            os.posix_fadvise(file.fileno(), start, data.nbytes, os.POSIX_FADV_DONTNEED)
