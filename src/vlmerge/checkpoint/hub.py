"""Models on the hub: what to download, what to read by range, and what to say when the hub refuses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.checkpoint.headers import WeightsFormat
from vlmerge.types import TensorInfo

if TYPE_CHECKING:
    from vlmerge.config.model_ref import ModelRef


@dataclass(frozen=True)
class RemoteCheckpoint:
    """A model on the hub, known by its headers. See `Headers` for the attributes.

    `tensors` is empty for `weights_format == "bin"`: shapes in a pickle cannot be read by range, and are confirmed after the download.
    """

    ref: ModelRef
    path: Path
    revision: str
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]
    weights_format: WeightsFormat
    total_bytes: int
    licence: str | None

    def side_files(self) -> dict[str, Path]:
        """Files that a merged model takes over unchanged: relative name → file, sorted by name."""
        raise NotImplementedError
