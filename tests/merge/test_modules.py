"""`modules:` gives each part of a model its own sources; what it does not name stays the host's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_family import write_lm, write_vlm

from vlmerge.config import Recipe, dump_recipe, load_recipe, parse_recipe, read_recipe
from vlmerge.errors import ConfigError, MismatchError
from vlmerge.merge import merge, prepare

LINEAR: dict[str, Any] = {"merge_method": "linear", "parameters": {"normalize": False}}


def models(**weights: float) -> dict[str, Any]:
    return {"models": [{"model": f"./{name}", "parameters": {"weight": weight}} for name, weight in weights.items()]}


def sliced(*ends: int, **weights: float) -> dict[str, Any]:
    first, slices = 0, []
    for end in ends:
        sources = [
            {"model": f"./{name}", "layer_range": [first, end], "parameters": {"weight": w}} for name, w in weights.items()
        ]
        slices.append({"sources": sources})
        first = end
    return {"slices": slices}


@pytest.fixture
def family(tmp_path: Path) -> Path:
    write_vlm(tmp_path / "vlm", "hf", seed=1)
    write_vlm(tmp_path / "vlm2", "hf", seed=2)
    write_lm(tmp_path / "ja", seed=3)
    return tmp_path


def loaded(folder: Path, modules: dict[str, Any], **keys: Any) -> Recipe:
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**LINEAR, **keys, "modules": modules}), encoding="utf-8")
    return load_recipe(folder / "recipe.yaml")


def merged(folder: Path, modules: dict[str, Any], **keys: Any) -> dict[str, torch.Tensor]:
    recipe = loaded(folder, modules, **keys)
    assert read_recipe(dump_recipe(recipe), "a dump") == recipe
    out = folder / f"out-{len(list(folder.iterdir()))}"
    merge(recipe, out)
    return load_file(out / "model.safetensors")


def tensors(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(folder / name / "model.safetensors")


def part(name: str) -> str:
    if "vision_tower" in name:
        return "vision"
    return "projector" if "projector" in name else "decoder"


def test_each_part_has_its_own_weights(family: Path) -> None:
    one, two = tensors(family, "vlm"), tensors(family, "vlm2")
    weights = {"decoder": (0.5, 0.25), "vision": (0.75, 0.25), "projector": (0.0, 1.0)}
    names = {"decoder": "text_decoder", "vision": "vision_tower", "projector": "multi_modal_projector"}
    result = merged(family, {names[key]: models(vlm=a, vlm2=b) for key, (a, b) in weights.items()})
    assert result.keys() == one.keys()
    assert {part(name) for name in result} == set(weights)
    for name, tensor in result.items():
        if not name.endswith(("embed_tokens.weight", "lm_head.weight")):  # the image row is their own matter
            a, b = weights[part(name)]
            assert torch.equal(tensor, (a * one[name].float() + b * two[name].float()).to(tensor.dtype)), name


def test_what_is_not_named_stays_the_hosts(family: Path) -> None:
    one = tensors(family, "vlm")
    of_tower = merged(family, {"vision_tower": models(vlm=0.5, vlm2=0.5)})
    assert {part(name) for name in one if not torch.equal(of_tower[name], one[name])} == {"vision"}
    of_decoder = merged(family, {"default": models(vlm=0.5, ja=0.5)})
    assert {part(name) for name in one if not torch.equal(of_decoder[name], one[name])} == {"decoder"}
    pairing = prepare(loaded(family, {"vision_tower": models(vlm=0.5, vlm2=0.5)})).pairing
    reasons = {pair.reason for pair in pairing.tensors if not pair.merged}
    assert reasons >= {"`modules` names no models for the decoder", "`modules` names no models for the projector"}


def test_a_decoder_alone_may_be_sliced_and_sources_of_a_tower_need_no_like_decoder(family: Path) -> None:
    write_vlm(family / "deep", "hf", seed=5, layers=4)
    one, deep, ja = tensors(family, "vlm"), tensors(family, "deep"), tensors(family, "ja")
    slices = {
        "slices": [{"sources": [{"model": "./ja", "layer_range": [1, 2]}, {"model": "./vlm", "layer_range": [0, 1]}]}] * 2
    }
    result = merged(
        family,
        {"text_decoder": {**slices, "parameters": {"weight": 0.5}}, "vision_tower": models(vlm=0, deep=1)},
    )
    assert all(torch.equal(result[name], deep[name]) for name in result if part(name) == "vision")
    name = "layers.1.mlp.up_proj.weight"
    wanted = (
        0.5 * ja["model.layers.1.mlp.up_proj.weight"].float()
        + 0.5 * one[f"language_model.model.{name.replace('1', '0')}"].float()
    )
    found = result[f"language_model.model.{name}"]
    assert torch.equal(found, wanted.to(found.dtype))


def test_the_slices_of_a_tower_stay_where_they_are(family: Path) -> None:
    whole = merged(family, {"vision_tower": models(vlm=0.5, vlm2=0.25)})
    same = merged(family, {"vision_tower": sliced(1, 2, vlm=0.5, vlm2=0.25)})
    assert all(torch.equal(whole[name], same[name]) for name in whole)
    with pytest.raises(MismatchError, match="do not cover"):
        merged(family, {"vision_tower": sliced(1, vlm=0.5, vlm2=0.25)})
    moved = {"slices": [{"sources": [{"model": f"./{name}", "layer_range": [at, at + 1], "parameters": {"weight": 1}}
                                     for at, name in enumerate(("vlm", "vlm2"))]}]}  # fmt: skip
    with pytest.raises(ConfigError, match="only the decoder's layers can be stacked anew"):
        merged(family, {"vision_tower": moved})
    with pytest.raises(ConfigError, match="only the decoder's layers can be stacked anew"):
        merged(family, {"multi_modal_projector": sliced(1, vlm=0.5, vlm2=0.25)})


def test_a_language_model_has_no_tower(family: Path) -> None:
    write_lm(family / "en", seed=4)
    with pytest.raises(MismatchError, match="speaks of a vision tower, and the host has none"):
        merged(family, {"default": models(ja=0.5, en=0.5), "vision_tower": models(ja=0.5, en=0.5)})
    told = prepare(loaded(family, {"vision_tower": models(vlm=0.5, ja=0.5)})).pairing
    assert any("ja has no vision tower: the host's is kept" in warning for warning in told.warnings)
    assert not any(pair.merged for pair in told.tensors)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown name": ({"modules": {"vision": models(a=1)}}, "vision_tower"),
    "one part twice": ({"modules": {"default": models(a=1), "text_decoder": models(a=1)}}, "same part"),
    "neither": ({"modules": {"default": {"parameters": {"weight": 1}}}}, "either `models` or `slices`"),
    "both": ({"modules": {"default": {**models(a=1), **sliced(1, a=1)}}}, "either `models` or `slices`"),
    "beside models": ({"modules": {"default": models(a=1)}, **models(a=1)}, "models and modules"),
    "no module": ({"modules": {}}, "at least one entry"),
    "a parameter": ({"modules": {"default": {**models(a=1), "parameters": {"wieght": 1}}}}, "did you mean `weight`"),
    "a weight": ({"modules": {"default": {"models": [{"model": "a"}]}}}, "`weight` is missing"),
    "a key": ({"modules": {"default": {**models(a=1), "layers": 3}}}, "layers"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name: str) -> None:
    data, says = MISTAKES[name]
    with pytest.raises(ConfigError, match=says):
        parse_recipe({"merge_method": "linear", **data}, "recipe.yaml")


def test_flags_are_read_in_modules_too() -> None:
    block = {**models(a=1, b=2), "parameters": {"normalize": 0}}
    recipe = parse_recipe({"merge_method": "linear", "modules": {"default": block}}, "recipe.yaml")
    assert recipe.modules is not None
    assert recipe.modules["default"].parameters == {"normalize": False}
