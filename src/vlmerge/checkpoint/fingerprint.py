"""What a model is by content: one sha256 over config and weights, the same wherever the files lie.

Hashing 14 GB takes about a minute, so it is done at most once per file: the hub's cache already names large files by their
sha256, and for other files the hash is remembered by path, size and modification time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from vlmerge.atomic import write_text
from vlmerge.cache import cache_folder

_CHUNK = 1 << 22
_SHA256 = re.compile(r"[0-9a-f]{64}")


def fingerprint(folder: Path, files: Sequence[str]) -> str:
    """sha256 (hex) over the names and contents of `files` in `folder`, in sorted order."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{_file_hash(folder / name)}\n".encode())
    return total.hexdigest()


def joined(*fingerprints: str) -> str:
    """sha256 (hex) over fingerprints, in their order."""
    return hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    if path.is_symlink() and (blob := path.readlink()).parent.name == "blobs" and _SHA256.fullmatch(blob.name):
        return blob.name  # The hub's client stores large files under their sha256 and checked it when it downloaded them.
    facts = path.stat()
    key = f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"
    memo = _read_memo()
    if key in memo:
        return memo[key]
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    _remember(key, found.hexdigest())
    return found.hexdigest()


def _read_memo() -> dict[str, str]:
    try:
        memo: Any = json.loads((cache_folder() / "fingerprints.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # No memory, or a damaged one: the files are hashed again.
    return cast("dict[str, str]", memo) if isinstance(memo, dict) else {}


def _remember(key: str, value: str) -> None:
    """Best effort: without a writable cache the file is hashed again next time."""
    with contextlib.suppress(OSError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "fingerprints.json", json.dumps(_read_memo() | {key: value}, indent=0))
