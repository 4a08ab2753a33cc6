"""Every family merges with the language model of its decoder: on disk, in memory, under the hub's names, losing nothing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_families import AS_IN_MEMORY, IMAGE, TINY, WORDS, Tiny, write_host, write_lm

from vlmerge.anatomy import Anatomy, dissect, live_roles
from vlmerge.checkpoint import resolve
from vlmerge.config import ModelRef, Recipe
from vlmerge.merge import MergeSummary, merge, prepare

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Kin:
    """A family's models on disk."""

    tiny: Tiny
    folder: Path

    @property
    def host(self) -> Tensors:
        return load_file(self.folder / "host" / "model.safetensors")

    def recipe(self, method: str, host: float, lm: float, **more: Any) -> Recipe:
        """Host and language model, with a base where the method has one."""
        models = [
            {"model": str(self.folder / name), "parameters": {"weight": weight}}
            for name, weight in (("host", host), ("lm", lm))
        ]
        base = {} if method == "linear" else {"base_model": str(self.folder / "base")}
        return Recipe.model_validate({"merge_method": method, "models": models, **base, **more})

    def plain_name(self, name: str) -> str | None:
        """A language model's name of a tensor of the host's decoder, worked out here from the names alone."""
        found = re.search(r"(?:^|\.)(embed_tokens\.weight|layers\.\d+\..*|norm\.weight|lm_head\.weight)$", name)
        if found is None or re.search(r"vis|projector|connector|cross_attn", name):
            return None
        plain = found[1]
        crossing = self.tiny.config.get("text_config", {}).get("cross_attention_layers", [])
        if plain.startswith("layers."):
            _, layer, rest = plain.split(".", 2)
            if int(layer) in crossing:
                return None
            plain = f"layers.{[each for each in range(9) if each not in crossing].index(int(layer))}.{rest}"
        return plain if plain.startswith("lm_head") else f"model.{plain}"


@pytest.fixture(scope="module", params=TINY)
def kin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kin:
    tiny, folder = TINY[request.param], tmp_path_factory.mktemp(request.param)
    write_host(folder / "host", tiny)
    write_lm(folder / "lm", tiny.lm, seed=2)
    write_lm(folder / "base", tiny.lm, seed=3)
    return Kin(tiny, folder)


def opened(folder: Path) -> Anatomy:
    return dissect(resolve(ModelRef.parse(str(folder))))


def loaded(folder: Path) -> Any:
    """By transformers' own class, which must find every tensor, and no other."""
    from transformers import AutoModelForImageTextToText

    auto: Any = AutoModelForImageTextToText
    model, info = auto.from_pretrained(folder, output_loading_info=True)
    assert not {key: value for key, value in info.items() if value}
    return model.eval()


def answer(model: Any, tiny: Tiny) -> torch.Tensor:
    """Logits of a question about a picture."""
    pixels, placeholders = tiny.inputs()
    ids = torch.tensor([[1, 5, *[IMAGE] * placeholders, 6, 7]])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), **pixels, **tiny.more(ids)).logits


def merged_names(summary: MergeSummary) -> set[str]:
    return {each.name for each in summary.pairing.merged}


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


def test_it_is_known_by_what_its_files_say(kin: Kin) -> None:
    host, lm = opened(kin.folder / "host"), opened(kin.folder / "lm")
    assert host.family.name == kin.tiny.family
    assert host.facts.kind == lm.facts.kind == kin.tiny.lm["model_type"]
    assert (host.facts.vocab_rows, lm.facts.vocab_rows) == kin.tiny.rows
    assert host.warnings == lm.warnings == ()
    assert not [role for role in host.roles if role.startswith("other.")]


