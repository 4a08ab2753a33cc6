"""A model with an adapter is a model: every tensor is W + scaling · B·A rounded once, whatever the files are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from float64_reference import assert_rounded_once, exact
from safetensors.torch import load_file, save_file
from test_check import text_of
from tiny_adapter import ALPHA, NAMINGS, RANK, SHAPES, write_adapter
from tiny_family import HIDDEN, Model, read_result, write_lm, write_vlm

from vlmerge.adapters import adapted, open_model
from vlmerge.carded import merge_with_card
from vlmerge.check import check, render, to_json
from vlmerge.checkpoint import Checkpoint
from vlmerge.config import ModelRef, Recipe, dump_recipe, load_recipe
from vlmerge.config.recipe import read_recipe
from vlmerge.merge import merge

GOLDEN = Path(__file__).parent / "golden_peft"
Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]


def opened(folder: Path, model: str = "model", adapter: str = "adapter") -> Checkpoint:
    return open_model(ModelRef(str(folder / model), None, ModelRef(str(folder / adapter))))


def assert_sum(got: torch.Tensor, own: torch.Tensor, down: torch.Tensor, up: torch.Tensor, scaling: float) -> None:
    """Holds a tensor to W + scaling · B·A in float64; convolutions as matrices."""
    w, b, a = exact(own), exact(up.flatten(1)), exact(down.flatten(1))
    value, size = (w + scaling * (b @ a).reshape(w.shape), abs(w) + scaling * (abs(b) @ abs(a)).reshape(w.shape))
    assert_rounded_once(got, value, size, "adapted")


def assert_adapted(checkpoint: Checkpoint, model: Model, pairs: Pairs, scaling: float = ALPHA / RANK) -> None:
    """Every tensor of the model: those of the adapter's modules changed, the others bit for bit."""
    for role, name in model.names.items():
        got, own = checkpoint.read(name), model.tensors[role]
        assert got.dtype == own.dtype
        assert got.shape == own.shape
        pair = pairs.get(role.removesuffix(".weight"))
        if pair is None:
            assert torch.equal(got, own), name
        else:
            assert not torch.equal(got, own), name
            assert_sum(got, own, *pair, scaling)


@pytest.mark.parametrize("variant", ["patterns", "vocabulary", "dora"])
def test_it_is_what_peft_makes_of_it(variant: str) -> None:
    wanted = load_file(GOLDEN / variant / "merged.safetensors")
    checkpoint = opened(GOLDEN, adapter=variant)
    base = load_file(GOLDEN / "model" / "model.safetensors")
    assert checkpoint.adapter is not None
    assert checkpoint.adapter.changed == set(wanted)
    for name, own in base.items():
        got = checkpoint.read(name)
        if name in wanted:
            torch.testing.assert_close(got, wanted[name], rtol=1e-6, atol=1e-7)
            assert not torch.equal(got, own)
        else:
            assert torch.equal(got, own)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_sums_are_rounded_once(tmp_path: Path, dtype: str) -> None:
    model = write_lm(tmp_path / "model", dtype=dtype)
    pairs = write_adapter(tmp_path / "adapter", use_rslora=True)
    assert_adapted(opened(tmp_path), model, pairs, ALPHA / RANK**0.5)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("layout", ["lm", "hf", "hf-new", "original"])
def test_modules_are_found_whatever_the_files_call_them(tmp_path: Path, layout: str, naming: str) -> None:
    model = write_lm(tmp_path / "model") if layout == "lm" else write_vlm(tmp_path / "model", layout, storage="sharded")
    pairs = write_adapter(tmp_path / "adapter", naming=naming)
    assert_adapted(opened(tmp_path), model, pairs)


@pytest.mark.parametrize(
    "form",
    [{"infix": ".default"}, {"infix": ".other"}, {"prefix": ""}, {"storage": "bin"}, {"init_lora_weights": "gaussian"},
     {"fan_in_fan_out": True}, {"layers_to_transform": [0]}, {"loftq_config": {"loftq_bits": 4}}, {"unknown_number": 16}],
)  # fmt: skip
def test_forms_that_mean_the_same(tmp_path: Path, form: dict[str, Any]) -> None:
    model = write_lm(tmp_path / "model", storage="bin")
    pairs = write_adapter(tmp_path / "adapter", **form)
    assert_adapted(opened(tmp_path), model, pairs)


