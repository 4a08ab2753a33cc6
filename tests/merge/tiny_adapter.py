"""Tiny adapters written by hand as peft leaves them, for the models of `tiny_family`. Imports nothing of vlmerge."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tiny_family import HIDDEN, INTER, LAYERS

RANK, ALPHA = 4, 6
SHAPES = {"self_attn.q_proj": (HIDDEN, HIDDEN), "mlp.down_proj": (HIDDEN, INTER), "mlp.up_proj": (INTER, HIDDEN)}
MODULES = {f"model.layers.{layer}.{name}": shape for layer in range(LAYERS) for name, shape in SHAPES.items()}
"""Module (a plain LM's name) → shape of its weight."""

NAMINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda module: module,
    "hf": lambda module: f"language_model.{module}",
    "hf-new": lambda module: f"model.language_model.{module.removeprefix('model.')}",
    "decoder alone": lambda module: module.removeprefix("model."),
}
"""How transformers called a decoder's modules when the adapter was trained."""


def pairs(seed: int = 7, dtype: torch.dtype = torch.bfloat16) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Module → (A, B)."""
    generator = torch.Generator().manual_seed(seed)
    return {
        module: (
            (torch.randn(RANK, columns, generator=generator) * 0.2).to(dtype),
            (torch.randn(rows, RANK, generator=generator) * 0.2).to(dtype),
        )
        for module, (rows, columns) in MODULES.items()
    }


def write_adapter(
    path: Path, *, naming: str = "plain", storage: str = "safetensors", infix: str = "", prefix: str = "base_model.model.",
    tensors: Mapping[str, torch.Tensor | None] | None = None, seed: int = 7, **settings: Any,
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:  # fmt: skip
    """Writes a folder; gives module → (A, B).

    Args:
        path: The folder to make.
        naming: Key of `NAMINGS`.
        storage: `safetensors` or `bin`.
        infix: Name of the adapter in the tensors' names, as `.default`.
        prefix: Of all names.
        tensors: Further tensors by their whole names; None takes one out.
        seed: Of the values.
        settings: Further keys of adapter_config.json.
    """
    path.mkdir(parents=True)
    given = pairs(seed)
    named: dict[str, torch.Tensor | None] = {}
    for module, (down, up) in given.items():
        at = prefix + NAMINGS[naming](module)
        named |= {f"{at}.lora_A{infix}.weight": down, f"{at}.lora_B{infix}.weight": up}
    named |= tensors or {}
    kept = {name: tensor for name, tensor in named.items() if tensor is not None}
    if storage == "bin":
        torch.save(kept, path / "adapter_model.bin")
    else:
        save_file(kept, path / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": sorted(SHAPES), "init_lora_weights": True}
    (path / "adapter_config.json").write_text(json.dumps(config | settings), encoding="utf-8")
    return given