def test_sizes_are_those_of_transformers(kin: Kin) -> None:
    from transformers import AutoConfig

    for name in ("host", "lm"):
        facts = opened(kin.folder / name).facts
        whole = AutoConfig.from_pretrained(kin.folder / name)
        text = whole.get_text_config()
        crossing = getattr(text, "cross_attention_layers", None) or []
        rope = text.rope_parameters.get("full_attention", text.rope_parameters)
        assert facts.layers == text.num_hidden_layers - len(crossing)
        assert (facts.hidden, facts.intermediate) == (text.hidden_size, text.intermediate_size)
        assert (facts.heads, facts.kv_heads) == (text.num_attention_heads, text.num_key_value_heads)
        assert facts.head_dim == (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
        assert facts.rope_theta == rope["rope_theta"]
        assert facts.norm_eps == getattr(text, "rms_norm_eps", getattr(text, "layer_norm_eps", None))
        assert facts.activation == getattr(text, "hidden_activation", getattr(text, "hidden_act", None))
        assert facts.tied_head == getattr(whole, "tie_word_embeddings", False)


def test_parameters_in_memory_have_the_roles_of_the_files(kin: Kin) -> None:
    host = opened(kin.folder / "host")
    on_disk = {role: host.tensors[name].shape for role, name in host.roles.items() if host.tensors[name].is_float}
    parameters = dict(loaded(kin.folder / "host").named_parameters())
    in_memory = {role: tuple(parameters[name].shape) for role, name in live_roles(parameters).items()}
    assert in_memory == on_disk


def test_the_newer_layout_has_the_same_roles(kin: Kin, tmp_path: Path) -> None:
    new = opened(write_host(tmp_path / "new", kin.tiny, names=AS_IN_MEMORY))
    old = opened(kin.folder / "host")
    assert {role for role in old.roles if not role.endswith("position_ids")} == set(new.roles)
    assert old.facts == new.facts


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_a_weight_of_nothing_leaves_the_host_bit_for_bit(kin: Kin, tmp_path: Path, method: str) -> None:
    recipe = kin.recipe("linear", 1, 0)
    if method == "task_arithmetic":
        sources = [{"model": str(kin.folder / "lm"), "parameters": {"weight": 0}}]
        recipe = Recipe.model_validate({"merge_method": method, "base_model": str(kin.folder / "host"), "models": sources})
    assert merge(recipe, tmp_path / "out").merged == kin.tiny.merged
    result = load_file(tmp_path / "out" / "model.safetensors")
    assert list(result) == list(kin.host)
    assert all(same_bits(result[name], tensor) for name, tensor in kin.host.items())
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == kin.tiny.config


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties"])
def test_the_result_loads_and_answers_otherwise(kin: Kin, tmp_path: Path, method: str) -> None:
    more = {"parameters": {"density": 0.5}} if method == "ties" else {}
    summary = merge(kin.recipe(method, 0.5, 0.5, **more), tmp_path / "out")
    before, after = answer(loaded(kin.folder / "host"), kin.tiny), answer(loaded(tmp_path / "out"), kin.tiny)
    assert torch.isfinite(after).all()
    assert before.shape == after.shape
    assert not torch.allclose(before, after, atol=1e-4)
    host, result = kin.host, load_file(tmp_path / "out" / "model.safetensors")
    assert summary.merged == kin.tiny.merged
    assert {name for name in host if kin.plain_name(name) is not None} == merged_names(summary)
    for name, tensor in host.items():
        assert same_bits(tensor, result[name]) == (name not in merged_names(summary)), name
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == kin.tiny.config


def test_each_tensor_meets_its_own(kin: Kin, tmp_path: Path) -> None:
    merge(kin.recipe("linear", 0.5, 0.5), tmp_path / "out")
    host, lm = kin.host, load_file(kin.folder / "lm" / "model.safetensors")
    result = load_file(tmp_path / "out" / "model.safetensors")
    known = min(len(WORDS), kin.tiny.rows[1])
    for name, tensor in host.items():
        plain = kin.plain_name(name)
        if plain is None:
            continue
        other = lm.get(plain, lm["model.embed_tokens.weight"])
        rows = known if re.search("embed_tokens|lm_head", name) else len(tensor)
        mean = (tensor[:rows].double() + other[:rows].double()) / 2
        assert torch.allclose(result[name][:rows].double(), mean, rtol=1e-6, atol=1e-7), name
        assert torch.equal(result[name][rows:], tensor[rows:]), name


def test_in_place_is_what_is_written(kin: Kin, tmp_path: Path) -> None:
    from vlmerge.runtime.parents import Parents

    recipe = kin.recipe("task_arithmetic", 0.3, 0.6)
    prepared = prepare(recipe)
    merge(recipe, tmp_path / "out", prepared=prepared)
    model = loaded(kin.folder / "host")
    changed = Parents.read(prepared, model, torch.device("cpu")).merge_into_host(recipe)
    assert not changed  # the decoder alone
    result, parameters = load_file(tmp_path / "out" / "model.safetensors"), dict(model.named_parameters())
    names = opened(tmp_path / "out").roles
    for role, name in live_roles(parameters).items():
        assert torch.equal(parameters[name], result[names[role]]), role
    assert torch.equal(answer(model, kin.tiny), answer(loaded(tmp_path / "out"), kin.tiny))


def test_every_tensor_is_merged_kept_or_told_of(kin: Kin) -> None:
    prepared = prepare(kin.recipe("task_arithmetic", 0.5, 0.5))
    tensors = prepared.pairing.tensors
    for ref, anatomy in prepared.anatomies.items():
        used = {each.inputs[ref] for each in tensors if ref in each.inputs}
        if ref == prepared.host:
            used |= {each.host_name for each in tensors if not each.merged or each.rows is not None}
        dropped = prepared.pairing.dropped.get(ref, {})
        assert used | set(dropped) == set(anatomy.tensors)
        assert not used & set(dropped)
    assert all(each.reason for each in tensors if not each.merged)
    # All that a language model can lose is a head, where the host's is its embedding.
    assert {name for lost in prepared.pairing.dropped.values() for name in lost} <= {"lm_head.weight"}


def test_no_row_of_the_table_is_without_a_tiny_checkpoint() -> None:
    from vlmerge.anatomy import FAMILIES

    seen = {(tiny.family, tiny.config["model_type"], tiny.lm["model_type"]) for tiny in TINY.values()}
    rows = [family for family in FAMILIES.values() if family.is_vlm and not family.original_llava]
    assert {family.name for family in rows} == {name for name, _, _ in seen}
    assert {each for family in rows for each in family.model_types} == {model_type for _, model_type, _ in seen}
    assert {(family.name, kind) for family in rows for kind in family.pairs_with} == {(name, kind) for name, _, kind in seen}