@pytest.mark.parametrize("inside", ["", "modules_to_save.default.", "default."])
def test_modules_saved_whole_take_the_place_of_the_models_own(tmp_path: Path, inside: str) -> None:
    write_lm(tmp_path / "model")
    whole = torch.rand(HIDDEN)
    write_adapter(tmp_path / "adapter", tensors={f"base_model.model.model.norm.{inside}weight": whole})
    assert torch.equal(opened(tmp_path).read("model.norm.weight"), whole.half())


def test_eyes_are_adapted_and_what_llava_trains_whole_is_taken(tmp_path: Path) -> None:
    model = write_vlm(tmp_path / "model", "original")
    down, up = torch.randn(RANK, HIDDEN), torch.randn(HIDDEN, RANK)
    named = {"base_model.model.multi_modal_projector.linear_2.lora_A.weight": down}
    named |= {"base_model.model.multi_modal_projector.linear_2.lora_B.weight": up}
    write_adapter(tmp_path / "adapter", tensors=named)
    whole = torch.rand(HIDDEN).half()
    torch.save({"base_model.model.model.mm_projector.0.bias": whole}, tmp_path / "adapter" / "non_lora_trainables.bin")
    checkpoint = opened(tmp_path)
    assert torch.equal(checkpoint.read("model.mm_projector.0.bias"), whole)
    second = model.tensors["projector.linear_2.weight"]
    assert_sum(checkpoint.read("model.mm_projector.2.weight"), second, down, up, ALPHA / RANK)


def test_a_convolution_is_a_matrix_of_its_windows(tmp_path: Path) -> None:
    model = write_vlm(tmp_path / "model", "hf")
    own = model.tensors["vision.embeddings.patch_embedding.weight"]
    down, up = torch.randn(RANK, *own.shape[1:]), torch.randn(own.shape[0], RANK, 1, 1)
    at = "base_model.model.vision_tower.vision_model.embeddings.patch_embedding"
    write_adapter(tmp_path / "adapter", tensors={f"{at}.lora_A.weight": down, f"{at}.lora_B.weight": up})
    got = opened(tmp_path).read("vision_tower.vision_model.embeddings.patch_embedding.weight")
    assert_sum(got, own, down, up, ALPHA / RANK)
    convolved = own.float() + ALPHA / RANK * torch.einsum("or,rihw->oihw", up[:, :, 0, 0], down)
    torch.testing.assert_close(got.float(), convolved, rtol=1e-3, atol=1e-3)


def test_neither_parts_nor_threads_change_a_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lm(tmp_path / "model", dtype="float32")
    pairs = write_adapter(tmp_path / "adapter")
    checkpoint = opened(tmp_path)
    whole = {name: checkpoint.read(f"{name}.weight") for name in pairs}
    threads = torch.get_num_threads()
    monkeypatch.setattr(adapted, "PART", 3 * HIDDEN + 1)
    try:
        torch.set_num_threads(3)
        assert all(torch.equal(checkpoint.read(f"{name}.weight"), tensor) for name, tensor in whole.items())
    finally:
        torch.set_num_threads(threads)


