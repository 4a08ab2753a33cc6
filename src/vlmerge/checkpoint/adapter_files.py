"""An adapter as peft saves one, by its files: found, checked and read by tensor. What they mean, `adapters` knows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.checkpoint import fingerprint, layout
from vlmerge.checkpoint.licence import read_licence
from vlmerge.checkpoint.pickled import PickledShards
from vlmerge.checkpoint.reader import SafetensorsShards, Shards, join_shards
from vlmerge.config.model_ref import ModelRef
from vlmerge.errors import CheckpointError
from vlmerge.licences import joined
from vlmerge.types import TensorInfo

if TYPE_CHECKING:
    import torch

    from vlmerge.checkpoint.headers import Headers


@dataclass(frozen=True, eq=False)
class AdapterFiles:
    """An adapter whose files were checked; made by `open_adapter` and `resolve_adapter`.

    Attributes:
        ref: How the person named it.
        path: Folder that holds its config (and its weights, where they are here).
        revision: Commit hash on the hub; None for a folder.
        config: adapter_config.json as it stands.
        tensors: By name, in file order. Empty where only a download can tell (`.bin` on the hub).
        weight_files: Files that hold the weights, relative to `path`.
        total_bytes: Size of those files in bytes.
        licence: As its card or LICENSE file says; None where neither does.
        is_here: Whether the weights are on this machine.
    """

    ref: ModelRef
    path: Path
    revision: str | None
    config: dict[str, Any]
    tensors: Mapping[str, TensorInfo]
    weight_files: tuple[str, ...]
    total_bytes: int
    licence: str | None
    is_here: bool
    _shards: Mapping[str, Shards] = field(repr=False)

    def read(self, name: str) -> torch.Tensor:
        """One tensor on the CPU in its own dtype: never write into it."""
        info = self.tensors[name]
        return self._shards[info.shard].read(info)

    def fingerprint(self) -> str:
        """sha256 over names and contents of adapter_config.json and the weight files."""
        return fingerprint.fingerprint(self.path, [layout.ADAPTER_CONFIG, *self.weight_files])


@dataclass(frozen=True)
class MergedAdapter:
    """The adapter that is merged into a checkpoint whenever a tensor is read.

    Attributes:
        files: The adapter.
        changed: The checkpoint's tensors that it changes; None where only a download can tell.
    """

    files: AdapterFiles
    changed: frozenset[str] | None

    def changes(self, name: str) -> bool:
        """Whether it is known to change a tensor of the checkpoint, which is then computed whenever it is read."""
        return self.changed is not None and name in self.changed


def open_adapter(path: Path, ref: ModelRef, revision: str | None = None) -> AdapterFiles:
    """Opens an adapter's folder and checks it whole before anybody reads a weight.

    Raises:
        CheckpointError: Config or weights are missing, cut short or damaged; a `.bin` holds more than tensors.
    """
    config = parse_adapter_config(path)
    files = adapter_weights([entry.name for entry in path.iterdir()], str(path))
    safe, pickled = SafetensorsShards(path), PickledShards(path)
    shards: dict[str, Shards] = {file: safe if file.endswith(".safetensors") else pickled for file in files}
    return AdapterFiles(
        ref=ref,
        path=path,
        revision=revision,
        config=config,
        tensors=join_shards([opened.header(file) for file, opened in shards.items()], str(path)),
        weight_files=files,
        total_bytes=sum((path / file).stat().st_size for file in files),
        licence=read_licence(path),
        is_here=True,
        _shards=shards,
    )


def remote_adapter(
    ref: ModelRef, path: Path, files: Mapping[str, int], headers: Sequence[Sequence[TensorInfo]] | None
) -> AdapterFiles:
    """An adapter on the hub, of which the small files are in `path` and the weights are known by their headers.

    Args:
        ref: How the person named it.
        path: Folder of the cache, called as the commit.
        files: Weight file → bytes.
        headers: Tensors of each file; None where they can be known only after a download.
    """
    return AdapterFiles(
        ref=ref,
        path=path,
        revision=path.name,
        config=parse_adapter_config(path),
        tensors={} if headers is None else join_shards(headers, str(ref)),
        weight_files=tuple(files),
        total_bytes=sum(files.values()),
        licence=read_licence(path),
        is_here=False,
        _shards={},
    )


def parse_adapter_config(folder: Path) -> dict[str, Any]:
    """Reads adapter_config.json of a folder; raises CheckpointError if it is absent or no JSON object."""
    path = folder / layout.ADAPTER_CONFIG

    def refuse(found: str) -> CheckpointError:
        return CheckpointError(
            f"the adapter's {layout.ADAPTER_CONFIG} cannot be read",
            where=str(folder),
            expected=f"a folder of peft's, with its {layout.ADAPTER_CONFIG}: a JSON object",
            found=found,
            remedy="check the path: what stands behind `+` is an adapter; a whole model is named alone",
        )

    try:
        text = path.read_bytes()
    except OSError as error:
        raise refuse("no such file" if not path.exists() else str(error)) from error
    return layout.parse_object(text, refuse)


def adapter_weights(names: Collection[str], where: str) -> tuple[str, ...]:
    """Picks the weight files among an adapter's file names; raises CheckpointError if there is none that can be used.

    LLaVA's own training code saves the weights that it trains whole (the projector) in a second file.
    """
    for file in layout.ADAPTER_WEIGHTS:
        if file in names:
            return (file, *(more for more in (layout.NON_LORA_WEIGHTS,) if more in names))
    found = sorted(name for name in names if name.endswith((".safetensors", ".bin", ".pt", ".pth", ".gguf", ".index.json")))
    raise CheckpointError(
        "the adapter has no weights that can be read",
        where=where,
        expected=" or ".join(layout.ADAPTER_WEIGHTS),
        found=", ".join(found[:6]) + (" …" if len(found) > 6 else "") or "no weight file at all",
        remedy="name a folder or a repository as peft's save_pretrained leaves it",
    )


def pinned_ref(checkpoint: Headers) -> ModelRef:
    """The reference of a checkpoint with the commits that were found, of the model and of its adapter."""
    ref, adapter = checkpoint.ref, checkpoint.adapter
    own = ModelRef(ref.path, checkpoint.revision or ref.revision)
    if adapter is None:
        return own
    behind = ModelRef(adapter.files.ref.path, adapter.files.revision or adapter.files.ref.revision)
    return ModelRef(own.path, own.revision, behind)


def licence_of(checkpoint: Headers) -> str | None:
    """The licence of the model, and that of its adapter, if it has one, as one text (`licences.joined`)."""
    adapter = checkpoint.adapter
    return checkpoint.licence if adapter is None else joined((checkpoint.licence, adapter.files.licence))
