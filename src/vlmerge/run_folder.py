"""A run's folder on disk: its lock, its files, and where its store can live.

A live store needs a file system with working locks and shared memory. Where the folder has none (Google Drive, NFS), the
store lives in this machine's cache, its home, and whole copies of it, snapshots, go to the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from vlmerge.atomic import copy_file, put, write_text
from vlmerge.cache import cache_folder
from vlmerge.errors import RunFolderError
from vlmerge.store import STORE_NAME, Store, moved_text

LIVE_STORE_UNSAFE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "drvfs", "fuse", "lustre", "ceph", "glusterfs")
"""File systems whose locks or shared memory a live SQLite write-ahead log cannot trust; any `fuse.*` as well (Google Drive)."""

LOCK_NAME = ".lock"
CONFIG_NAME = "run.yaml"
"""The run as it is used, to go on with it from its folder."""
STOP_NAME = ".stop"
"""A file of this name asks the process that works on the folder to stop when its candidate is finished."""
MERGED = "merged"
"""Within the folder of a run of two parts, the folder of the first."""
BEGUN = "first_part"
"""In the store of a run of two parts: that the first one has written something, by the run folder's path at that time."""

LOCKS = Path("/proc/locks")
"""Where Linux lists who holds which lock."""

LOOKED_AT = 0.5
"""Seconds to wait for the lock: where the system does not list its locks, a look at it holds it for an instant."""


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
        """Puts an atomic snapshot of the store into the folder, where the store itself lives elsewhere.

        Raises:
            RunFolderError: The folder cannot be written; the live store is whole.
        """
        if not self.elsewhere:
            return
        whole = self.store.path.with_name(f".published.{STORE_NAME}")
        try:
            # SQLite works on local files only; the folder sees bytes and a rename.
            self.store.snapshot(whole)
            copy_file(whole, self.path / STORE_NAME)
        except OSError as error:
            raise RunFolderError(
                "the record of the run cannot be copied into its folder",
                where=str(self.path / STORE_NAME),
                found=str(error),
                remedy=f"make room or connect the drive again, then start again; the record is kept in {self.store.path}",
            ) from error
        finally:
            whole.unlink(missing_ok=True)

    def write(self, name: str, text: str) -> None:
        """Writes a small file, whole or not at all."""
        write_text(self.path / name, text)

    def write_yaml(self, name: str, text: str) -> None:
        """The same; what the first part of two found is named from this folder, so that it may be moved."""
        self.write(name, moved_text(text, str(self.path / MERGED), f"./{MERGED}"))

    def stop_asked(self) -> bool:
        """Whether somebody asked the run to stop (`ask_to_stop`); asking is over once it is heard.

        The first part of a run of two hears what the whole is asked, too: it is what runs then.
        """
        return _heard(self.path) or (self.path.name == MERGED and _heard(self.path.parent))


@contextlib.contextmanager
def open_run(path: Path) -> Generator[RunFolder]:
    """Locks a run folder, makes it if need be, and opens its store.

    A start that fails before anything was recorded takes away again what it made; later, what is recorded stays.

    Raises:
        RunFolderError: Another process works on it, or the folder holds something else, or it cannot be written.
    """
    path = path.absolute()
    elsewhere = not can_hold_live_store(path)
    home = _local_home(path) if elsewhere else path
    _refuse_foreign(path, home)
    # What this call makes is taken away while the lock is held: the next process to get it finds all of it or nothing.
    with (
        _locked(path, home) as made,
        made,
        _open_elsewhere(path, home, made) if elsewhere else _open_store(path, made) as store,
    ):
        folder = RunFolder(path, store, elsewhere)
        if _has_moved(path, store):  # The record names what the first part found by its path.
            with store.transaction():
                store.relocate(str(Path(store.get(BEGUN), MERGED)), str(path / MERGED))
                store.set(BEGUN, str(path))
        _heard(path)  # That was meant for another process, which has ended.
        try:
            folder.publish()
            yield folder
        except BaseException:
            if store.get("config_asked") is not None or store.get(BEGUN):
                made.pop_all()
                with contextlib.suppress(RunFolderError):  # The first error is the one to tell of.
                    folder.publish()
            raise
        made.pop_all()
        folder.publish()


