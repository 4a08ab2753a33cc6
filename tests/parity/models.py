"""Small Llamas, and two Gemma 3 that see, for the comparison with mergekit 0.1.5. Drawn by numpy, the same on every machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HIDDEN, LAYERS, INTER, ROWS = 16, 4, 24, 16
TOKENS = [f"t{index}" for index in range(ROWS)]
PLAIN = tuple(TOKENS)
MODELS = {
    "a": ("bfloat16", True, PLAIN),
    "b": ("bfloat16", True, PLAIN),
    "c": ("float32", True, PLAIN),
    "tied": ("bfloat16", False, PLAIN),
    "d": ("float32", True, PLAIN),
    "wide": ("float32", True, (*(f"t{index}" for index in range(0, 12, 2)), "x", "t1", "y", "t13", "z")),
    "other": ("bfloat16", True, ("t0", "t3", "z", "w", "x", "t15", "t2", "t1")),
}
"""Name → (dtype, whether it has a head of its own, its tokens in the order of their rows)."""


SEERS = ("seer", "seer2")
TOWER, TOWER_LAYERS, TOWER_INTER = 8, 3, 12


def write_models(folder: Path) -> None:
    """All models, each a folder under its name."""
    for seed, name in enumerate(SEERS, start=100):
        _write_seer(folder / name, seed)
    for seed, (name, (dtype, head, tokens)) in enumerate(MODELS.items()):
        _write(folder / name, seed, dtype, head, tokens)


def _write(folder: Path, seed: int, dtype: str, head: bool, tokens: Sequence[str]) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    random = np.random.default_rng(seed)
    shared = np.random.default_rng(99)  # what descends from one base looks alike: some tensors are nearly parallel

    def draw(*shape: int) -> torch.Tensor:
        values = random.standard_normal(shape) * 0.02 + shared.standard_normal(shape) * (0.02 if len(shape) > 1 else 0)
        return torch.from_numpy(values + (1.0 if len(shape) == 1 else 0.0)).to(getattr(torch, dtype))

    tensors = {"model.embed_tokens.weight": draw(len(tokens), HIDDEN), "model.norm.weight": draw(HIDDEN)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for part in "qkvo":
            tensors[f"{at}self_attn.{part}_proj.weight"] = draw(HIDDEN, HIDDEN)
        tensors[f"{at}mlp.gate_proj.weight"], tensors[f"{at}mlp.up_proj.weight"] = draw(INTER, HIDDEN), draw(INTER, HIDDEN)
        tensors[f"{at}mlp.down_proj.weight"] = draw(HIDDEN, INTER)
        tensors[f"{at}input_layernorm.weight"], tensors[f"{at}post_attention_layernorm.weight"] = draw(HIDDEN), draw(HIDDEN)
    last = draw(len(tokens), HIDDEN)
    if head:
        tensors["lm_head.weight"] = last
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INTER,
        "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": len(tokens),
        "torch_dtype": dtype, "rms_norm_eps": 1e-5, "tie_word_embeddings": not head, "max_position_embeddings": 64,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    vocabulary = {token: index for index, token in enumerate(tokens)}
    Tokenizer(WordLevel(vocabulary, unk_token="t0")).save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "t0", "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _write_seer(folder: Path, seed: int) -> None:
    """A Gemma 3 with a tower and a projector, under the hub's names."""
    random, shared = np.random.default_rng(seed), np.random.default_rng(98)

    def draw(*shape: int) -> torch.Tensor:
        values = (random.standard_normal(shape) + shared.standard_normal(shape)) * 0.02
        return torch.from_numpy(values).to(torch.float32)

    tensors = {"language_model.model.embed_tokens.weight": draw(ROWS, HIDDEN), "language_model.model.norm.weight": draw(HIDDEN)}
    for layer in range(LAYERS):
        at = f"language_model.model.layers.{layer}."
        for part in "qkvo":
            tensors[f"{at}self_attn.{part}_proj.weight"] = draw(HIDDEN, HIDDEN)
        tensors |= {f"{at}self_attn.{part}_norm.weight": draw(HIDDEN // 4) for part in "qk"}
        tensors |= {f"{at}mlp.{part}_proj.weight": draw(INTER, HIDDEN) for part in ("gate", "up")}
        tensors[f"{at}mlp.down_proj.weight"] = draw(HIDDEN, INTER)
        for part in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            tensors[f"{at}{part}_layernorm.weight"] = draw(HIDDEN)
    tensors["multi_modal_projector.mm_input_projection_weight"] = draw(TOWER, HIDDEN)
    tensors["multi_modal_projector.mm_soft_emb_norm.weight"] = draw(TOWER)
    tower = "vision_tower.vision_model."
    tensors[f"{tower}embeddings.patch_embedding.weight"] = draw(TOWER, 3, 4, 4)
    tensors[f"{tower}embeddings.patch_embedding.bias"] = draw(TOWER)
    tensors[f"{tower}embeddings.position_embedding.weight"] = draw(4, TOWER)
    tensors |= {f"{tower}post_layernorm.{kind}": draw(TOWER) for kind in ("weight", "bias")}
    for layer in range(TOWER_LAYERS):
        at = f"{tower}encoder.layers.{layer}."
        for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2"):
            wide, deep = {"mlp.fc1": (TOWER_INTER, TOWER), "mlp.fc2": (TOWER, TOWER_INTER)}.get(part, (TOWER, TOWER))
            tensors |= {f"{at}{part}.weight": draw(wide, deep), f"{at}{part}.bias": draw(wide)}
        tensors |= {f"{at}layer_norm{which}.{kind}": draw(TOWER) for which in "12" for kind in ("weight", "bias")}
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "float32",
        "image_token_index": ROWS - 1, "boi_token_index": 1, "eoi_token_index": 2, "mm_tokens_per_image": 4,
        "text_config": {
            "model_type": "gemma3_text", "hidden_size": HIDDEN, "intermediate_size": INTER, "num_hidden_layers": LAYERS,
            "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": HIDDEN // 4, "vocab_size": ROWS,
        },
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": TOWER, "intermediate_size": TOWER_INTER, "image_size": 8,
            "num_hidden_layers": TOWER_LAYERS, "num_attention_heads": 2, "patch_size": 4,
        },
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
