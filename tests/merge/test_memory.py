"""A merge to disk takes little memory, however large the tensors are."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from process_memory import anonymous_bytes
from safetensors.torch import save_file

from vlmerge.config.recipe import Recipe, parse_recipe
from vlmerge.merge import merge

ROWS, HIDDEN, MIDDLE = 60_000, 256, 32
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": MIDDLE,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "num_key_value_heads": 4,
    "vocab_size": ROWS,
    "tie_word_embeddings": False,
}


def decoder(folder: Path, seed: int) -> Path:
    """Two tensors of 31 MB, and what else a decoder has."""
    torch.manual_seed(seed)
    at, square = "model.layers.0", (HIDDEN, HIDDEN)
    shapes = {"model.embed_tokens": (ROWS, HIDDEN), "lm_head": (ROWS, HIDDEN), "model.norm": (HIDDEN,)}
    shapes |= {f"{at}.self_attn.{each}_proj": square for each in "qkvo"}
    shapes |= {f"{at}.mlp.{each}_proj": (MIDDLE, HIDDEN) for each in ("gate", "up")} | {f"{at}.mlp.down_proj": (HIDDEN, MIDDLE)}
    shapes |= {f"{at}.{each}_layernorm": (HIDDEN,) for each in ("input", "post_attention")}
    folder.mkdir()
    save_file({f"{name}.weight": torch.randn(shape).bfloat16() for name, shape in shapes.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def recipe_of(method: str, base: Path, one: Path, two: Path) -> Recipe:
    values = {"weight": 0.4} | ({"density": 0.5} if method == "ties" else {})
    found: dict[str, Any] = {
        "merge_method": method,
        "models": [{"model": str(each), "parameters": values} for each in (one, two)],
    }
    if method == "slerp":
        found |= {"models": [{"model": str(one)}], "parameters": {"t": 0.4}}
    return parse_recipe(found | ({} if method == "linear" else {"base_model": str(base)}), method)


@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic", "ties"])
def test_a_merge_to_disk_keeps_no_tensor_in_memory(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(method, *(decoder(tmp_path / name, seed) for seed, name in enumerate(("base", "one", "two"))))
    # Once before, so that what libraries and compiled kernels take is there.
    merge(recipe, tmp_path / "first")
    monkeypatch.setattr(import_module("vlmerge.merge"), "PIECE", 1 << 18)
    seen: list[int] = []
    before = anonymous_bytes()
    merge(recipe, tmp_path / "out", progress=lambda *_: seen.append(anonymous_bytes()))
    assert len(seen) > 2 * ROWS * HIDDEN // (1 << 18)
    # Less than half of one of the two large tensors.
    assert max(seen) - before < 15 << 20
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (tmp_path / "first" / "model.safetensors").read_bytes()
