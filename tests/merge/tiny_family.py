"""Tiny checkpoints written by hand as the hub has them: layouts, storage, defaults left out. Imports nothing of vlmerge."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

HIDDEN, LAYERS, INTER = 64, 3, 48
HEADS = 32  # LlamaConfig's default, so that configs may leave it out; head_dim is 2
VISION, VISION_LAYERS = 16, 2
LM_TOKENS = ["<unk>", "<s>", "</s>", *(f"▁w{index}" for index in range(25))]  # 28 tokens
LM_ROWS = 32  # 4 rows of padding
HOST_TOKENS = [*LM_TOKENS, "<image>", "<pad>"]
HOST_ROWS = 40
TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Model:
    """What was written: role → tensor, by the roles of this file (a plain LM's names; `vision.…`, `projector.…`)."""

    path: Path
    tensors: dict[str, torch.Tensor]
    names: dict[str, str]
    tokens: list[str]
    extra: dict[str, torch.Tensor] = field(default_factory=dict)


def decoder(seed: int, rows: int, dtype: torch.dtype, *, head: bool = True, layers: int = LAYERS) -> dict[str, torch.Tensor]:
    """Random decoder tensors under a plain LM's names; norms near one."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * 0.05).to(dtype)

    tensors = {"model.embed_tokens.weight": noise(rows, HIDDEN)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        tensors[f"{at}self_attn.q_proj.weight"] = noise(HIDDEN, HIDDEN)
        tensors[f"{at}self_attn.k_proj.weight"] = noise(HIDDEN, HIDDEN)
        tensors[f"{at}self_attn.v_proj.weight"] = noise(HIDDEN, HIDDEN)
        tensors[f"{at}self_attn.o_proj.weight"] = noise(HIDDEN, HIDDEN)
        tensors[f"{at}mlp.gate_proj.weight"] = noise(INTER, HIDDEN)
        tensors[f"{at}mlp.up_proj.weight"] = noise(INTER, HIDDEN)
        tensors[f"{at}mlp.down_proj.weight"] = noise(HIDDEN, INTER)
        tensors[f"{at}input_layernorm.weight"] = (1 + noise(HIDDEN).float()).to(dtype)
        tensors[f"{at}post_attention_layernorm.weight"] = (1 + noise(HIDDEN).float()).to(dtype)
    tensors["model.norm.weight"] = (1 + noise(HIDDEN).float()).to(dtype)
    if head:
        tensors["lm_head.weight"] = noise(rows, HIDDEN)
    return tensors


def eyes(seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A CLIP tower and a projector."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=generator) * 0.05).to(dtype)

    tensors = {
        "vision.embeddings.class_embedding": noise(VISION),
        "vision.embeddings.patch_embedding.weight": noise(VISION, 3, 4, 4),
        "vision.embeddings.position_embedding.weight": noise(5, VISION),
        "vision.pre_layrnorm.weight": noise(VISION),
        "vision.pre_layrnorm.bias": noise(VISION),
    }
    for layer in range(VISION_LAYERS):
        at = f"vision.encoder.layers.{layer}."
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"):
            tensors[f"{at}{name}.weight"], tensors[f"{at}{name}.bias"] = noise(VISION, VISION), noise(VISION)
        for name in ("layer_norm1", "layer_norm2"):
            tensors[f"{at}{name}.weight"], tensors[f"{at}{name}.bias"] = noise(VISION), noise(VISION)
        tensors[f"{at}mlp.fc1.weight"], tensors[f"{at}mlp.fc1.bias"] = noise(24, VISION), noise(24)
        tensors[f"{at}mlp.fc2.weight"], tensors[f"{at}mlp.fc2.bias"] = noise(VISION, 24), noise(VISION)
    tensors["vision.post_layernorm.weight"], tensors["vision.post_layernorm.bias"] = noise(VISION), noise(VISION)
    tensors["projector.linear_1.weight"], tensors["projector.linear_1.bias"] = noise(HIDDEN, VISION), noise(HIDDEN)
    tensors["projector.linear_2.weight"], tensors["projector.linear_2.bias"] = noise(HIDDEN, HIDDEN), noise(HIDDEN)
    return tensors


def on_disk(role: str, layout: str) -> str:
    """The name of a role in a layout."""
    if layout == "hf":
        if role.startswith("vision."):
            return "vision_tower.vision_model." + role.removeprefix("vision.")
        if role.startswith("projector."):
            return "multi_modal_projector." + role.removeprefix("projector.")
        return "language_model." + role
    if layout == "hf-new":
        if role.startswith("vision."):
            return "model.vision_tower." + role.removeprefix("vision.")
        if role.startswith("projector."):
            return "model.multi_modal_projector." + role.removeprefix("projector.")
        return role if role.startswith("lm_head") else "model.language_model." + role.removeprefix("model.")
    if layout == "original":
        if role.startswith("vision."):
            return "model.vision_tower.vision_tower.vision_model." + role.removeprefix("vision.")
        if role.startswith("projector."):
            return role.replace("projector.linear_1", "model.mm_projector.0").replace(
                "projector.linear_2", "model.mm_projector.2"
            )
    return role


def write_vlm(
    path: Path, layout: str, *, seed: int = 1, dtype: str = "float16", storage: str = "single", sizes: bool = False,
    tokens: list[str] | None = None, rows: int = HOST_ROWS, edit: dict[str, torch.Tensor] | None = None,
    layers: int = LAYERS,
) -> Model:  # fmt: skip
    """A LLaVA: layout `hf`, `hf-new` or `original`; storage `single`, `sharded` or `bin`. `sizes`: what hub files omit."""
    if layout == "original":
        rows, tokens = LM_ROWS, LM_TOKENS
    tensors = decoder(seed, rows, TORCH[dtype], layers=layers) | eyes(seed + 100, TORCH[dtype]) | (edit or {})
    # An old CLIP tower: an integer buffer that is copied, never cast.
    positions = {"vision.embeddings.position_ids": torch.arange(5).view(1, 5)} if layout != "hf-new" else {}
    tensors |= positions
    text: dict[str, Any] = {
        "_name_or_path": "lmsys/vicuna-7b-v1.5", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096,
        "model_type": "llama", "rms_norm_eps": 1e-05, "torch_dtype": dtype, "vocab_size": rows,
    }  # fmt: skip
    tower = {
        "hidden_size": VISION, "image_size": 8, "intermediate_size": 24, "model_type": "clip_vision_model",
        "num_attention_heads": 4, "num_hidden_layers": VISION_LAYERS, "patch_size": 4, "projection_dim": 16,
        "vocab_size": 32000,
    }  # fmt: skip
    shape = {
        "hidden_size": HIDDEN, "intermediate_size": INTER, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
    }  # fmt: skip
    config: dict[str, Any] = {
        "architectures": ["LlavaForConditionalGeneration"], "ignore_index": -100, "image_token_index": 28,
        "model_type": "llava",
        "pad_token_id": 29, "projector_hidden_act": "gelu", "text_config": text | (shape if sizes else {}),
        "tie_word_embeddings": False, "torch_dtype": dtype, "transformers_version": "4.36.0.dev0", "vision_config": tower,
        "vision_feature_layer": -2, "vision_feature_select_strategy": "default", "vocab_size": rows,
    }  # fmt: skip
    if layout == "original":
        config = {
            "_name_or_path": "llava-v1.5-7b", "architectures": ["LlavaLlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
            "freeze_mm_mlp_adapter": False, "hidden_act": "silu", "image_aspect_ratio": "pad", "max_length": 4096,
            "max_position_embeddings": 4096, "mm_hidden_size": VISION, "mm_projector_type": "mlp2x_gelu",
            "mm_vision_select_layer": -2, "mm_vision_tower": "openai/clip-vit-large-patch14-336", "model_type": "llava",
            "pad_token_id": 0, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None, "tie_word_embeddings": False,
            "torch_dtype": dtype, "use_mm_proj": True, "vocab_size": rows, **shape,
        }  # fmt: skip
    return _write(path, layout, tensors, config, tokens or HOST_TOKENS, storage)


def write_lm(
    path: Path, *, seed: int = 2, dtype: str = "float16", storage: str = "single", tokens: list[str] | None = None,
    rows: int = LM_ROWS, head: bool = True, sizes: bool = True, layers: int = LAYERS, inv_freq: bool = True,
    edit: dict[str, torch.Tensor] | None = None, tokenizer: str = "tokenizer.json",
) -> Model:  # fmt: skip
    """A Llama-2-era LM, its rotary frequencies among the tensors."""
    tensors = decoder(seed, rows, TORCH[dtype], head=head, layers=layers) | (edit or {})
    extra = (
        {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.rand(1) for layer in range(layers)} if inv_freq else {}
    )
    config: dict[str, Any] = {
        "_name_or_path": "meta-llama/Llama-2-7b-hf", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1,
        "eos_token_id": 2, "hidden_act": "silu", "initializer_range": 0.02, "max_position_embeddings": 4096,
        "model_type": "llama", "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
        "tie_word_embeddings": not head, "torch_dtype": dtype, "transformers_version": "4.31.0.dev0",
        "use_cache": True, "vocab_size": rows,
    }  # fmt: skip
    if sizes:
        config |= {
            "hidden_size": HIDDEN, "intermediate_size": INTER, "num_hidden_layers": layers, "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
        }  # fmt: skip
    model = _write(path, "lm", tensors, config, tokens or LM_TOKENS, storage, extra, tokenizer)
    return Model(model.path, model.tensors, model.names, model.tokens, extra)


def _write(
    path: Path, layout: str, tensors: dict[str, torch.Tensor], config: dict[str, Any], tokens: list[str], storage: str,
    extra: dict[str, torch.Tensor] | None = None, tokenizer: str = "tokenizer.json",
) -> Model:  # fmt: skip
    path.mkdir(parents=True)
    names = {role: on_disk(role, layout) for role in tensors}
    named = {names[role]: tensor for role, tensor in tensors.items()} | (extra or {})
    (path / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    if tokenizer == "tokenizer.json":
        write_tokenizer(path / "tokenizer.json", tokens)
    (path / "generation_config.json").write_text('{"bos_token_id": 1, "eos_token_id": 2}', encoding="utf-8")
    if storage == "single":
        save_file(named, path / "model.safetensors", metadata={"format": "pt"})
        return Model(path, tensors, names, tokens)
    suffix, stem = ("safetensors", "model") if storage == "sharded" else ("bin", "pytorch_model")
    half = len(named) // 2
    parts = [dict(list(named.items())[:half]), dict(list(named.items())[half:])]
    weight_map: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        file = f"{stem}-{number:05d}-of-00002.{suffix}"
        weight_map |= dict.fromkeys(part, file)
        if storage == "sharded":
            save_file(part, path / file, metadata={"format": "pt"})
        else:
            torch.save(part, path / file)
    index = {"metadata": {"total_size": sum(t.numel() * t.element_size() for t in named.values())}, "weight_map": weight_map}
    (path / f"{stem}.{suffix}.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    return Model(path, tensors, names, tokens)


def write_tokenizer(file: Path, tokens: list[str]) -> None:
    """A real tokenizer.json; names in angle brackets become added special tokens, as `<image>` and `<pad>` are on the hub."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import BPE

    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in tokens if token.startswith("<")])
    tokenizer.save(str(file))


def read_result(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a result, read with safetensors alone."""
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(path.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors
