"""The one rule: merged where every source has the role, else the host's; every tensor of every model is accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.anatomy import Anatomy, Pairing, Segment, choose_host, dissect, joined, pair, segments_of
from vlmerge.config import ModelRef, Recipe
from vlmerge.errors import MismatchError, UserError
from vlmerge.types import TensorInfo

VLM, ONE, TWO = ModelRef("vlm"), ModelRef("one"), ModelRef("two")
SHAPES = {
    "embed_tokens.weight": (8, 4),
    "norm.weight": (4,),
    "lm_head.weight": (8, 4),
    **{
        f"layers.{layer}.{name}": shape
        for layer in range(2)
        for name, shape in {
            "self_attn.q_proj.weight": (4, 4),
            "self_attn.k_proj.weight": (4, 4),
            "mlp.gate_proj.weight": (6, 4),
            "input_layernorm.weight": (4,),
        }.items()
    },
}
EYES = {
    "vision.embeddings.class_embedding": (3,),
    "vision.encoder.layers.0.mlp.fc1.weight": (3, 3),
    "projector.linear_1.weight": (4, 3),
}


@dataclass(frozen=True)
class Headers:
    """A checkpoint's headers, as the checkpoint package gives them."""

    ref: ModelRef
    config: dict[str, Any]
    tensors: Mapping[str, TensorInfo]
    path: Path = Path("nowhere")
    revision: str | None = None
    weights_format: str = "safetensors"
    total_bytes: int = 0
    licence: str | None = None
    files: dict[str, Path] = field(default_factory=dict)

    def side_files(self) -> dict[str, Path]:
        return self.files


def infos(roles: Mapping[str, tuple[int, ...]], vlm: bool, dtypes: Mapping[str, str]) -> dict[str, TensorInfo]:
    tensors = {}
    for role, shape in roles.items():
        name = role if role.startswith("lm_head") else f"model.{role}"
        if vlm:
            parts = {"vision": "vision_tower.vision_model", "projector": "multi_modal_projector"}
            part, _, rest = role.partition(".")
            name = f"{parts[part]}.{rest}" if part in parts else f"language_model.{name}"
        tensors[name] = TensorInfo(name, dtypes.get(role, "F16"), shape, "model.safetensors")
    return tensors


def vlm(
    ref: ModelRef = VLM, roles: Mapping[str, tuple[int, ...]] | None = None, dtypes: Mapping[str, str] | None = None
) -> Anatomy:
    config = {"model_type": "llava", "text_config": {"num_attention_heads": 1}, "vision_config": {}}
    return dissect(Headers(ref, config, infos(SHAPES | EYES if roles is None else roles, True, dtypes or {})))


def lm(
    ref: ModelRef, roles: Mapping[str, tuple[int, ...]] | None = None, dtypes: Mapping[str, str] | None = None, **config: Any
) -> Anatomy:
    settings = {"model_type": "llama", "num_attention_heads": 1} | config
    return dissect(Headers(ref, settings, infos(SHAPES if roles is None else roles, False, dtypes or {})))


def paired(*anatomies: Anatomy, sources: tuple[ModelRef, ...] | None = None, protect: tuple[str, ...] = ()) -> Pairing:
    models = {ModelRef(each.where): each for each in anatomies}
    host = next(iter(models))
    members = sources or tuple(models)
    layers = anatomies[0].layers
    return pair(models, host=host, segments=(Segment(members, (0,) * len(members), 0, layers, None),), protect=protect)


def account(pairing: Pairing, anatomies: Mapping[ModelRef, Anatomy]) -> None:
    """Promise 4: every tensor of every model is merged, kept, or dropped with a reason; and none is two of these."""
    assert [each.host_name for each in pairing.tensors] == list(anatomies[pairing.host].tensors)
    for ref, anatomy in anatomies.items():
        used = {each.inputs[ref] for each in pairing.tensors if ref in each.inputs}
        if ref == pairing.host:
            used |= {each.host_name for each in pairing.tensors if not each.merged or each.rows is not None}
        dropped = pairing.dropped.get(ref, {})
        assert used | set(dropped) == set(anatomy.tensors)
        assert not used & set(dropped)
        assert all(dropped.values())
    assert all(each.reason for each in pairing.tensors if not each.merged)


def test_a_vlm_with_lms_merges_its_decoder_and_keeps_its_eyes() -> None:
    models = {VLM: vlm(), ONE: lm(ONE), TWO: lm(TWO)}
    pairing = paired(*models.values())
    account(pairing, models)
    assert {each.role for each in pairing.merged} == set(SHAPES)
    assert {each.role for each in pairing.tensors if not each.merged} == set(EYES)
    assert list(pairing.merged[0].inputs) == [VLM, ONE, TWO]
    assert pairing.dropped == {}


