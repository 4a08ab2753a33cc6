"""Model folders made by hand, as people upload them: whole, in shards with an index, as pickles old and new."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "torch_dtype": "float16"}


def some_tensors(seed: int = 1) -> dict[str, torch.Tensor]:
    """Tensors of several types, with names in the order of a model rather than of the alphabet."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "model.embed_tokens.weight": torch.randn(6, 4, generator=generator).half(),
        "model.layers.0.self_attn.q_proj.weight": torch.randn(4, 4, generator=generator).half(),
        "model.layers.0.mlp.up_proj.weight": torch.randn(8, 4, generator=generator).half(),
        "model.norm.weight": torch.randn(4, generator=generator).half(),
        "lm_head.weight": torch.randn(6, 4, generator=generator).half(),
    }


def whole(folder: Path, tensors: Mapping[str, torch.Tensor] | None = None) -> Path:
    """A folder with one model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(dict(some_tensors() if tensors is None else tensors), folder / "model.safetensors", {"format": "pt"})
    return folder


def in_shards(folder: Path, groups: Sequence[Sequence[str]] | None = None) -> Path:
    """A folder with two shards and their index."""
    tensors = some_tensors()
    names = list(tensors)
    groups = [names[:2], names[2:]] if groups is None else groups
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    weight_map: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        shard = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        save_file({name: tensors[name] for name in group}, folder / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(group, shard)
    write_index(folder, weight_map)
    return folder


def write_index(folder: Path, weight_map: Mapping[str, str], name: str = "model.safetensors.index.json") -> None:
    """An index over the shards of a folder."""
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": dict(weight_map)}))


def pickled(folder: Path, tensors: Mapping[str, object] | None = None, *, old: bool = False) -> Path:
    """A folder with one pytorch_model.bin, in torch's zip format or the one before it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    data = dict(some_tensors() if tensors is None else tensors)
    torch.save(data, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not old)
    return folder


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Equal in type, shape and every bit."""
    return left.dtype == right.dtype and left.shape == right.shape and raw(left) == raw(right)


def raw(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