def settle(path: Path) -> None:
    """Before a run's models are read from its record: where its folder was moved, the record learns where it lies now.

    Args:
        path: The run folder.

    Raises:
        RunFolderError: It was moved, and cannot be written, or another process works on it.
    """
    path = path.absolute()
    with Store.read_only(readable_store(path)) as store:
        if not _has_moved(path, store) or (Path(was := store.get(BEGUN)).exists() and Path(was).samefile(path)):
            return
    with open_run(path):
        pass


def _has_moved(path: Path, store: Store) -> bool:
    was = store.get(BEGUN)
    return isinstance(was, str) and was != str(path)


def can_hold_live_store(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Whether the folder's file system can hold a live SQLite write-ahead log. `VLMERGE_STORE=local|folder` decides by hand."""
    forced = os.environ.get("VLMERGE_STORE")
    if forced in ("local", "folder"):
        return forced == "folder"
    if not mounts.is_file():
        return True
    path = path.resolve()
    kind, longest = "", -1
    for line in mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields = line.split()
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[1])
        # Of two mounts at one point, the later one lies on top.
        if path.is_relative_to(point) and len(point) >= longest:
            kind, longest = fields[2], len(point)
    return not (kind in LIVE_STORE_UNSAFE or kind.startswith("fuse."))


def readable_store(path: Path) -> Path:
    """Where a run's record is read while another process may work on it: the live store, or the folder's snapshot.

    Args:
        path: The run folder.
    """
    snapshot = path / STORE_NAME
    if can_hold_live_store(path):
        return snapshot
    local = _local_home(path) / STORE_NAME
    if not local.is_file():
        return snapshot
    newer = not snapshot.is_file() or _written_at(local) >= _written_at(snapshot)
    return local if newer or is_worked_on(path) else snapshot


def is_worked_on(path: Path) -> bool:
    """Whether a process of this machine works on the folder, found out without taking its lock where the system lists locks."""
    lock = (path if can_hold_live_store(path) else _local_home(path)) / LOCK_NAME
    try:
        about = lock.stat()
    except OSError:
        return False
    if LOCKS.is_file():
        fields = LOCKS.read_text(encoding="ascii", errors="replace").split()
        if f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}" in fields:
            return True
        # Some file systems (btrfs) are listed under another device than files say they are on.
        if not any(field.endswith(f":{about.st_ino}") for field in fields):
            return False
    return _is_locked(lock)


def _is_locked(lock: Path) -> bool:
    import fcntl

    with contextlib.suppress(OSError), lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
    return False


def ask_to_stop(path: Path) -> None:
    """Asks the process that works on the folder to stop when its candidate is finished, as Ctrl-C would.

    Raises:
        RunFolderError: Nobody works on it, or the folder cannot be written.
    """
    if not is_worked_on(path):
        raise RunFolderError(
            "nobody works on this run folder",
            where=str(path),
            expected="a process of this machine that can be asked to stop",
            found="its lock is free",
            remedy="nothing needs to be stopped",
        )
    try:
        write_text(path / STOP_NAME, "")
    except OSError as error:
        raise RunFolderError(
            "the run folder cannot be written",
            where=str(path / STOP_NAME),
            found=str(error),
            remedy="stop the run where it was started, with Ctrl-C",
        ) from error


def stop_pending(path: Path) -> bool:
    """Whether the run was asked to stop and has not heard it yet."""
    return (path / STOP_NAME).exists()


def part_at_work(path: Path) -> Path:
    """The run folder whose record tells how a run stands: of a run of two parts its first part's, until the second has begun.

    Args:
        path: The run folder.
    """
    inside = path / MERGED
    if not readable_store(inside).is_file():
        return path
    with Store.read_only(readable_store(path)) as store:
        return path if store.get("config_asked") is not None else inside


def _heard(path: Path) -> bool:
    try:
        (path / STOP_NAME).unlink()
    except OSError:  # Nobody asked, or the drive is away for a moment.
        return False
    return True


def _written_at(store: Path) -> float:
    files = (store, store.with_name(f"{store.name}-wal"))
    return max(file.stat().st_mtime for file in files if file.exists())


def _local_home(path: Path) -> Path:
    return cache_folder().absolute() / "runs" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]


