"""A checkpoint that was just written, looked at again before it gets its name: as a reader would open it, and at its marks.

Headers are read again and whole; of the data only the two ends of every piece, where they must be what was handed to the disk.
So a file that is short, a piece at a wrong place or one that never arrived is found, at the price of a few kilobytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmerge.checkpoint import layout
from vlmerge.checkpoint.reader import open_checkpoint
from vlmerge.config.model_ref import ModelRef
from vlmerge.errors import CheckpointError
from vlmerge.types import TensorInfo

EDGE = 32
"""Bytes of a mark: more than any element, and so short that thousands of them are nothing."""


@dataclass(frozen=True)
class Mark:
    """Bytes that must stand at a place.

    Attributes:
        file: Weight file, relative to the folder.
        place: Offset in bytes.
        data: What was written there.
        tensor: Whose they are.
    """

    file: str
    place: int
    data: bytes
    tensor: str


@dataclass(frozen=True)
class Verified:
    """What was found to be so.

    Attributes:
        files: Weight files, each as long as its header says.
        tensors: Tensors in them, each with the dtype and shape that was announced, and none besides.
        bytes: Their size.
        seconds: What the looking took.
    """

    files: int
    tensors: int
    bytes: int
    seconds: float


def marks_of(file: str, place: int, data: memoryview, tensor: str) -> list[Mark]:
    """The two ends of a piece that goes to a place; nothing of an empty one."""
    if not data.nbytes:
        return []
    ends = Mark(file, place, bytes(data[:EDGE]), tensor)
    last = max(0, data.nbytes - EDGE)
    return [ends] if last == 0 else [ends, Mark(file, place + last, bytes(data[last:]), tensor)]


def verify(
    folder: Path, out: Path, tensors: Sequence[TensorInfo], marks: Iterable[Mark], config: Mapping[str, Any]
) -> Verified:
    """Opens what was written as a reader would, and compares it with what was announced.

    Args:
        folder: Where it lies now.
        out: What it is to be called, for messages.
        tensors: What was announced.
        marks: What must stand where.
        config: What config.json must hold.

    Raises:
        CheckpointError: Something else is there.
    """
    started = time.perf_counter()
    try:
        found = open_checkpoint(folder, ModelRef(str(out)))
    except CheckpointError as error:
        raise _refusal(out, error.expected or "a whole checkpoint", f"{error.what}: {error.found or error.where}") from error
    announced = {info.name: (info.dtype, list(info.shape)) for info in tensors}
    there = {name: (info.dtype, list(info.shape)) for name, info in found.tensors.items()}
    for name in (*announced, *there):
        if announced.get(name) != there.get(name):
            raise _refusal(out, f"{name}: {announced.get(name, 'nothing')}", f"{there.get(name, 'nothing')}")
    if json.dumps(found.config) != json.dumps(config):
        raise _refusal(out, f"the settings of the merge in {layout.CONFIG}", "others")
    _check_marks(folder, out, marks)
    return Verified(
        files=len({info.shard for info in found.tensors.values()}),
        tensors=len(there),
        bytes=sum(info.bytes for info in found.tensors.values()),
        seconds=time.perf_counter() - started,
    )


def _check_marks(folder: Path, out: Path, marks: Iterable[Mark]) -> None:
    by_file: dict[str, list[Mark]] = {}
    for mark in marks:
        by_file.setdefault(mark.file, []).append(mark)
    for name, listed in by_file.items():
        with (folder / name).open("rb", buffering=0) as file:
            for mark in listed:
                file.seek(mark.place)
                if file.read(len(mark.data)) != mark.data:
                    expected = f"the bytes of {mark.tensor} that were written at offset {mark.place} of {name}"
                    raise _refusal(out, expected, "other bytes")


def _refusal(out: Path, expected: str, found: str) -> CheckpointError:
    return CheckpointError(
        "what is on the disk is not what was written; it was removed",
        where=str(out),
        expected=expected,
        found=found,
        remedy="run it again; if that does not help, write to another disk: this one loses what it is given",
    )
