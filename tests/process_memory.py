"""This process's own memory, for tests that hold it small."""

from __future__ import annotations

from pathlib import Path

import pytest


def anonymous_bytes() -> int:
    """Bytes that no file backs; skips the test where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc")
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("RssAnon"))
