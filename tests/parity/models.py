"""Small Llamas for the comparison with mergekit 0.1.5. Drawn by numpy, the same on every machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HIDDEN, LAYERS, INTER, ROWS = 16, 4, 24, 16
TOKENS = [f"t{index}" for index in range(ROWS)]
MODELS = {
    "a": ("bfloat16", True),
    "b": ("bfloat16", True),
    "c": ("float32", True),
    "tied": ("bfloat16", False),
    "d": ("float32", True),
}
"""Name → (dtype, whether it has a head of its own)."""


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
