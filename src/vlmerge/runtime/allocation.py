"""Memory that a CPU's batches free is kept for the next batch, instead of being given back to the system page by page."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt."""
KEPT = 1 << 30
"""Bytes at the end of the heap that may stay."""
LARGEST = 32 << 20
"""Bytes of a request that is still taken from the heap; glibc allows no more."""


def keep_freed_memory() -> None:
    """Tells glibc; elsewhere nothing happens.

    Activations come and go in every layer: to get fresh pages costs more than to fill them.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(MMAP_THRESHOLD, LARGEST)
    mallopt(TRIM_THRESHOLD, KEPT)