def _refuse_foreign(path: Path, home: Path) -> None:
    if path.exists() and not path.is_dir():
        raise RunFolderError("the run folder is a file", where=str(path), remedy="name another folder with --out")
    # Where the store lives elsewhere, a kill or a full drive may leave files of a run without a snapshot beside them.
    if (path / STORE_NAME).exists() or (home / STORE_NAME).exists() or not (found := _visible(path)):
        return
    raise RunFolderError(
        "the folder is not empty and not a run folder",
        where=str(path),
        expected=f"an empty or new folder, or one with {STORE_NAME}",
        found=", ".join(found[:5]),
        remedy="name another folder with --out",
    )


def _visible(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(".")) if path.is_dir() else []


@contextlib.contextmanager
def _locked(path: Path, home: Path) -> Generator[contextlib.ExitStack]:
    """Makes the folder and locks it; gives a stack that takes away what was made. The lock lies where locks work."""
    made = contextlib.ExitStack()
    lock = FileLock(home / LOCK_NAME, timeout=LOOKED_AT)
    try:
        for folder in dict.fromkeys((path, home)):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                made.callback(_remove_empty, folder)
        lock.acquire()
    except Timeout as error:
        raise RunFolderError(
            "another process works on this run folder",
            where=str(path),
            expected="nobody else at work here",
            found=f"{home / LOCK_NAME} is locked",
            remedy="wait for it or stop it; `vlmerge report` can be used meanwhile",
        ) from error
    except OSError as error:
        made.close()
        raise RunFolderError(
            "the run folder cannot be written", where=str(path), found=str(error), remedy="name another folder with --out"
        ) from error
    made.callback((home / LOCK_NAME).unlink, missing_ok=True)
    if not (path / STORE_NAME).exists():
        made.callback((path / CONFIG_NAME).unlink, missing_ok=True)
    try:
        yield made
    finally:
        lock.release()


def _open_store(home: Path, made: contextlib.ExitStack) -> Store:
    store = home / STORE_NAME
    if not store.exists():
        made.callback(_move_store, store, None)
    Store.create(store).close()  # A killed creation leaves an empty file: it is finished here.
    return Store.open(store)


def _open_elsewhere(path: Path, home: Path, made: contextlib.ExitStack) -> Store:
    """The local store; the folder's snapshot takes its place where the run went on on another machine (a new Colab session).

    A store that must give way is set aside, not deleted.
    """
    local, snapshot = home / STORE_NAME, path / STORE_NAME
    if not snapshot.is_file():
        made.callback(snapshot.unlink, missing_ok=True)
        if not _visible(path):
            _set_aside(local)  # The folder was emptied: a new run is wanted.
    else:
        taken = home / f".taken.{STORE_NAME}"
        shutil.copyfile(snapshot, taken)
        if _ahead(taken, local, named=snapshot):
            _set_aside(local)
            put(taken, local)
        taken.unlink(missing_ok=True)
    return _open_store(home, made)


def _ahead(taken: Path, local: Path, named: Path) -> bool:
    """Whether a copy of the snapshot is of another run than the local store, or further on in the same."""
    try:
        with Store.read_only(taken) as store:
            config, progress = store.get("config_asked"), _progress(store)
    except RunFolderError as error:
        raise RunFolderError(
            error.what, where=str(named), expected=error.expected, found=error.found, remedy=error.remedy
        ) from error
    if not local.is_file():
        return True
    Store.create(local).close()
    with Store.open(local) as store:
        known = store.get("config_asked")
        return config is not None and (config != known or progress > _progress(store))


def _progress(store: Store) -> tuple[bool, int, int, int]:
    asked = store.generations()
    scored = sum(store.has_answers(trial.trial, split) for trial in store.trials() for split in ("validation", "holdout"))
    return bool(store.get("finished")), store.next_trial(), len(asked) + sum(g.fitness is not None for g in asked), scored


def _set_aside(store: Path) -> None:
    _move_store(store.with_name(f"former.{STORE_NAME}"), None)
    _move_store(store, store.with_name(f"former.{STORE_NAME}"))


def _move_store(store: Path, to: Path | None) -> None:
    """Moves a closed store with its write-ahead log; None: deletes it."""
    for suffix in ("", "-wal", "-shm"):
        file = store.with_name(store.name + suffix)
        if to is None:
            file.unlink(missing_ok=True)
        elif file.exists():
            file.replace(to.with_name(to.name + suffix))


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Somebody else's files are in it: it stays.
        folder.rmdir()
