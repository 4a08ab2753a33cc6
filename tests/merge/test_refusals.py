"""What cannot be merged is refused before anything is written, and the message says what, where and what to do."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_family import HIDDEN, INTER, decoder, write_lm, write_vlm

from vlmerge.config import load_recipe
from vlmerge.errors import ConfigError, MismatchError, UserError
from vlmerge.merge import merge, prepare, prepare_models
from vlmerge.methods import METHODS, resolve_values


def attempt(folder: Path, recipe: dict[str, Any]) -> Path:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return merge(load_recipe(folder / "recipe.yaml"), folder / "out").out


def linear(*weights: float, names: tuple[str, ...] = ("./vlm", "./ja"), **more: Any) -> dict[str, Any]:
    models = [{"model": name, "parameters": {"weight": weight}} for name, weight in zip(names, weights, strict=True)]
    return {"merge_method": "linear", "models": models, **more}


def nothing_left(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} <= {"recipe.yaml", "vlm", "ja", "base"}


@pytest.fixture(autouse=True)
def many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with a tensor is not in its first piece."""
    monkeypatch.setattr(import_module("vlmerge.merge"), "PIECE", 97)


NAN = torch.full((INTER, HIDDEN), 1.0, dtype=torch.float16)
NAN[3, 5] = float("nan")


@pytest.mark.parametrize("who", ["vlm", "ja"])
def test_nan_in_a_parent(tmp_path: Path, who: str) -> None:
    role = "model.layers.1.mlp.up_proj.weight"
    write_vlm(tmp_path / "vlm", "hf", edit={role: NAN} if who == "vlm" else {})
    write_lm(tmp_path / "ja", edit={role: NAN} if who == "ja" else {})
    with pytest.raises(MismatchError, match="NaN") as caught:
        attempt(tmp_path, linear(0.5, 0.5))
    assert f"{who}: " in str(caught.value)
    assert role in str(caught.value)
    nothing_left(tmp_path)


def test_infinity_in_a_tensor_that_is_kept(tmp_path: Path) -> None:
    bad = torch.full((HIDDEN, 16), float("inf"), dtype=torch.float16)
    write_vlm(tmp_path / "vlm", "hf-new", edit={"projector.linear_1.weight": bad})
    write_lm(tmp_path / "ja")
    with pytest.raises(MismatchError, match=r"model\.multi_modal_projector\.linear_1\.weight"):
        attempt(tmp_path, linear(0.5, 0.5))
    nothing_left(tmp_path)


def test_a_result_that_its_dtype_cannot_hold(tmp_path: Path) -> None:
    write_vlm(tmp_path / "vlm", "hf")
    write_lm(tmp_path / "ja")
    with pytest.raises(MismatchError, match="float16 can hold"):
        attempt(tmp_path, linear(1e6, 1, parameters={"normalize": False}))
    nothing_left(tmp_path)
    assert attempt(tmp_path, linear(1e6, 1, parameters={"normalize": False}, out_dtype="bfloat16")).is_dir()


def test_weights_that_sum_to_zero_in_one_layer_alone(tmp_path: Path) -> None:
    write_vlm(tmp_path / "vlm", "hf")
    write_lm(tmp_path / "ja")
    recipe = linear(0.5, 0.5)
    recipe["models"][0]["parameters"]["weight"] = [{"filter": "layers.2.self_attn.k_proj", "value": -0.5}, {"value": 0.5}]
    with pytest.raises(ConfigError, match="sum to zero") as caught:
        attempt(tmp_path, recipe)
    assert "layers.2.self_attn.k_proj" in str(caught.value)
    nothing_left(tmp_path)


def test_filters_that_leave_tensors_without_a_weight(tmp_path: Path) -> None:
    write_vlm(tmp_path / "vlm", "hf")
    write_lm(tmp_path / "ja")
    recipe = linear(0.5, 0.5)
    recipe["models"][1]["parameters"]["weight"] = [{"filter": "self_attn", "value": 0.5}]
    with pytest.raises(ConfigError, match="weight") as caught:
        attempt(tmp_path, recipe)
    assert "ja" in str(caught.value)
    nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": 2}, ("3 decoder layers", "2 decoder layers")),
        (
            {"edit": {"model.layers.2.self_attn.k_proj.weight": torch.zeros(8, HIDDEN)}},
            (f"[{HIDDEN}, {HIDDEN}]", f"[8, {HIDDEN}]"),
        ),
        ({"rows": 20, "tokenizer": "none"}, ("tokenizer", "20 rows")),
    ],
)
def test_models_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    write_vlm(tmp_path / "vlm", "hf")
    write_lm(tmp_path / "ja", **changes)
    with pytest.raises(MismatchError) as caught:
        attempt(tmp_path, linear(0.5, 0.5))
    for text in (*words, "vlm", "ja"):
        assert text in str(caught.value)
    nothing_left(tmp_path)


