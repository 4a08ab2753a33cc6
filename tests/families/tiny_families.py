"""One tiny checkpoint of every family, as the hub has it: its names on disk, its config.json with defaults left out.

Weights come from transformers' own classes, made from the config; names and files are written here. Imports nothing of vlmerge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

HIDDEN = 64
WORDS = ["<unk>", "<s>", "</s>", *(f"▁w{index}" for index in range(25))]  # 28 tokens that every model knows
IMAGE = 28
HOST_TOKENS = [*WORDS, "<image>", "<more>"]
HOST_ROWS, LM_ROWS = 40, 32

Config = dict[str, Any]
Names = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tiny:
    """A family in small.

    Attributes:
        family: Row of vlmerge's table.
        config: config.json of the host.
        names: Memory → disk, as (regular expression, replacement), the first that matches.
        lm: config.json of the language model that pairs.
        inputs: Pixel inputs and the number of placeholders, for one picture.
        merged: Tensors that merge with the language model.
        rows: Rows of the host's embedding, of the language model's.
        buffers: Names on disk of integer buffers that old files hold → length.
            more: Further keys of the forward pass, made from input_ids.
    """

    family: str
    config: Config
    names: Names
    lm: Config
    inputs: Callable[[], tuple[dict[str, torch.Tensor], int]]
    merged: int
    rows: tuple[int, int] = (HOST_ROWS, LM_ROWS)
    buffers: tuple[tuple[str, int], ...] = ()
    more: Callable[[torch.Tensor], dict[str, torch.Tensor]] = lambda _: {}


# ── names ──

HF: Names = (
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.vision_tower\.(?=embeddings|encoder|pre_layrnorm|post_layernorm|head)", "vision_tower.vision_model."),
    (r"^model\.(?=vision_tower|multi_modal_projector|image_newline|vision_model)", ""),
)
HF_BARE_TOWER: Names = (*HF[:2], HF[3])  # towers without the `vision_model.` in between
QWEN: Names = ((r"^model\.language_model\.", "model."), (r"^model\.visual\.", "visual."))
AS_IN_MEMORY: Names = ()

# ── parts of configs ──

CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 24, "image_size": 8, "patch_size": 4,
    "num_attention_heads": 4, "num_hidden_layers": 2, "projection_dim": 16, "vocab_size": 32000,
}  # fmt: skip
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 24, "image_size": 8, "patch_size": 4,
    "num_attention_heads": 2, "num_hidden_layers": 2, "vision_use_head": False,
}  # fmt: skip
PIXTRAL = {
    "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 24, "image_size": 32, "patch_size": 4,
    "num_attention_heads": 2, "num_hidden_layers": 2, "head_dim": 8, "rope_theta": 10000.0,
}  # fmt: skip
SIZES = {"hidden_size": HIDDEN, "intermediate_size": 48, "num_hidden_layers": 2}
# Sizes that the class default gives are left out: 32 heads, and 8 (mistral) or as many for keys and values.
LLAMA = {"model_type": "llama", **SIZES, "max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "vocab_size": HOST_ROWS}
MISTRAL = {"model_type": "mistral", **SIZES, "max_position_embeddings": 32768, "rms_norm_eps": 1e-05, "rope_theta": 1e6,
           "sliding_window": None, "vocab_size": HOST_ROWS}  # fmt: skip
MINISTRAL3 = {
    "model_type": "ministral3", **SIZES, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "rms_norm_eps": 1e-05, "sliding_window": None, "vocab_size": HOST_ROWS,
    "rope_parameters": {
        "beta_fast": 32.0, "beta_slow": 1.0, "factor": 16.0, "llama_4_scaling_beta": 0.1, "mscale": 1.0, "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 16384, "rope_theta": 1000000.0, "rope_type": "yarn", "type": "yarn",
    },
}  # fmt: skip
QWEN2 = {"model_type": "qwen2", **SIZES, "num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 1e6,
         "vocab_size": HOST_ROWS}  # fmt: skip
QWEN3 = {"model_type": "qwen3", **SIZES, "num_attention_heads": 2, "num_key_value_heads": 1, "rope_theta": 1e6,
         "vocab_size": HOST_ROWS}  # fmt: skip
GEMMA = {"model_type": "gemma", **SIZES, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": HOST_ROWS}
GEMMA2 = {"model_type": "gemma2", **SIZES, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": HOST_ROWS,
          "query_pre_attn_scalar": 256, "sliding_window": 4096}  # fmt: skip
# Gemma 3 4B says neither head counts nor their width.
GEMMA3 = {"model_type": "gemma3_text", **SIZES, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
          "vocab_size": HOST_ROWS}  # fmt: skip
COHERE = {"model_type": "cohere", **SIZES, "num_attention_heads": 4, "num_key_value_heads": 2, "logit_scale": 0.0625,
          "rope_theta": 10000, "vocab_size": HOST_ROWS}  # fmt: skip
COHERE2 = {"model_type": "cohere2", **SIZES, "num_attention_heads": 4, "num_key_value_heads": 2, "logit_scale": 0.25,
           "rope_theta": 50000, "sliding_window": 4096, "vocab_size": HOST_ROWS}  # fmt: skip


def _lm(architecture: str, text: Config, **more: Any) -> Config:
    """config.json of a plain language model with this decoder, its own keys and fewer rows."""
    return {"architectures": [architecture], "torch_dtype": "float32", **text, "vocab_size": LM_ROWS, **more}


def _vlm(model_type: str, architecture: str, text: Config, vision: Config, **more: Any) -> Config:
    """config.json of a VLM in transformers' form."""
    return {
        "architectures": [architecture], "model_type": model_type, "text_config": text, "vision_config": vision,
        "torch_dtype": "float32", "transformers_version": "4.50.0", **more,
    }  # fmt: skip


