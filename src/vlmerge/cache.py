"""Where vlmerge keeps what belongs to this machine alone: remembered hashes, and live stores of runs that lie on a drive."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "VLMERGE_CACHE"


def cache_folder() -> Path:
    """`$VLMERGE_CACHE`, else `vlmerge` in the user's cache folder; `~` is understood, and nothing is made yet."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vlmerge"
