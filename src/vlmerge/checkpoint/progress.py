"""How a long step says how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called now and then during a download or a write.

    Args:
        label: What is being worked on, e.g. `org/name: model-00001-of-00002.safetensors` or `writing OUT`.
        done: Bytes done so far under this label.
        total: Bytes in all, 0 where unknown.
    """

    def __call__(self, label: str, done: int, total: int) -> None: ...
