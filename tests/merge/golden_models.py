"""Small Llamas and recipes for the comparison with mergekit 0.1.5. Drawn by numpy, the same on every machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

HIDDEN, LAYERS, INTER, ROWS = 16, 4, 24, 16
TOKENS = [f"t{index}" for index in range(ROWS)]
MODELS = {"a": ("bfloat16", True), "b": ("bfloat16", True), "c": ("float32", True), "tied": ("bfloat16", False)}
"""Name → (dtype, whether it has a head of its own)."""

_SLERP_T = [
    {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
    {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
    {"value": 0.5},
]


def _two(first: Any, second: Any) -> list[dict[str, Any]]:
    return [{"model": "a", "parameters": {"weight": first}}, {"model": "b", "parameters": {"weight": second}}]


def _part(model: str, first: int, end: int, **parameters: Any) -> dict[str, Any]:
    return {"model": model, "layer_range": [first, end], "parameters": parameters}


RECIPES: dict[str, dict[str, Any]] = {
    "linear": {"merge_method": "linear", "models": _two(0.7, 0.4), "dtype": "bfloat16"},
    "linear_base_is_an_input": {
        "merge_method": "linear", "models": _two(0.7, [0.1, 0.9]), "base_model": "c",
        "parameters": {"weight": 0.2, "normalize": False}, "dtype": "float32", "out_dtype": "float16",
    },
    "linear_filters": {
        "merge_method": "linear",
        "models": _two([{"filter": "layers.1.", "value": 0.9}, {"filter": "mlp", "value": [0.2, 0.8, -0.1]}], 0.5),
        "parameters": {"weight": 1.0}, "dtype": "float32", "out_dtype": "bfloat16",
    },
    "linear_slices": {
        "merge_method": "linear", "dtype": "float32",
        "slices": [
            {"sources": [_part("a", 0, 3, weight=[0.2, 1.0]), _part("b", 0, 3)], "parameters": {"weight": 0.3}},
            {"sources": [_part("b", 1, 2, weight=[0.25, 0.75]), _part("c", 3, 4)], "parameters": {"weight": 0.5}},
        ],
    },
    "linear_tied": {
        "merge_method": "linear", "dtype": "bfloat16",
        "models": [{"model": "a", "parameters": {"weight": 0.5}}, {"model": "tied", "parameters": {"weight": 0.5}}],
    },
    "slerp": {
        "merge_method": "slerp", "base_model": "a", "models": [{"model": "b"}, {"model": "a"}], "parameters": {"t": _SLERP_T},
        "dtype": "float32", "out_dtype": "bfloat16",
    },
    "slerp_slices": {
        "merge_method": "slerp", "base_model": "c", "parameters": {"t": [0.2, 0.9]}, "dtype": "bfloat16",
        "slices": [
            {"sources": [_part("c", 0, 2), _part("b", 0, 2)]},
            {"sources": [_part("c", 2, 4), _part("b", 2, 4)], "parameters": {"t": 1.1}},
        ],
    },
    "task_arithmetic": {
        "merge_method": "task_arithmetic", "base_model": "c", "models": _two(0.7, [0.1, 0.9]), "parameters": {"lambda": 0.8},
        "dtype": "float32", "out_dtype": "float16",
    },
    "task_arithmetic_normalized": {
        "merge_method": "task_arithmetic", "base_model": "c",
        "models": [*_two(0.7, [{"filter": "k_proj", "value": -0.2}, {"value": 0.4}]), {"model": "c"}],
        "parameters": {"normalize": True}, "dtype": "float32", "out_dtype": "bfloat16",
    },
}  # fmt: skip


def write_models(folder: Path) -> None:
    """All models, each a folder under its name."""
    for seed, (name, (dtype, head)) in enumerate(MODELS.items()):
        _write(folder / name, seed, dtype, head)


def _write(folder: Path, seed: int, dtype: str, head: bool) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    random = np.random.default_rng(seed)
    shared = np.random.default_rng(99)  # what descends from one base looks alike: some tensors are nearly parallel

    def draw(*shape: int) -> torch.Tensor:
        values = random.standard_normal(shape) * 0.02 + shared.standard_normal(shape) * (0.02 if len(shape) > 1 else 0)
        return torch.from_numpy(values + (1.0 if len(shape) == 1 else 0.0)).to(getattr(torch, dtype))

    tensors = {"model.embed_tokens.weight": draw(ROWS, HIDDEN), "model.norm.weight": draw(HIDDEN)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for part in "qkvo":
            tensors[f"{at}self_attn.{part}_proj.weight"] = draw(HIDDEN, HIDDEN)
        tensors[f"{at}mlp.gate_proj.weight"], tensors[f"{at}mlp.up_proj.weight"] = draw(INTER, HIDDEN), draw(INTER, HIDDEN)
        tensors[f"{at}mlp.down_proj.weight"] = draw(HIDDEN, INTER)
        tensors[f"{at}input_layernorm.weight"], tensors[f"{at}post_attention_layernorm.weight"] = draw(HIDDEN), draw(HIDDEN)
    last = draw(ROWS, HIDDEN)
    if head:
        tensors["lm_head.weight"] = last
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INTER,
        "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": ROWS,
        "torch_dtype": dtype, "rms_norm_eps": 1e-5, "tie_word_embeddings": not head, "max_position_embeddings": 64,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    vocabulary = {token: index for index, token in enumerate(TOKENS)}
    Tokenizer(WordLevel(vocabulary, unk_token="t0")).save(str(folder / "tokenizer.json"))
