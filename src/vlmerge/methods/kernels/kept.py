"""Where compiled kernels are kept: in vlmerge's cache, under a name that changes with any line of their source.

numba itself looks only at the file of the function that is called, not at what that function calls in other files.
"""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator
from pathlib import Path

from numba import config

from vlmerge.cache import cache_folder


@contextlib.contextmanager
def kept_on_disk() -> Generator[None]:
    """Functions that are decorated inside the block are kept there; numba's own setting is put back after it."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    before = config.CACHE_DIR
    config.CACHE_DIR = str(cache_folder() / "kernels" / digest.hexdigest()[:16])
    try:
        yield
    finally:
        config.CACHE_DIR = before
