"""The decoders vlmerge knows: which of them pair, and what their config classes fill in where config.json says nothing.

Facts checked against transformers 5.23; `tests/anatomy/test_family_defaults.py` holds the table to its classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KIND: dict[str, str] = {
    "llava": "llama",
    "llava_llama": "llama",
    "llava_mistral": "mistral",
    "llava_qwen": "qwen2",
    "mllama_text_model": "llama",
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
}
"""A decoder's model_type → the model_type of the plain LM that it pairs with, where that is another."""

ALIKE: tuple[frozenset[str], ...] = (frozenset({"llama", "mistral"}),)
"""Kinds that compute the same from the same tensors: they may meet, with a warning."""

# Hub files leave out what equals the class default. Sizes that tensor shapes tell are read from the shapes; these are the rest,
# by the decoder's model_type. None: `num_key_value_heads` is `num_attention_heads`, `head_dim` is hidden_size / heads.
CLASS_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": None, "head_dim": None, "vocab_size": 32000, "max_position_embeddings": 2048,
        "rope_theta": 1e4, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False,
    },
    "mllama_text_model": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 40, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": None, "vocab_size": 128256, "max_position_embeddings": 131072,
        "rope_theta": 5e5, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
    },
    "mistral": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": None, "vocab_size": 32000, "max_position_embeddings": 131072,
        "rope_theta": 1e4, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False,
    },
    "ministral3": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 34, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 131072, "max_position_embeddings": 262144,
        "rope_theta": 1e6, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
    },
    "qwen2": {
        "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "head_dim": None, "vocab_size": 151936, "max_position_embeddings": 32768,
        "rope_theta": 1e4, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False,
    },
    "qwen2_vl_text": {
        "hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": None, "vocab_size": 152064, "max_position_embeddings": 32768,
        "rope_theta": 1e6, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
    },
    "qwen2_5_vl_text": {
        "hidden_size": 8192, "intermediate_size": 29568, "num_hidden_layers": 80, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": None, "vocab_size": 152064, "max_position_embeddings": 32768,
        "rope_theta": 1e6, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
    },
    "qwen3": {
        "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 32768,
        "rope_theta": 1e4, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False,
    },
    "qwen3_vl_text": {
        "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 128000,
        "rope_theta": 5e5, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False,
    },
    "gemma": {
        "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 16, "head_dim": 256, "vocab_size": 256000, "max_position_embeddings": 8192,
        "rope_theta": 1e4, "rms_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": True,
    },
    "gemma2": {
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000, "max_position_embeddings": 8192,
        "rope_theta": 1e4, "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
    },
    "gemma3_text": {
        "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208, "max_position_embeddings": 131072,
        "rope_theta": 1e6, "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
    },
    "phi3": {
        "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": None, "head_dim": None, "vocab_size": 32064, "max_position_embeddings": 4096,
        "rope_theta": 1e4, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
    },
    "cohere": {
        "hidden_size": 8192, "intermediate_size": 22528, "num_hidden_layers": 40, "num_attention_heads": 64,
        "num_key_value_heads": None, "head_dim": None, "vocab_size": 256000, "max_position_embeddings": 8192,
        "rope_theta": 5e5, "layer_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": True,
    },
    "cohere2": {
        "hidden_size": 8192, "intermediate_size": 22528, "num_hidden_layers": 40, "num_attention_heads": 64,
        "num_key_value_heads": None, "head_dim": None, "vocab_size": 256000, "max_position_embeddings": 8192,
        "rope_theta": 1e4, "layer_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": True,
    },
}  # fmt: skip

CROSS_ATTENTION_LAYERS = (3, 8, 13, 18, 23, 28, 33, 38)
"""Where Mllama's cross-attention layers are if its config does not say."""

FULL_EVERY: dict[str, int] = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4}
"""Decoders whose layers see a sliding window, but for every N-th: the N where config.json does not say."""

UNKNOWN: dict[str, Any] = {
    "rope_theta": 1e4, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
}  # fmt: skip
"""What stands in for the class defaults of a decoder that is in no table. Sizes are not guessed."""


def kind_of(decoder: str) -> str:
    """model_type of the plain LM that a decoder of this model_type pairs with."""
    return KIND.get(decoder, decoder)


def may_meet(one: str, other: str) -> bool | None:
    """Whether decoders of these kinds compute the same from the same tensors; None where one of them is in no table."""
    if one == other or any({one, other} <= group for group in ALIKE):
        return True
    return False if one in CLASS_DEFAULTS and other in CLASS_DEFAULTS else None


def layer_types(kind: str, text: Mapping[str, Any], layers: int) -> list[str] | None:
    """What each layer attends to, where that follows from its number: None where config.json says it, or all are alike.

    Args:
        kind: Of the decoder.
        text: Its part of config.json.
        layers: How many it has.
    """
    if kind not in FULL_EVERY or text.get("layer_types") is not None:
        return None
    every = int(text.get("sliding_window_pattern") or FULL_EVERY[kind])
    return ["sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(layers)]
