"""What is found out once and kept, but not without bound: the eldest goes."""

from __future__ import annotations

from typing import Any


def forget_eldest(known: dict[Any, Any], most: int) -> None:
    """Makes room for one more of at most `most` entries."""
    if len(known) >= most:
        del known[next(iter(known))]
