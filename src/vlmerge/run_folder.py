"""A run's folder on disk: its lock, its files, and where its store can live."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from vlmerge.errors import RunFolderError
from vlmerge.store import STORE_NAME, Store

LIVE_STORE_UNSAFE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "drvfs", "fuse", "lustre", "ceph", "glusterfs")
"""File systems whose locks or shared memory a live SQLite write-ahead log cannot trust; any `fuse.*` as well (Google Drive)."""


@dataclass(frozen=True)
class RunFolder:
    """An opened, locked run folder.

    Attributes:
        path: The folder.
        store: Its live store: in the folder, or in the local cache where the folder cannot hold one.
        elsewhere: Whether the store lives outside, so that `publish` has work to do.
    """

    path: Path
    store: Store
    elsewhere: bool

    def publish(self) -> None:
        """Puts an atomic snapshot of the store into the folder, where the store itself lives elsewhere."""
        if self.elsewhere:
            self.store.snapshot(self.path / STORE_NAME)

    def write(self, name: str, text: str) -> None:
        """Writes a small file, whole or not at all."""
        write_whole(self.path / name, text)


def write_whole(path: Path, text: str) -> None:
    """Writes beside, flushes to disk, renames."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(path)


@contextlib.contextmanager
def open_run(path: Path) -> Iterator[RunFolder]:
    """Locks a run folder, makes it if need be, and opens its store.

    Raises:
        RunFolderError: Another process works on it, or the folder holds something else.
    """
    path = path.absolute()
    if path.exists() and not path.is_dir():
        raise RunFolderError("the run folder is a file", where=str(path), remedy="name another folder with --out")
    if path.is_dir() and not (path / STORE_NAME).exists() and any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise RunFolderError(
            "the folder is not empty and not a run folder",
            where=str(path),
            expected=f"an empty or new folder, or one with {STORE_NAME}",
            found=", ".join(sorted(entry.name for entry in path.iterdir())[:5]),
            remedy="name another folder with --out",
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_lock_path(path), timeout=0)
        lock.acquire()
    except Timeout as error:
        raise RunFolderError(
            "another process works on this run folder",
            where=str(path),
            remedy="wait for it or stop it; `vlmerge report` can be used meanwhile",
        ) from error
    except OSError as error:
        raise RunFolderError(
            "the run folder cannot be written", where=str(path), found=str(error), remedy="name another folder with --out"
        ) from error
    try:
        elsewhere = not can_hold_live_store(path)
        store = _open_elsewhere(path) if elsewhere else Store.create(path / STORE_NAME)
        with store:
            folder = RunFolder(path, store, elsewhere)
            yield folder
            folder.publish()
    finally:
        lock.release()


def can_hold_live_store(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Whether the folder's file system can hold a live SQLite write-ahead log. `VLMERGE_STORE=local|folder` decides by hand."""
    forced = os.environ.get("VLMERGE_STORE")
    if forced in ("local", "folder"):
        return forced == "folder"
    if not mounts.is_file():
        return True
    kind, longest = "", -1
    for line in mounts.read_text().splitlines():
        fields = line.split()
        point = fields[1].replace("\\040", " ")
        if path.is_relative_to(point) and len(point) > longest:
            kind, longest = fields[2], len(point)
    return not (kind in LIVE_STORE_UNSAFE or kind.startswith("fuse."))


def cache_folder() -> Path:
    """Where vlmerge keeps what belongs to this machine: `VLMERGE_CACHE`, else the user's cache folder."""
    home = os.environ.get("VLMERGE_CACHE")
    if home:
        return Path(home)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlmerge"


def _local_home(path: Path) -> Path:
    home = cache_folder() / "runs" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    return home


def _lock_path(path: Path) -> Path:
    """The lock lies where locks work: in the folder, or beside the local store."""
    return (path if can_hold_live_store(path) else _local_home(path)) / ".lock"


def _open_elsewhere(path: Path) -> Store:
    """The local store; a snapshot from another machine (a new Colab session) is taken over when it is the only one.

    A snapshot that is ahead of the local store (the run went on elsewhere) replaces it.
    """
    local, snapshot = _local_home(path) / STORE_NAME, path / STORE_NAME
    if snapshot.is_file() and (not local.is_file() or _progress(snapshot) > _progress(local)):
        for leftover in (local, local.with_name(f"{STORE_NAME}-wal"), local.with_name(f"{STORE_NAME}-shm")):
            leftover.unlink(missing_ok=True)
        partial = local.with_name(f".{STORE_NAME}.partial")
        partial.write_bytes(snapshot.read_bytes())
        partial.replace(local)
    elif local.is_file() and not snapshot.is_file():
        # The folder was emptied: a new run is wanted, not the old one.
        for leftover in (local, local.with_name(f"{STORE_NAME}-wal"), local.with_name(f"{STORE_NAME}-shm")):
            leftover.unlink(missing_ok=True)
    return Store.create(local)


def _progress(path: Path) -> tuple[int, int]:
    with Store.open(path) as store:
        return store.next_trial(), len(store.generations())
