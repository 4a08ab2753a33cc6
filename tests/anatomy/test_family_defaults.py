"""The literal class defaults are those of transformers' classes, and hub configs that leave them out are read as they are."""

from __future__ import annotations

from typing import Any

import pytest

from vlmerge.anatomy import FAMILIES
from vlmerge.anatomy.decoders import CLASS_DEFAULTS, CROSS_ATTENTION_LAYERS
from vlmerge.anatomy.facts import read_facts
from vlmerge.anatomy.recognition import NOT_YET, says_tied


@pytest.mark.parametrize("model_type", CLASS_DEFAULTS)
def test_class_defaults_are_transformers(model_type: str) -> None:
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[model_type]()
    for key, value in CLASS_DEFAULTS[model_type].items():
        if key in ("num_key_value_heads", "head_dim"):
            continue  # These follow from other keys: see below.
        if key == "rope_theta":
            found = config.rope_parameters.get("full_attention", config.rope_parameters)["rope_theta"]
        elif key == "tie_word_embeddings":
            found = getattr(config, key, False)  # The decoders of Qwen's VLMs have no such key: the whole model says it.
        else:
            found = getattr(config, key)
        assert found == value, key


@pytest.mark.parametrize("model_type", CLASS_DEFAULTS)
def test_heads_follow_from_what_is_said_as_in_transformers(model_type: str) -> None:
    """From config.json alone: a missing key, other numbers of heads, and a null where the class takes one."""
    from transformers import CONFIG_MAPPING

    family = next(
        family
        for family in FAMILIES.values()
        if model_type in family.decoders and (family.is_vlm or model_type in family.model_types)
    )
    more: list[dict[str, Any]] = [{}, {"num_key_value_heads": 2}, {"head_dim": 64}]
    if model_type in ("llama", "qwen2", "qwen3", "phi3", "cohere", "cohere2", "qwen2_vl_text", "qwen2_5_vl_text"):
        more.append({"num_key_value_heads": None})
    for each in more:
        said = {"hidden_size": 192, "num_attention_heads": 6, "model_type": model_type, **each}
        whole = CONFIG_MAPPING[model_type](**said)
        facts = read_facts(family, {"text_config": said} if family.is_vlm else said, {}, {})
        head_dim = getattr(whole, "head_dim", None) or 192 // 6
        assert (facts.kv_heads, facts.head_dim) == (whole.num_key_value_heads, head_dim), each


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.is_vlm and not family.original_llava])
def test_every_family_has_its_classes_default_decoder_and_head(name: str) -> None:
    from transformers import CONFIG_MAPPING

    family = FAMILIES[name]
    assert set(family.decoders) <= set(CLASS_DEFAULTS)
    for model_type in family.model_types:
        config = CONFIG_MAPPING[model_type]()
        assert config.text_config.model_type == family.decoders[0]
        tied = getattr(config, "tie_word_embeddings", getattr(config.text_config, "tie_word_embeddings", None))
        assert tied is says_tied(family, {"model_type": model_type})


def test_where_mllama_looks_at_pictures() -> None:
    from transformers import CONFIG_MAPPING

    assert tuple(CONFIG_MAPPING["mllama_text_model"]().cross_attention_layers) == CROSS_ATTENTION_LAYERS


def test_what_is_refused_is_in_no_row() -> None:
    assert not {model_type for family in FAMILIES.values() for model_type in family.model_types} & set(NOT_YET)


def test_what_a_hub_config_leaves_out_is_what_transformers_fills_in() -> None:
    from transformers import LlavaConfig

    hub = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": {"model_type": "llama", "max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "vocab_size": 32064},
        "vision_config": {"model_type": "clip_vision_model"},
        "torch_dtype": "float16",
    }
    facts = read_facts(FAMILIES["LLaVA"], hub, {}, {})
    whole = LlavaConfig(**hub).text_config
    assert (facts.layers, facts.hidden, facts.intermediate) == (
        whole.num_hidden_layers,
        whole.hidden_size,
        whole.intermediate_size,
    )
    assert (facts.heads, facts.kv_heads, facts.head_dim) == (
        whole.num_attention_heads,
        whole.num_key_value_heads,
        whole.head_dim,
    )
    assert (facts.rope_theta, facts.norm_eps) == (whole.rope_parameters["rope_theta"], whole.rms_norm_eps)
    assert (facts.activation, facts.vocab_rows) == (whole.hidden_act, whole.vocab_size)
    assert (facts.dtype, facts.tied_head, facts.max_positions) == ("float16", False, 4096)


def test_old_and_new_spellings_say_the_same() -> None:
    old = {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}, "torch_dtype": "bfloat16"}
    new = {
        "model_type": "llama",
        "rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2},
        "dtype": "bfloat16",
    }
    assert read_facts(FAMILIES["Llama"], old, {}, {}) == read_facts(FAMILIES["Llama"], new, {}, {})
