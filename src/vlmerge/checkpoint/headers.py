"""What is known of a checkpoint without reading a weight: the part that local and remote checkpoints share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vlmerge.types import TensorInfo

if TYPE_CHECKING:
    from vlmerge.checkpoint.adapter_files import MergedAdapter
    from vlmerge.config.model_ref import ModelRef

WeightsFormat = Literal["safetensors", "bin"]


class Headers(Protocol):
    """A checkpoint known by its headers: `Checkpoint` (weights here) and `RemoteCheckpoint` (weights on the hub)."""

    @property
    def ref(self) -> ModelRef:
        """How the person named it."""
        ...

    @property
    def path(self) -> Path:
        """Folder that holds config, tokenizer and processor files (and the weights, for a `Checkpoint`)."""
        ...

    @property
    def revision(self) -> str | None:
        """Commit hash on the hub; None for a folder."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """config.json as it stands, defaults not filled in."""
        ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """By name, in file order. Empty where only a download can tell (`bin` on the hub)."""
        ...

    @property
    def weights_format(self) -> WeightsFormat:
        """`safetensors`, or `bin` where there is nothing else."""
        ...

    @property
    def total_bytes(self) -> int:
        """Size of the weight files in bytes."""
        ...

    @property
    def licence(self) -> str | None:
        """As README.md's front matter or the LICENSE file says; None where neither does."""
        ...

    @property
    def adapter(self) -> MergedAdapter | None:
        """What is merged into it as it is read; `tensors`, `path`, `revision` and the rest are those of the model alone."""
        ...

    def side_files(self) -> dict[str, Path]:
        """Files that a merged model takes over unchanged: relative name → file, sorted by name."""
        ...