def test_two_vlms_share_their_eyes_unless_an_lm_looks_on() -> None:
    other = vlm(TWO)
    assert all(each.merged for each in paired(vlm(), other).tensors)
    models = {VLM: vlm(), TWO: other, ONE: lm(ONE)}
    pairing = paired(*models.values())
    account(pairing, models)
    assert {each.role for each in pairing.merged} == set(SHAPES)
    assert set(pairing.dropped[TWO].values()) == {"the host's is kept: one has no such tensor"}


def test_a_host_that_is_no_source() -> None:
    models = {VLM: vlm(), ONE: lm(ONE)}
    pairing = paired(*models.values(), sources=(ONE,))
    account(pairing, models)
    assert all(list(each.inputs) == [ONE] for each in pairing.merged)
    assert set(pairing.dropped[VLM].values()) == {"the host is not a source here"}


@pytest.mark.parametrize("text", ["layernorm", "model.layers.1.", "language_model.model.norm", "layers.0.mlp", "vision"])
def test_protection_asks_the_name_on_disk_the_role_and_the_plain_name(text: str) -> None:
    models = {VLM: vlm(), TWO: vlm(TWO)}
    pairing = paired(*models.values(), protect=(text,))
    account(pairing, models)
    kept = {each.role for each in pairing.tensors if not each.merged}
    wanted = text.removeprefix("language_model.").removeprefix("model.")
    assert kept == {
        role
        for role in SHAPES | EYES
        if wanted in role and not (text.endswith("norm") and "layer" in role and wanted == "norm")
    }
    assert all(each.reason == f"protected by {text!r}" for each in pairing.tensors if not each.merged)


ROLE_SETS = st.sets(
    st.sampled_from(
        sorted(set(SHAPES) - {"embed_tokens.weight", "layers.0.mlp.gate_proj.weight", "layers.1.mlp.gate_proj.weight"})
    )
)


@given(ROLE_SETS, ROLE_SETS, st.sets(st.sampled_from(["q_proj", "norm", "lm_head", "linear_1", "embed"])), st.booleans())
def test_every_tensor_is_accounted_for(lost: set[str], lost_too: set[str], protect: set[str], inside: bool) -> None:
    def without(roles: set[str]) -> dict[str, tuple[int, ...]]:
        return {role: shape for role, shape in SHAPES.items() if role not in roles}

    models = {VLM: vlm(roles=without(lost) | EYES), ONE: lm(ONE, without(lost_too)), TWO: lm(TWO)}
    pairing = paired(*models.values(), sources=(VLM, ONE, TWO) if inside else (ONE, TWO), protect=tuple(sorted(protect)))
    account(pairing, models)
    for each in pairing.merged:
        assert each.role not in lost
        # A model without a head of its own has its embedding as head.
        assert each.role not in lost_too or each.inputs[ONE] == "model.embed_tokens.weight"
    missing = (lost_too - {"lm_head.weight"}) - lost
    assert {each.role for each in pairing.tensors if not each.merged and "has no such" in (each.reason or "")} >= {
        role for role in missing if not any(text in role for text in protect)
    }


def test_biases_that_one_side_lacks_are_warned_of() -> None:
    bias = {f"layers.{layer}.self_attn.q_proj.bias": (4,) for layer in range(2)}
    pairing = paired(vlm(), lm(ONE, SHAPES | bias))
    assert [warning for warning in pairing.warnings if "bias" in warning] == [
        "one: layers.*.self_attn.q_proj.bias is not in the host, and is left out"
    ]
    assert set(pairing.dropped[ONE].values()) == {"the host has no such tensor"}
    pairing = paired(vlm(roles=SHAPES | bias | EYES), lm(ONE))
    assert "one has no layers.*.self_attn.q_proj.bias (2 tensors): the host's is kept" in pairing.warnings


def test_settings_that_differ_are_warned_of_and_sizes_refused() -> None:
    pairing = paired(vlm(), lm(ONE, rope_theta=5e5, rms_norm_eps=1e-5, hidden_act="gelu"))
    assert [warning.split()[0] for warning in pairing.warnings[:3]] == ["rope_theta", "rms_norm_eps", "activation"]
    assert "500000" in pairing.warnings[0]
    with pytest.raises(MismatchError, match="1 attention heads"):
        paired(vlm(), lm(ONE, num_attention_heads=2))
    narrow = SHAPES | {"layers.1.mlp.gate_proj.weight": (5, 4)}
    with pytest.raises(MismatchError) as caught:
        paired(vlm(), lm(ONE, narrow))
    for part in ("language_model.model.layers.1.mlp.gate_proj.weight", "vlm", "one", "[6, 4]", "[5, 4]"):
        assert part in str(caught.value)