def test_every_message_has_a_remedy(tmp_path: Path) -> None:
    write_vlm(tmp_path / "vlm", "hf")
    write_lm(tmp_path / "ja", layers=2)
    with pytest.raises(UserError) as caught:
        attempt(tmp_path, linear(0.5, 0.5))
    assert caught.value.remedy
    assert caught.value.expected


def test_a_recipe_of_another_structure_is_not_resolved(tmp_path: Path) -> None:
    write_vlm(tmp_path / "vlm", "hf")
    write_lm(tmp_path / "ja")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(linear(0.5, 0.5)), encoding="utf-8")
    (tmp_path / "swap.yaml").write_text(yaml.safe_dump(linear(1, names=("./ja",), vlm="./vlm")), encoding="utf-8")
    both, swap = load_recipe(tmp_path / "recipe.yaml"), load_recipe(tmp_path / "swap.yaml")
    prepared = prepare(both)
    with pytest.raises(ConfigError, match="another structure"):
        resolve_values(swap, prepared.pairing)
    assert len(resolve_values(swap, prepared.pairing_for(swap))) == len(prepared.pairing.tensors)
    assert prepared.pairing_for(both) is prepared.pairing


def test_models_of_a_run_serve_any_recipe_over_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared once, as a run does, and by itself: the same bytes, whatever the method and whichever models it uses."""
    monkeypatch.undo()  # Pieces of the usual size.
    write_vlm(tmp_path / "vlm", "hf")
    for seed, name in enumerate(("ja", "base")):
        write_lm(tmp_path / name, seed=seed + 5)
    recipes = {
        "linear": linear(0.3, 0.9),
        "swap": linear(1, names=("./ja",), vlm="./vlm"),
        "slerp": {
            "merge_method": "slerp", "base_model": "./base", "vlm": "./vlm",
            "models": [{"model": "./ja"}, {"model": "./base"}], "parameters": {"t": [0.2, 0.7]},
        },
        "task_arithmetic": {**linear(0.4, 0.7), "merge_method": "task_arithmetic", "base_model": "./base"},
    }  # fmt: skip
    for name, method in METHODS.items():
        spec = method.spec
        if name not in recipes:
            names = ["./ja"] if spec.sources[1] == 1 else ["./vlm", "./ja"]
            weights = {"weight": 0.4} if spec.weighs else {}
            shared = {"density": 0.4} if "density" in spec.parameters else {"t": 0.01} if "t" in spec.parameters else {}
            recipes[name] = {
                "merge_method": name, "vlm": "./vlm", "parameters": shared,
                "models": [{"model": each, "parameters": weights} for each in names],
                **({} if spec.base == "ordinary" else {"base_model": "./base"}),
            }  # fmt: skip
    assert {recipe["merge_method"] for recipe in recipes.values()} == set(METHODS)
    loaded = {}
    for name, recipe in recipes.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        loaded[name] = load_recipe(tmp_path / f"{name}.yaml")
    refs = loaded["task_arithmetic"].model_refs()
    prepared = prepare_models(refs, base=refs[-1])
    for name, recipe in loaded.items():
        merge(recipe, tmp_path / "alone" / name)
        merge(recipe, tmp_path / "together" / name, prepared=prepared)
        weights = [(tmp_path / kind / name / "model.safetensors").read_bytes() for kind in ("alone", "together")]
        assert weights[0] == weights[1]


def test_tiny_decoders_differ_between_seeds() -> None:
    """The family above would prove nothing if its models were alike."""
    one, two = decoder(1, 8, torch.float32), decoder(2, 8, torch.float32)
    assert all(not torch.equal(one[role], two[role]) for role in one)
