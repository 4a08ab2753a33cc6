"""A checkpoint on this machine: validated from its headers, then read tensor by tensor out of mapped files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.checkpoint.headers import WeightsFormat
from vlmerge.types import TensorInfo

if TYPE_CHECKING:
    import torch

    from vlmerge.config.model_ref import ModelRef


@dataclass(frozen=True)
class Checkpoint:
    """A model folder whose files were checked. See `Headers` for the attributes."""

    ref: ModelRef
    path: Path
    revision: str | None
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]
    weights_format: WeightsFormat
    total_bytes: int
    licence: str | None

    def read(self, name: str) -> torch.Tensor:
        """One tensor on the CPU in its own dtype, backed by the mapped file: never write into it."""
        raise NotImplementedError

    def side_files(self) -> dict[str, Path]:
        """Files that a merged model takes over unchanged: relative name → file, sorted by name."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """sha256 over names and contents of config.json and the weight files; the same for a folder and for the hub's cache."""
        raise NotImplementedError


def open_checkpoint(path: Path, ref: ModelRef, revision: str | None = None) -> Checkpoint:
    """Opens a model folder; raises CheckpointError for anything that is missing, cut short or inconsistent."""
    raise NotImplementedError
