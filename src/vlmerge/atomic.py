"""Files that are either the old ones or the new ones, whole: written beside, flushed to disk, renamed, the rename flushed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Generator
from pathlib import Path

from vlmerge.errors import UserError


def write_bytes(path: Path, data: bytes) -> Path:
    """Writes a file so that a reader (or a crash) sees all of it or none of it; two processes at once do no harm."""
    with _beside(path, f"{os.getpid()}.partial") as partial:
        partial.write_bytes(data)
        put(partial, path)
    return path


def make_folder(path: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        UserError: It cannot be made there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            "the folder cannot be made",
            where=str(path),
            expected="a place where folders can be made",
            found=error.strerror or str(error),
            remedy="name another place",
        ) from error


def write_text(path: Path, text: str) -> Path:
    """`write_bytes` for UTF-8 text."""
    return write_bytes(path, text.encode())


def copy_file(source: Path, target: Path) -> None:
    """Copies a file, which may be large; the caller sees to it that there is one writer, who takes over what a kill left."""
    with _beside(target, "partial") as partial:
        shutil.copyfile(source, partial)
        put(partial, target)


def put(partial: Path, target: Path) -> None:
    """Flushes a finished file, renames it, and flushes the rename."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)
    flush_folder(target.parent)


def flush_folder(folder: Path) -> None:
    """Flushes a folder's entries, where the file system can: on some network drives the rename is all there is."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _beside(path: Path, ending: str) -> Generator[Path]:
    partial = path.with_name(f".{path.name}.{ending}")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)