def recipe_of(folder: Path, source: object, *, host: object = "./vlm") -> Recipe:
    models = [{"model": host, "parameters": {"weight": 0.6}}, {"model": source, "parameters": {"weight": 0.7}}]
    recipe = {"merge_method": "linear", "models": models, "parameters": {"normalize": False}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return load_recipe(folder / "recipe.yaml")


@pytest.mark.parametrize("adapted_one", ["host", "source"])
def test_a_merge_is_that_of_the_model_with_its_adapter_merged_before(tmp_path: Path, adapted_one: str) -> None:
    vlm, lm = write_vlm(tmp_path / "vlm", "hf-new"), write_lm(tmp_path / "model")
    write_adapter(tmp_path / "tuned" / "adapter")
    own, model = ("vlm", vlm) if adapted_one == "host" else ("model", lm)
    checkpoint = opened(tmp_path, own, "tuned/adapter")
    before = tmp_path / "before"
    before.mkdir()
    for file in checkpoint.side_files().values():
        (before / file.name).write_bytes(file.read_bytes())
    (before / "config.json").write_bytes((model.path / "config.json").read_bytes())
    save_file({name: checkpoint.read(name) for name in checkpoint.tensors}, before / "model.safetensors", {"format": "pt"})
    with_adapter = {"model": {"path": own}, "lora": {"path": "tuned/adapter"}}
    results: list[dict[str, torch.Tensor]] = []
    for number, name in enumerate((with_adapter, "./before")):
        source = "./model" if adapted_one == "host" else name
        recipe = recipe_of(tmp_path, source, host=name if adapted_one == "host" else "./vlm")
        merge(recipe, tmp_path / f"out-{number}")
        results.append(read_result(tmp_path / f"out-{number}"))
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(tensor, results[1][name]) for name, tensor in results[0].items())
    again = read_recipe((tmp_path / "out-0" / "recipe.yaml").read_text(), "a test")
    assert any(ref.adapter == ModelRef(str(tmp_path / "tuned/adapter")) for ref in again.model_refs())
    assert dump_recipe(again) == (tmp_path / "out-0" / "recipe.yaml").read_text()


def test_check_names_the_adapter_and_counts_what_it_changes(tmp_path: Path) -> None:
    write_vlm(tmp_path / "vlm", "hf")
    write_lm(tmp_path / "model")
    pairs = write_adapter(tmp_path / "adapter", base_model_name_or_path="org/another")
    (tmp_path / "model" / "README.md").write_text("---\nlicense: llama2\n---\n", encoding="utf-8")
    (tmp_path / "adapter" / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    result = check(recipe_of(tmp_path, "./model+./adapter"))
    row = result.models[1].adapter
    assert row is not None
    assert (row.name, row.tensors, row.licence, row.made_for) == (str(tmp_path / "adapter"), len(pairs), "mit", "org/another")
    assert result.licences == ("not stated", "llama2", "mit")
    told = {(duty.licence, *duty.models) for duty in result.duties}
    assert ("MIT", "model+adapter") in told
    assert ("Llama 2 Community", "model+adapter") in told
    summary = merge_with_card(recipe_of(tmp_path, "./model+./adapter"), tmp_path / "out")
    assert summary.terms == result.terms
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert result.terms in card
    assert "MIT: model+adapter" in card
    assert result.unconfirmed == ()
    plain = check(recipe_of(tmp_path, "./model"))
    widest = max(rows * columns for rows, columns in SHAPES.values()) * 2
    assert result.memory_bytes - plain.memory_bytes == widest, "the widest tensor that is computed when it is read"
    assert result.merged == plain.merged
    assert json.loads(json.dumps(to_json(result)))["models"][1]["adapter"]["tensors"] == len(pairs)
    shown = " ".join(text_of(render(result)).split())
    assert f"changes {len(pairs)} tensors of model" in shown
    assert "trained on org/another" in shown


def test_the_fingerprint_is_over_model_and_adapter(tmp_path: Path) -> None:
    write_lm(tmp_path / "model")
    write_lm(tmp_path / "other", seed=9)
    write_adapter(tmp_path / "adapter")
    write_adapter(tmp_path / "second", seed=8)
    write_adapter(tmp_path / "copy")
    of = {
        (model, adapter): opened(tmp_path, model, adapter).fingerprint()
        for model in ("model", "other")
        for adapter in ("adapter", "second", "copy")
    }
    assert of["model", "adapter"] == of["model", "copy"]
    assert len(set(of.values())) == 4
    assert open_model(ModelRef(str(tmp_path / "model"))).fingerprint() not in of.values()
    config = tmp_path / "copy" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 6', '"lora_alpha": 7'))
    assert opened(tmp_path, adapter="copy").fingerprint() != of["model", "copy"]
