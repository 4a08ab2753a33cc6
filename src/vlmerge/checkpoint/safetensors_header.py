"""The header of a safetensors file: read and checked before anybody trusts an offset in it.

Format: 8 bytes little-endian header length, JSON, then the tensors' bytes without holes
(https://huggingface.co/docs/safetensors/index#format).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from vlmerge.errors import CheckpointError
from vlmerge.types import DTYPE_BYTES, TensorInfo

MAX_HEADER_BYTES = 100_000_000
"""The limit of safetensors itself."""

MAX_AXES = 64
"""The limit of torch."""

_LFS_POINTER = b"version https://git-lfs"


def read_header(path: Path) -> tuple[TensorInfo, ...]:
    """Tensors of a file in the order of their data; raises CheckpointError for a header or file that is not whole."""
    where = str(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            if len(start) < 8 or size < 8 + (length := struct.unpack("<Q", start)[0]) or length > MAX_HEADER_BYTES:
                raise _not_safetensors(where, start + file.read(32), size)
            text = file.read(length)
    except OSError as error:
        raise CheckpointError(
            "a weight file cannot be read", where=where, found=str(error), remedy="check the file and its permissions"
        ) from error
    infos, end = parse_entries(_parse_json(text, where), path.name, where)
    if size != 8 + length + end:
        raise wrong_size(where, 8 + length + end, size)
    return infos


def parse_entries(header: Mapping[str, Any], shard: str, where: str) -> tuple[tuple[TensorInfo, ...], int]:
    """Checks the entries of a header.

    Returns:
        The tensors in the order of their data, and the number of data bytes that they fill.

    Raises:
        CheckpointError: An entry is malformed, its dtype is unknown, or the data have holes or overlaps.
    """
    placed: list[tuple[int, int, TensorInfo]] = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, (begin, end), shape = str(entry["dtype"]), entry["data_offsets"], tuple(entry["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise _bad_header(where, f"{name!r}: {_short(entry)}") from error
        if len(shape) > MAX_AXES or not all(type(number) is int and 0 <= number < 1 << 63 for number in (*shape, begin, end)):
            raise _bad_header(where, f"{name!r}: {_short(entry)}")
        if dtype not in DTYPE_BYTES:
            raise CheckpointError(
                "a tensor has a data type that cannot be merged",
                where=f"{where}, {name}",
                expected=", ".join(DTYPE_BYTES),
                found=dtype[:40],
                remedy="use the model's unquantised weights",
            )
        placed.append((begin, end, TensorInfo(name, dtype, shape, shard)))
    placed.sort(key=lambda item: item[:2])
    position = 0
    for begin, end, info in placed:
        if begin != position or end - begin != info.bytes:
            raise _bad_header(
                where, f"{info.name!r} {info.dtype} {list(info.shape)} at bytes {begin} to {end}, expected at {position}"
            )
        position = end
    return tuple(info for _, _, info in placed), position


def wrong_size(where: str, expected: int, found: int) -> CheckpointError:
    """A weight file whose length is not what its header says."""
    return CheckpointError(
        "a weight file is cut short" if found < expected else "a weight file is longer than its header says",
        where=where,
        expected=f"{expected} bytes, by its own header",
        found=f"{found} bytes",
        remedy="download or copy the file again",
    )


def _parse_json(text: bytes, where: str) -> dict[str, Any]:
    def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            twin = next(name for name in names if names.count(name) > 1)
            raise _bad_header(where, f"{twin!r} twice")
        return dict(pairs)

    try:
        # Decoded here: the parser would take UTF-16 too, in which readers see another header.
        header = json.loads(text.decode("utf-8"), object_pairs_hook=no_twins)
    except (ValueError, RecursionError) as error:
        raise _bad_header(where, str(error)) from error
    if not isinstance(header, dict):
        raise _bad_header(where, f"a {type(header).__name__}")
    notes: object = cast("dict[str, Any]", header).get("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in cast("dict[str, object]", notes).values()):
        raise _bad_header(where, f"'__metadata__': {_short(cast('object', notes))}, which may hold texts alone")
    return cast("dict[str, Any]", header)


def _short(value: object) -> str:
    """A value as it stands, no longer than a line."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + " …"


def _bad_header(where: str, found: str) -> CheckpointError:
    return CheckpointError(
        "the header of a weight file is damaged",
        where=where,
        expected="a safetensors header: name → dtype, shape, offsets of data without holes",
        found=found,
        remedy="download or copy the file again",
    )


def _not_safetensors(where: str, start: bytes, size: int) -> CheckpointError:
    if start.startswith(_LFS_POINTER):
        return CheckpointError(
            "a weight file is only a pointer of Git LFS",
            where=where,
            expected="the weights themselves",
            found=f"{size} bytes of text that name them",
            remedy="run `git lfs pull` in that folder, or give the hub id instead of the clone",
        )
    return CheckpointError(
        "a weight file is no safetensors file, or cut short",
        where=where,
        expected="8 bytes of header length, then the header",
        found=f"{size} bytes that begin with {start[:16]!r}",
        remedy="download or copy the file again",
    )