# ── pictures ──


def _one(size: int = 8, placeholders: int = 4) -> Callable[[], tuple[dict[str, torch.Tensor], int]]:
    """One square picture."""
    return lambda: ({"pixel_values": torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size)}, placeholders)


def _sized(size: int, placeholders: int) -> Callable[[], tuple[dict[str, torch.Tensor], int]]:
    """One picture with its size beside it, as Pixtral's towers want it."""
    return lambda: (_one(size)()[0] | {"image_sizes": torch.tensor([[size, size]])}, placeholders)


def _tiles(placeholders: int) -> Callable[[], tuple[dict[str, torch.Tensor], int]]:
    """A picture in 2 × 2 tiles and as a whole."""
    picture = torch.linspace(-1, 1, 5 * 3 * 64).view(1, 5, 3, 8, 8)
    return lambda: ({"pixel_values": picture, "image_sizes": torch.tensor([[16, 16]])}, placeholders)


def _patches(width: int) -> Callable[[], tuple[dict[str, torch.Tensor], int]]:
    """4 × 4 patches, of which 2 × 2 make a token, as Qwen's towers want them."""
    pixels = torch.linspace(-1, 1, 16 * width).view(16, width)
    return lambda: ({"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 4, 4]])}, 4)


def _idefics() -> tuple[dict[str, torch.Tensor], int]:
    return {"pixel_values": torch.linspace(-1, 1, 192).view(1, 1, 3, 8, 8)}, 1


def _mllama() -> tuple[dict[str, torch.Tensor], int]:
    return {
        "pixel_values": torch.linspace(-1, 1, 192).view(1, 1, 1, 3, 8, 8),
        "aspect_ratio_ids": torch.tensor([[1]]),
        "aspect_ratio_mask": torch.ones(1, 1, 1, dtype=torch.long),
    }, 1


def _mllama_more(ids: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"cross_attention_mask": torch.ones(1, ids.shape[1], 1, 1, dtype=torch.long)}


def _qwen_more(ids: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"mm_token_type_ids": (ids == IMAGE).long()}


def _gemma_more(ids: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"token_type_ids": (ids == IMAGE).long()}


# ── families ──

LLAMA_TENSORS, QWEN2_TENSORS, QWEN3_TENSORS, GEMMA3_TENSORS = 9, 12, 11, 13  # per layer

POSITIONS = (("vision_tower.vision_model.embeddings.position_ids", 5),)
QWEN_VISION = {"embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2, "patch_size": 2, "spatial_merge_size": 2,
               "temporal_patch_size": 2, "hidden_size": HIDDEN, "in_chans": 3, "model_type": "qwen2_vl"}  # fmt: skip
MROPE = {"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "rope_theta": 1e6}
INTERN_VIT = {"model_type": "internvl_vision", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
              "num_attention_heads": 2, "image_size": [8, 8], "patch_size": [2, 2], "use_qk_norm": False}  # fmt: skip
INTERN = {"image_token_id": IMAGE, "image_seq_length": 4, "tie_word_embeddings": False}
QWEN_TOKENS = {"image_token_id": IMAGE, "video_token_id": 29, "vision_start_token_id": 3, "vision_end_token_id": 4}

TINY: dict[str, Tiny] = {
    "llava-llama": Tiny(
        "LLaVA",
        _vlm("llava", "LlavaForConditionalGeneration", LLAMA, CLIP, image_token_index=IMAGE, vision_feature_layer=-2),
        HF, _lm("LlamaForCausalLM", LLAMA), _one(), 3 + 2 * LLAMA_TENSORS, buffers=POSITIONS,
    ),
    "llava-mistral": Tiny(
        "LLaVA",
        _vlm("llava", "LlavaForConditionalGeneration", MISTRAL, CLIP, image_token_index=IMAGE, vision_feature_layer=-2),
        HF, _lm("MistralForCausalLM", MISTRAL), _one(), 3 + 2 * LLAMA_TENSORS,
    ),
    "llava-qwen2": Tiny(
        "LLaVA",
        _vlm("llava", "LlavaForConditionalGeneration", QWEN2, SIGLIP, image_token_index=IMAGE, vision_feature_layer=-1,
             vision_feature_select_strategy="full"),
        HF, _lm("Qwen2ForCausalLM", QWEN2), _one(), 3 + 2 * QWEN2_TENSORS,
    ),
    "llava-new": Tiny(
        "LLaVA",
        _vlm("llava", "LlavaForConditionalGeneration", LLAMA, CLIP, image_token_index=IMAGE, vision_feature_layer=-2),
        AS_IN_MEMORY, _lm("LlamaForCausalLM", LLAMA), _one(), 3 + 2 * LLAMA_TENSORS,
    ),
    "pixtral-12b": Tiny(
        "LLaVA",
        _vlm("llava", "LlavaForConditionalGeneration", MISTRAL | {"head_dim": 4, "rope_theta": 1e9}, PIXTRAL,
             image_token_index=IMAGE, vision_feature_layer=-1, vision_feature_select_strategy="full"),
        HF_BARE_TOWER, _lm("MistralForCausalLM", MISTRAL | {"head_dim": 4, "rope_theta": 1e6}), _sized(8, 4),
        3 + 2 * LLAMA_TENSORS,
    ),
    "llava-next": Tiny(
        "LLaVA-NeXT",
        _vlm("llava_next", "LlavaNextForConditionalGeneration", MISTRAL, CLIP, image_token_index=IMAGE,
             image_grid_pinpoints=[[16, 16]]),
        HF, _lm("MistralForCausalLM", MISTRAL), _tiles(4 + 16 + 4), 3 + 2 * LLAMA_TENSORS, buffers=POSITIONS,
    ),
    "llava-next-llama": Tiny(
        "LLaVA-NeXT",
        _vlm("llava_next", "LlavaNextForConditionalGeneration", LLAMA, CLIP, image_token_index=IMAGE,
             image_grid_pinpoints=[[16, 16]]),
        HF, _lm("LlamaForCausalLM", LLAMA), _tiles(4 + 16 + 4), 3 + 2 * LLAMA_TENSORS,
    ),
    "llava-next-qwen2": Tiny(
        "LLaVA-NeXT",
        _vlm("llava_next", "LlavaNextForConditionalGeneration", QWEN2, CLIP, image_token_index=IMAGE,
             image_grid_pinpoints=[[16, 16]]),
        HF, _lm("Qwen2ForCausalLM", QWEN2), _tiles(4 + 16 + 4), 3 + 2 * QWEN2_TENSORS,
    ),
    "llava-onevision": Tiny(
        "LLaVA-OneVision",
        _vlm("llava_onevision", "LlavaOnevisionForConditionalGeneration", QWEN2 | {"tie_word_embeddings": True}, SIGLIP,
             image_token_index=IMAGE, video_token_index=29, image_grid_pinpoints=[[16, 16]], tie_word_embeddings=True),
        HF, _lm("Qwen2ForCausalLM", QWEN2, tie_word_embeddings=True), _tiles(4 + 16 + 4), 2 + 2 * QWEN2_TENSORS,
    ),
    "qwen2-vl": Tiny(
        "Qwen2-VL",
        {"architectures": ["Qwen2VLForConditionalGeneration"], **QWEN2, "model_type": "qwen2_vl", **MROPE, **QWEN_TOKENS,
         "rms_norm_eps": 1e-06, "torch_dtype": "float32", "vision_config": QWEN_VISION},
        QWEN, _lm("Qwen2ForCausalLM", QWEN2), _patches(3 * 2 * 2 * 2), 3 + 2 * QWEN2_TENSORS, more=_qwen_more,
    ),
    "qwen2-vl-tied": Tiny(
        "Qwen2-VL",
        {"architectures": ["Qwen2VLForConditionalGeneration"], **QWEN2, "model_type": "qwen2_vl", **MROPE, **QWEN_TOKENS,
         "rms_norm_eps": 1e-06, "tie_word_embeddings": True, "vision_config": QWEN_VISION},
        QWEN, _lm("Qwen2ForCausalLM", QWEN2), _patches(3 * 2 * 2 * 2), 2 + 2 * QWEN2_TENSORS, more=_qwen_more,
    ),
    "qwen2-vl-saved": Tiny(  # as transformers 5 writes what it has loaded
        "Qwen2-VL",
        _vlm("qwen2_vl", "Qwen2VLForConditionalGeneration",
             {**QWEN2, "model_type": "qwen2_vl_text", "rms_norm_eps": 1e-06,
              "rope_parameters": {"mrope_section": [2, 3, 3], "rope_theta": 1e6, "rope_type": "default", "type": "mrope"}},
             QWEN_VISION, **QWEN_TOKENS),
        AS_IN_MEMORY, _lm("Qwen2ForCausalLM", QWEN2), _patches(3 * 2 * 2 * 2), 3 + 2 * QWEN2_TENSORS, more=_qwen_more,
    ),
    "qwen2.5-vl": Tiny(
        "Qwen2.5-VL",
        {"architectures": ["Qwen2_5_VLForConditionalGeneration"], **QWEN2, "model_type": "qwen2_5_vl", **MROPE, **QWEN_TOKENS,
         "rms_norm_eps": 1e-06, "torch_dtype": "float32",
         "vision_config": {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": HIDDEN,
                           "patch_size": 2, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 8,
                           "fullatt_block_indexes": [1], "in_chans": 3, "model_type": "qwen2_5_vl"}},
        QWEN, _lm("Qwen2ForCausalLM", QWEN2), _patches(3 * 2 * 2 * 2), 3 + 2 * QWEN2_TENSORS, more=_qwen_more,
    ),
    "qwen3-vl": Tiny(
        "Qwen3-VL",
        _vlm("qwen3_vl", "Qwen3VLForConditionalGeneration",
             QWEN3 | {"model_type": "qwen3_vl_text", "rope_theta": 5e6,
                      "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"}},
             {"model_type": "qwen3_vl", "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2,
              "out_hidden_size": HIDDEN, "patch_size": 2, "spatial_merge_size": 2, "temporal_patch_size": 2,
              "num_position_embeddings": 16, "deepstack_visual_indexes": [0], "in_channels": 3},
             **QWEN_TOKENS),
        AS_IN_MEMORY, _lm("Qwen3ForCausalLM", QWEN3, rope_theta=5e6), _patches(3 * 2 * 2 * 2), 3 + 2 * QWEN3_TENSORS,
        more=_qwen_more,
    ),
    "internvl": Tiny(
        "InternVL",
        _vlm("internvl", "InternVLForConditionalGeneration", QWEN2, INTERN_VIT, **INTERN),
        HF_BARE_TOWER, _lm("Qwen2ForCausalLM", QWEN2), _one(8, 4), 3 + 2 * QWEN2_TENSORS,
    ),
    "internvl-llama": Tiny(
        "InternVL",
        _vlm("internvl", "InternVLForConditionalGeneration", LLAMA, INTERN_VIT, **INTERN),
        HF_BARE_TOWER, _lm("LlamaForCausalLM", LLAMA), _one(8, 4), 3 + 2 * LLAMA_TENSORS,
    ),
    "internvl-qwen3": Tiny(
        "InternVL",
        _vlm("internvl", "InternVLForConditionalGeneration", QWEN3, INTERN_VIT, **INTERN),
        HF_BARE_TOWER, _lm("Qwen3ForCausalLM", QWEN3), _one(8, 4), 3 + 2 * QWEN3_TENSORS,
    ),
    "idefics3": Tiny(
        "Idefics3 and SmolVLM",
        _vlm("idefics3", "Idefics3ForConditionalGeneration", LLAMA | {"num_key_value_heads": 8, "pad_token_id": 2},
             {"model_type": "idefics3", "hidden_size": 16, "intermediate_size": 24, "image_size": 8, "patch_size": 4,
              "num_attention_heads": 2, "num_hidden_layers": 2},
             image_token_id=IMAGE, scale_factor=2, tie_word_embeddings=False),
        AS_IN_MEMORY, _lm("LlamaForCausalLM", LLAMA, num_key_value_heads=8), _idefics, 3 + 2 * LLAMA_TENSORS,
    ),
    "smolvlm": Tiny(
        "Idefics3 and SmolVLM",
        _vlm("smolvlm", "SmolVLMForConditionalGeneration", LLAMA | {"pad_token_id": 2},
             {"model_type": "smolvlm_vision", "hidden_size": 16, "intermediate_size": 24, "image_size": 8, "patch_size": 4,
              "num_attention_heads": 2, "num_hidden_layers": 2},
             image_token_id=IMAGE, scale_factor=2, tie_word_embeddings=False),
        AS_IN_MEMORY, _lm("LlamaForCausalLM", LLAMA, tie_word_embeddings=True), _idefics, 3 + 2 * LLAMA_TENSORS,
    ),
    "paligemma": Tiny(
        "PaliGemma",
        _vlm("paligemma", "PaliGemmaForConditionalGeneration", GEMMA, SIGLIP | {"projection_dim": HIDDEN},
             image_token_index=IMAGE, hidden_size=HIDDEN, projection_dim=HIDDEN, vocab_size=HOST_ROWS),
        HF, _lm("GemmaForCausalLM", GEMMA), _one(), 2 + 2 * LLAMA_TENSORS, more=_gemma_more,
    ),
    "paligemma2": Tiny(
        "PaliGemma",
        _vlm("paligemma", "PaliGemmaForConditionalGeneration", GEMMA2, SIGLIP | {"projection_dim": HIDDEN},
             image_token_index=IMAGE, hidden_size=HIDDEN, projection_dim=HIDDEN, vocab_size=HOST_ROWS),
        HF, _lm("Gemma2ForCausalLM", GEMMA2), _one(), 2 + 2 * 11, more=_gemma_more,
    ),
    "gemma3": Tiny(
        "Gemma 3",
        _vlm("gemma3", "Gemma3ForConditionalGeneration", GEMMA3, SIGLIP, image_token_index=IMAGE, mm_tokens_per_image=4,
             boi_token_index=3, eoi_token_index=4),
        HF, _lm("Gemma3ForCausalLM", GEMMA3), _one(), 2 + 2 * GEMMA3_TENSORS, more=_gemma_more,
    ),
    "mllama": Tiny(
        "Mllama",
        _vlm("mllama", "MllamaForConditionalGeneration",
             {"model_type": "mllama_text_model", **SIZES, "num_hidden_layers": 4, "cross_attention_layers": [1, 3],
              "num_key_value_heads": 8, "vocab_size": IMAGE, "max_position_embeddings": 128, "pad_token_id": 0,
              "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                               "original_max_position_embeddings": 64, "rope_type": "llama3"}},
             {"model_type": "mllama_vision_model", "hidden_size": 16, "intermediate_size": 24, "image_size": 8, "patch_size": 4,
              "attention_heads": 2, "num_hidden_layers": 2, "num_global_layers": 1, "intermediate_layers_indices": [0],
              "max_num_tiles": 1, "supported_aspect_ratios": [[1, 1]], "vision_output_dim": 32},
             image_token_index=IMAGE),
        HF, _lm("LlamaForCausalLM", LLAMA, num_key_value_heads=8, rope_theta=5e5, vocab_size=26, max_position_embeddings=128,
                rope_scaling={"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                              "original_max_position_embeddings": 64, "rope_type": "llama3"}),
        _mllama, 3 + 2 * LLAMA_TENSORS, rows=(IMAGE + 8, 26), more=_mllama_more,
    ),
    "mistral3": Tiny(
        "Mistral 3",
        _vlm("mistral3", "Mistral3ForConditionalGeneration", MISTRAL | {"head_dim": 4, "rope_theta": 1e9}, PIXTRAL,
             image_token_index=IMAGE, spatial_merge_size=2, vision_feature_layer=-1, tie_word_embeddings=False),
        HF_BARE_TOWER, _lm("MistralForCausalLM", MISTRAL, head_dim=4, rope_theta=1e9), _sized(16, 4), 3 + 2 * LLAMA_TENSORS,
    ),
    "ministral3": Tiny(
        "Mistral 3",
        _vlm("mistral3", "Mistral3ForConditionalGeneration", MINISTRAL3, PIXTRAL, image_token_index=IMAGE, spatial_merge_size=2,
             vision_feature_layer=-1, tie_word_embeddings=True),
        HF_BARE_TOWER, _lm("Ministral3ForCausalLM", MINISTRAL3, tie_word_embeddings=True), _sized(16, 4),
        2 + 2 * LLAMA_TENSORS,
    ),
    "aya-vision": Tiny(
        "Aya Vision",
        _vlm("aya_vision", "AyaVisionForConditionalGeneration", COHERE2, SIGLIP, image_token_index=IMAGE, downsample_factor=2,
             vision_feature_layer=-1),
        HF, _lm("Cohere2ForCausalLM", COHERE2), _one(8, 1), 2 + 2 * 8,
    ),
    "aya-vision-cohere": Tiny(
        "Aya Vision",
        _vlm("aya_vision", "AyaVisionForConditionalGeneration", COHERE, SIGLIP, image_token_index=IMAGE, downsample_factor=2,
             vision_feature_layer=-1),
        HF, _lm("CohereForCausalLM", COHERE), _one(8, 1), 2 + 2 * 8,
    ),
    "cohere2-vision": Tiny(
        "Cohere2 Vision",
        _vlm("cohere2_vision", "Cohere2VisionForConditionalGeneration", COHERE2, SIGLIP, image_token_id=IMAGE,
             downsample_factor=2, alignment_intermediate_size=48),
        AS_IN_MEMORY, _lm("Cohere2ForCausalLM", COHERE2), _one(8, 1), 2 + 2 * 8,
    ),
}  # fmt: skip


# ── writing ──


def write_host(folder: Path, tiny: Tiny, seed: int = 1, names: Names | None = None) -> Path:
    """The VLM, under the hub's names."""
    from transformers import AutoModelForImageTextToText

    tensors = _named(_made(AutoModelForImageTextToText, tiny.config, seed), tiny.names if names is None else names)
    if names is None:
        tensors |= {name: torch.arange(length).view(1, length) for name, length in tiny.buffers}
    return _write(folder, tiny.config, tensors, HOST_TOKENS if tiny.rows[0] >= HOST_ROWS else [*WORDS, "<image>"])


def write_lm(folder: Path, config: Config, seed: int) -> Path:
    """A plain language model."""
    from transformers import AutoModelForCausalLM

    return _write(folder, config, _named(_made(AutoModelForCausalLM, config, seed), ()), WORDS[: config["vocab_size"]])


def _made(cls: Any, config: Config, seed: int) -> Any:
    from transformers import CONFIG_MAPPING

    torch.manual_seed(seed)
    model = cls.from_config(CONFIG_MAPPING[config["model_type"]](**config), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            # Random everywhere: norms, biases and gates that are made as zeros or ones would hide a tensor that went astray.
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def _named(model: Any, names: Names) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, parameter in model.named_parameters():
        for pattern, replacement in names:
            renamed, changed = re.subn(pattern, replacement, name)
            if changed:
                name = renamed
                break
        tensors[name] = parameter.detach().clone()
    return tensors


def _write(folder: Path, config: Config, tensors: dict[str, torch.Tensor], tokens: list[str]) -> Path:
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import BPE

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in tokens if token.startswith("<")])
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