def test_integers_and_quantised_weights() -> None:
    positions = {"vision.embeddings.position_ids": (1, 3)}
    dtypes = {"vision.embeddings.position_ids": "I64"}
    models = {VLM: vlm(roles=SHAPES | EYES | positions, dtypes=dtypes), TWO: vlm(TWO, SHAPES | EYES | positions, dtypes)}
    pairing = paired(*models.values())
    account(pairing, models)
    assert [each.role for each in pairing.tensors if not each.merged] == list(positions)
    with pytest.raises(MismatchError, match="quantised"):
        lm(ONE, dtypes={"layers.0.mlp.gate_proj.weight": "I8"})


def test_rotary_frequencies_are_no_role() -> None:
    frequencies = {f"layers.{layer}.self_attn.rotary_emb.inv_freq": (1,) for layer in range(2)}
    models = {ONE: lm(ONE, SHAPES | frequencies), TWO: lm(TWO, SHAPES | frequencies)}
    pairing = paired(*models.values())
    account(pairing, models)
    assert len(pairing.dropped[TWO]) == 2
    assert {each.role for each in pairing.tensors if each.is_buffer} == set(frequencies)


def test_layers_that_are_missing_and_names_that_fit_nothing() -> None:
    with pytest.raises(MismatchError, match="no tensors of layer 0"):
        lm(ONE, {role: shape for role, shape in SHAPES.items() if "layers.0" not in role})
    with pytest.raises(MismatchError, match="fit no known layout"):
        dissect(Headers(ONE, {"model_type": "llama"}, infos({"wte.weight": (8, 4)}, False, {})))
    for config, words in (
        ({"model_type": "new_vl", "architectures": ["NewVLForConditionalGeneration"], "vision_config": {"depth": 2}}, "new_vl"),
        ({"model_type": "llava", "text_config": {"model_type": "opt"}, "vision_config": {}}, "opt"),
        ({"model_type": "llava"}, "which kind"),
        ({}, "None"),
    ):
        with pytest.raises(MismatchError, match=words) as caught:
            dissect(Headers(ONE, config, infos(SHAPES, False, {})))
        assert "llama" in str(caught.value) or "text_config" in str(caught.value)


def test_who_is_host() -> None:
    models = {ONE: lm(ONE), TWO: lm(TWO), VLM: vlm()}
    assert choose_host([ONE, VLM, TWO], models, vlm=None, base=TWO) == VLM
    assert choose_host([ONE, TWO], models, vlm=VLM, base=TWO) == VLM
    assert choose_host([ONE, TWO], models, vlm=None, base=TWO) == TWO
    assert choose_host([ONE, TWO], models, vlm=None, base=None) == ONE
    assert choose_host([ONE], models, vlm=TWO, base=None) == TWO  # language models alone
    with pytest.raises(MismatchError, match="not a vision-language model"):
        choose_host([ONE, VLM], models, vlm=ONE, base=None)


def sliced(*ranges: tuple[int, int], base: str | None = None) -> Recipe:
    sources = [
        [{"model": name, "layer_range": each, "parameters": {"weight": 1}} for name in ("one", "two")] for each in ranges
    ]
    return Recipe.model_validate(
        {"merge_method": "linear", "base_model": base, "slices": [{"sources": each} for each in sources]}
    )


def test_slices_that_keep_the_layers_have_the_structure_of_the_list() -> None:
    listed = Recipe.model_validate({"merge_method": "linear", "models": [{"model": "one"}, {"model": "two"}]})
    depths = {ONE: 4, TWO: 4}
    assert joined(segments_of(sliced((0, 1), (1, 4)), depths, ONE)) == segments_of(listed, depths, ONE)
    assert len(joined(segments_of(sliced((0, 2), (1, 4)), depths, ONE))) == 2
    with pytest.raises(UserError, match="beyond"):
        segments_of(sliced((0, 5)), depths, ONE)
    with pytest.raises(MismatchError, match="different depths"):
        segments_of(listed, {ONE: 4, TWO: 3}, ONE)


def test_restacked_layers_are_accounted_for() -> None:
    models = {ONE: lm(ONE), TWO: lm(TWO)}
    depths = {ref: anatomy.layers for ref, anatomy in models.items()}
    pairing = pair(models, host=ONE, segments=joined(segments_of(sliced((1, 2), (1, 2)), depths, ONE)))
    assert pairing.layers == 2
    assert [each.host_name for each in pairing.tensors if each.role.endswith("q_proj.weight")] == [
        "model.layers.1.self_attn.q_proj.weight"
    ] * 2
    assert {each.name for each in pairing.tensors} == set(models[ONE].tensors)
    for ref in models:
        assert set(pairing.dropped[ref]) == {name for name in models[ref].tensors if "layers.0" in name}
        assert set(pairing.dropped[ref].values()) == {"no slice takes it"}
