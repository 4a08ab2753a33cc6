"""config.json files as the hub has them, at full size and with defaults left out, are read as transformers reads them."""

from __future__ import annotations

from typing import Any

import pytest

from vlmerge.anatomy.facts import read_facts
from vlmerge.anatomy.recognition import family_of

HUB: dict[str, dict[str, Any]] = {
    "llava-1.5-7b-hf": {
        "model_type": "llava", "image_token_index": 32000, "vision_config": {"model_type": "clip_vision_model"},
        "text_config": {"model_type": "llama", "max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "vocab_size": 32064},
    },
    "llava-v1.6-mistral-7b-hf": {
        "model_type": "llava_next", "image_token_index": 32000, "vision_config": {"model_type": "clip_vision_model"},
        "text_config": {"model_type": "mistral", "intermediate_size": 14336, "max_position_embeddings": 32768,
                        "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "sliding_window": None,
                        "vocab_size": 32064},
    },
    "pixtral-12b": {
        "model_type": "llava", "image_token_index": 10, "vision_config": {"model_type": "pixtral"},
        "text_config": {"model_type": "mistral", "hidden_size": 5120, "head_dim": 128, "num_hidden_layers": 40,
                        "intermediate_size": 14336, "max_position_embeddings": 1024000, "rms_norm_eps": 1e-05,
                        "rope_theta": 1000000000.0, "sliding_window": None, "vocab_size": 131072},
    },
    "Qwen2-VL-7B": {
        "model_type": "qwen2_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "max_position_embeddings": 32768, "vocab_size": 152064, "tie_word_embeddings": False, "image_token_id": 151655,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "vision_config": {"depth": 32},
    },
    "Qwen2-VL-2B": {
        "model_type": "qwen2_vl", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
        "max_position_embeddings": 32768, "vocab_size": 151936, "tie_word_embeddings": True, "image_token_id": 151655,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "vision_config": {"depth": 32},
    },
    "gemma-3-4b": {
        "model_type": "gemma3", "image_token_index": 262144, "vision_config": {"model_type": "siglip_vision_model"},
        "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
                        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024},
    },
    "paligemma-3b": {
        "model_type": "paligemma", "image_token_index": 257152, "vision_config": {"model_type": "siglip_vision_model"},
        "text_config": {"model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384, "num_attention_heads": 8,
                        "num_hidden_layers": 18, "num_image_tokens": 256, "num_key_value_heads": 1, "vocab_size": 257216},
    },
    "Llama-3.2-11B-Vision": {
        "model_type": "mllama", "image_token_index": 128256, "vision_config": {"model_type": "mllama_vision_model"},
        "text_config": {"model_type": "mllama_text_model", "max_position_embeddings": 131072,
                        "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                                         "original_max_position_embeddings": 8192, "rope_type": "llama3"}},
    },
    "Mistral-Small-3.1-24B": {
        "model_type": "mistral3", "image_token_index": 10, "vision_config": {"model_type": "pixtral"},
        "text_config": {"model_type": "mistral", "hidden_size": 5120, "head_dim": 128, "intermediate_size": 32768,
                        "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
                        "rope_theta": 1000000000.0, "sliding_window": None, "vocab_size": 131072},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", HUB)
def test_a_hub_config_is_read_as_transformers_reads_it(name: str) -> None:
    from transformers import CONFIG_MAPPING

    config = HUB[name]
    facts = read_facts(family_of(config, name), config, {}, {})
    whole = CONFIG_MAPPING[config["model_type"]](**config)
    text = whole.get_text_config()
    crossing = getattr(text, "cross_attention_layers", None) or []
    rope = text.rope_parameters.get("full_attention", text.rope_parameters)
    assert facts.layers == text.num_hidden_layers - len(crossing)
    assert (facts.hidden, facts.intermediate, facts.vocab_rows) == (text.hidden_size, text.intermediate_size, text.vocab_size)
    assert (facts.heads, facts.kv_heads) == (text.num_attention_heads, text.num_key_value_heads)
    assert facts.head_dim == (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
    assert (facts.rope_theta, facts.norm_eps, facts.max_positions) == (
        rope["rope_theta"],
        text.rms_norm_eps,
        text.max_position_embeddings,
    )
    assert facts.rope_scaling == ("default" if "mrope_section" in rope else rope["rope_type"])
    assert facts.tied_head == getattr(whole, "tie_word_embeddings", text.tie_word_embeddings if crossing else None)


def test_rotary_positions_by_kind_of_layer_say_the_same_in_old_and_new_spelling() -> None:
    old = HUB["gemma-3-4b"]
    text = {key: value for key, value in old["text_config"].items() if key != "rope_scaling"}
    text["rope_parameters"] = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    }
    family = family_of(old, "model")
    assert read_facts(family, old, {}, {}) == read_facts(family, {**old, "text_config": text}, {}, {})
