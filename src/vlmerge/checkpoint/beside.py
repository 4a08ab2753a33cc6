"""A folder that is there whole or not at all: written beside its goal, synced, renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Generator
from pathlib import Path

from vlmerge.atomic import flush_folder
from vlmerge.errors import CheckpointError


def check_absent(out: Path) -> None:
    """Raises CheckpointError unless `out` is absent or an empty folder."""
    if not out.is_dir():
        found = "a file" if out.exists() or out.is_symlink() else None
    else:
        names = sorted(entry.name for entry in out.iterdir())
        found = ", ".join(names[:4]) + (", …" if len(names) > 4 else "") if names else None
    if found is not None:
        raise CheckpointError(
            "the output folder is not empty",
            where=str(out),
            expected="a folder that is absent or empty",
            found=found,
            remedy="choose another folder, or empty this one: nothing in it was touched",
        )


def free_bytes(folder: Path) -> int:
    """Room on the disk of a folder, which need not be there yet."""
    there = folder.absolute()
    return shutil.disk_usage(next(each for each in (there, *there.parents) if each.is_dir())).free


def check_space(out: Path, needed: int) -> None:
    """Raises CheckpointError if the disk below `out` has less than `needed` bytes free."""
    free = free_bytes(out.absolute().parent)
    if needed > free:
        raise CheckpointError(
            "the disk is too small for the result",
            where=str(out),
            expected=f"{needed:,} bytes free",
            found=f"{free:,} bytes free",
            remedy="free some space, or choose a folder on another disk",
        )


@contextlib.contextmanager
def written_beside(out: Path) -> Generator[Path]:
    """Gives a hidden folder beside `out` to write into; when the block ends well it is synced and becomes `out`.

    If the block raises anything, an interrupt included, the hidden folder is removed. What a killed process left is removed by
    the next one; what a living process is writing is not.

    Raises:
        CheckpointError: Another process is writing the same folder, or the disk is full.
    """
    out = out.resolve()
    partial = out.parent / f".{out.name}.partial"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir(exist_ok=True)
    except OSError as error:
        raise _cannot_write(out, error) from error
    with _claimed(partial, out):
        try:
            yield partial
            _sync(partial)
            _rename(partial, out)
            flush_folder(out.parent)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise CheckpointError(
                    "the disk became full while writing; what was written is removed",
                    where=str(out),
                    remedy="free some space, or choose a folder on another disk",
                ) from error
            raise


def _rename(partial: Path, out: Path) -> None:
    try:
        partial.rename(out)
    except OSError as error:  # Filled by somebody else in the meantime, or a mount point.
        raise _cannot_write(out, error) from error


def _cannot_write(out: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        "the output folder cannot be made",
        where=str(out),
        expected="a folder that can be made or replaced, absent or empty",
        found=str(error),
        remedy="choose another folder",
    )


@contextlib.contextmanager
def _claimed(partial: Path, out: Path) -> Generator[None]:
    """Empties the hidden folder and makes it ours: a lock on the folder itself tells a living writer from a killed one."""
    handle = os.open(partial, os.O_RDONLY)
    try:
        if not _lock(handle) or not _is_same(handle, partial):
            raise CheckpointError(
                "another process is writing this folder",
                where=str(out),
                expected="one writer at a time",
                found=f"{partial.name} in use",
                remedy="wait for it, or choose another folder",
            )
        for entry in list(partial.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # Some network file systems have no locks; there two writers at once are the person's to avoid.
    return True


def _is_same(handle: int, path: Path) -> bool:
    """Whether the folder was not renamed away between opening and locking it."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _sync(folder: Path) -> None:
    for entry in sorted(folder.rglob("*")):
        if entry.is_dir():
            flush_folder(entry)
        else:
            with entry.open("rb") as file:
                os.fsync(file.fileno())
    flush_folder(folder)
