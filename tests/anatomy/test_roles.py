"""Every layout gives the same roles, and a live model's parameters have those of its files."""

from __future__ import annotations

import pytest

from vlmerge.anatomy import FAMILIES, canonical_name, live_roles, roles_of
from vlmerge.anatomy.roles import at_layer, decoder_layer, is_buffer, is_decoder, vision_layer

ROLES = [
    "embed_tokens.weight",
    "layers.0.self_attn.q_proj.weight",
    "layers.11.mlp.down_proj.weight",
    "norm.weight",
    "lm_head.weight",
    "vision.embeddings.class_embedding",
    "vision.encoder.layers.1.self_attn.q_proj.bias",
    "vision.post_layernorm.weight",
    "projector.linear_1.weight",
    "projector.linear_2.bias",
]
NAMES = {
    ("LLaVA", "old"): [
        "language_model.model.embed_tokens.weight",
        "language_model.model.layers.0.self_attn.q_proj.weight",
        "language_model.model.layers.11.mlp.down_proj.weight",
        "language_model.model.norm.weight",
        "language_model.lm_head.weight",
        "vision_tower.vision_model.embeddings.class_embedding",
        "vision_tower.vision_model.encoder.layers.1.self_attn.q_proj.bias",
        "vision_tower.vision_model.post_layernorm.weight",
        "multi_modal_projector.linear_1.weight",
        "multi_modal_projector.linear_2.bias",
    ],
    ("LLaVA", "new"): [
        "model.language_model.embed_tokens.weight",
        "model.language_model.layers.0.self_attn.q_proj.weight",
        "model.language_model.layers.11.mlp.down_proj.weight",
        "model.language_model.norm.weight",
        "lm_head.weight",
        "model.vision_tower.embeddings.class_embedding",
        "model.vision_tower.encoder.layers.1.self_attn.q_proj.bias",
        "model.vision_tower.post_layernorm.weight",
        "model.multi_modal_projector.linear_1.weight",
        "model.multi_modal_projector.linear_2.bias",
    ],
    ("LLaVA (original)", "original"): [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.11.mlp.down_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
        "model.vision_tower.vision_tower.vision_model.embeddings.class_embedding",
        "model.vision_tower.vision_tower.vision_model.encoder.layers.1.self_attn.q_proj.bias",
        "model.vision_tower.vision_tower.vision_model.post_layernorm.weight",
        "model.mm_projector.0.weight",
        "model.mm_projector.2.bias",
    ],
    ("Llama", "plain"): [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.11.mlp.down_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
    ],
}


@pytest.mark.parametrize("key", NAMES, ids=" ".join)
def test_every_layout_gives_the_same_roles(key: tuple[str, str]) -> None:
    names = NAMES[key]
    assert roles_of(names, FAMILIES[key[0]]) == dict(zip(ROLES, names, strict=False))


def test_live_parameters_have_the_roles_of_the_files() -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlavaConfig, LlavaForConditionalGeneration

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8}
    vision = {"model_type": "clip_vision_model", "num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8,
              "num_attention_heads": 1, "image_size": 4, "patch_size": 2}  # fmt: skip
    with torch.device("meta"):
        lm = LlamaForCausalLM(LlamaConfig(**sizes))
        vlm = LlavaForConditionalGeneration(LlavaConfig(text_config={"model_type": "llama", **sizes}, vision_config=vision))
    decoder, whole = (live_roles(name for name, _ in model.named_parameters()) for model in (lm, vlm))
    assert set(decoder) == {role for role in whole if is_decoder(role)}
    assert "embed_tokens.weight" in decoder
    assert {role.split(".")[0] for role in whole if not is_decoder(role)} == {"vision", "projector"}


def test_what_belongs_to_no_part_is_named_as_it_is() -> None:
    names = [
        "model.embed_tokens.weight",
        "model.image_newline",
        "model.extra.weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
    ]
    roles = list(roles_of(names, FAMILIES["LLaVA (original)"]))
    assert roles == [
        "embed_tokens.weight",
        "projector.image_newline",
        "other.model.extra.weight",
        "layers.0.self_attn.rotary_emb.inv_freq",
    ]
    assert [is_buffer(role) for role in roles] == [False, False, False, True]
    with pytest.raises(LookupError):
        roles_of(["transformer.wte.weight"], FAMILIES["Llama"])


def test_canonical_names_and_layers() -> None:
    assert canonical_name("layers.3.mlp.up_proj.weight") == "model.layers.3.mlp.up_proj.weight"
    assert canonical_name("lm_head.weight") == "lm_head.weight"
    assert canonical_name("vision.encoder.layers.1.mlp.fc1.bias") == "vision.encoder.layers.1.mlp.fc1.bias"
    assert decoder_layer("vision.encoder.layers.1.mlp.fc1.bias") is None
    assert vision_layer("vision.encoder.layers.1.mlp.fc1.bias") == 1
    assert at_layer("layers.3.mlp.up_proj.weight", 12) == "layers.12.mlp.up_proj.weight"
