"""The literal class defaults are those of transformers' classes, and hub configs that leave them out are read as they are."""

from __future__ import annotations

from vlmerge.anatomy import FAMILIES
from vlmerge.anatomy.facts import read_facts
from vlmerge.anatomy.families import CLASS_DEFAULTS


def test_class_defaults_are_transformers() -> None:
    from transformers import CONFIG_MAPPING

    for model_type, defaults in CLASS_DEFAULTS.items():
        config = CONFIG_MAPPING[model_type]()
        for key, value in defaults.items():
            found = config.rope_parameters["rope_theta"] if key == "rope_theta" else getattr(config, key)
            assert found == value, f"{model_type}.{key}"


def test_every_family_has_defaults_and_its_class_default_decoder() -> None:
    from transformers import LlavaConfig

    assert all(family.decoders[0] in CLASS_DEFAULTS for family in FAMILIES.values())
    assert LlavaConfig().text_config.model_type == FAMILIES["LLaVA"].decoders[0]
    assert LlavaConfig().tie_word_embeddings is False


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
