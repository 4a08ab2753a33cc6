"""A LLaVA and Llamas merge in every layout and storage, and every tensor equals a float64 reference that is not vlmerge's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from float64_reference import Formula, assert_rounded_once, exact, linear, merged_rows, slerp, task_arithmetic
from tiny_family import HOST_ROWS, LAYERS, LM_ROWS, LM_TOKENS, TORCH, Model, read_result, write_lm, write_vlm

from vlmerge.config import load_recipe
from vlmerge.merge import MergeSummary, merge

LAYOUTS = ("hf", "hf-new", "original")
STORAGE = ("single", "sharded", "bin")


def run(folder: Path, recipe: dict[str, Any]) -> tuple[dict[str, torch.Tensor], MergeSummary]:
    """Through a YAML file, as a person would."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    summary = merge(load_recipe(folder / "recipe.yaml"), folder / "out")
    return read_result(folder / "out"), summary


def check(
    result: dict[str, torch.Tensor], host: Model, sources: list[Model], formula: Formula, *,
    kept: Callable[[str], bool] = lambda _: False, dtype: torch.dtype | None = None, cast: torch.dtype | None = None,
) -> int:  # fmt: skip
    """Holds every tensor of the result to the reference; gives the number of merged ones."""
    assert set(result) == set(host.names.values())
    merged = 0
    for role, name in host.names.items():
        got, own = result[name], host.tensors[role]
        wanted = (dtype or own.dtype) if own.dtype.is_floating_point else own.dtype
        assert got.dtype == wanted, name
        taken = [
            source.tensors.get(role, source.tensors["model.embed_tokens.weight"] if "lm_head" in role else None)
            for source in sources
        ]
        if not own.dtype.is_floating_point or kept(role) or any(tensor is None for tensor in taken):
            seen = own if cast is None or not own.dtype.is_floating_point else own.to(cast)
            assert torch.equal(got, seen.to(wanted)), name
            continue
        merged += 1
        inputs = [exact(tensor if cast is None else tensor.to(cast)) for tensor in taken]
        if role in ("model.embed_tokens.weight", "lm_head.weight"):
            rows = merged_rows(host.tokens, [source.tokens for source in sources])
            here = [row for row, _ in rows]
            rest = [row for row in range(len(own)) if row not in here]
            assert torch.equal(got[rest], (own if cast is None else own.to(cast)).to(wanted)[rest]), name
            got = got[here]
            inputs = [part[[its[place] for _, its in rows]] for place, part in enumerate(inputs)]
        assert_rounded_once(got, *formula(inputs, role), name)
    return merged


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_linear_in_every_layout_and_storage(tmp_path: Path, layout: str, storage: str) -> None:
    host = write_vlm(tmp_path / "vlm", layout, storage=storage)
    source = write_lm(tmp_path / "ja", storage=storage)
    recipe = {
        "merge_method": "linear",
        "models": [
            {"model": "./vlm", "parameters": {"weight": 0.6}},
            {"model": "./ja", "parameters": {"weight": 0.4}},
        ],
    }
    result, summary = run(tmp_path, recipe)
    merged = check(result, host, [host, source], linear(lambda _: (0.6, 0.4)))
    assert merged == 3 + 9 * LAYERS == summary.merged
    assert summary.kept == len(host.names) - merged
    assert set(summary.pairing.dropped) == {key for key in summary.pairing.dropped if key.name == "ja"}
    assert {*next(iter(summary.pairing.dropped.values()))} == set(source.extra)
    assert (tmp_path / "out" / "config.json").read_text() == (tmp_path / "vlm" / "config.json").read_text() + "\n"
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (tmp_path / "vlm" / "tokenizer.json").read_bytes()
    assert load_recipe(tmp_path / "out" / "recipe.yaml") == load_recipe(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_methods_in_every_dtype(tmp_path: Path, layout: str, dtype: str) -> None:
    host = write_vlm(tmp_path / "vlm", layout, dtype=dtype)
    base = write_lm(tmp_path / "base", seed=3, dtype="bfloat16")
    near = {
        role: base.tensors[role] + 0.01 * torch.randn_like(base.tensors[role]) for role in base.tensors if "layernorm" in role
    }
    source = write_lm(tmp_path / "ja", seed=4, dtype="float16", edit={role: tensor.half() for role, tensor in near.items()})
    recipe = {
        "merge_method": "task_arithmetic",
        "base_model": "./base",
        "models": [
            {"model": "./vlm", "parameters": {"weight": 0.75}},
            {"model": "./ja", "parameters": {"weight": [{"filter": "self_attn", "value": -0.3}, {"value": 0.5}]}},
        ],
        "parameters": {"lambda": 0.9},
    }
    result, _ = run(tmp_path, recipe)
    formula = task_arithmetic(2, lambda name: (0.75, -0.3 if "self_attn" in name else 0.5), 0.9)
    assert check(result, host, [host, source, base], formula) == 3 + 9 * LAYERS

    recipe = {
        "merge_method": "slerp",
        "base_model": "./base",
        "vlm": "./vlm",
        "models": [{"model": "./ja"}, {"model": "./base"}],
        "parameters": {"t": [{"filter": "mlp", "value": [0.0, 0.5, 0.3]}, {"filter": "lm_head", "value": 1.2}, {"value": 0.4}]},
        "out_dtype": "float32",
    }
    (tmp_path / "out").rename(tmp_path / "first")
    result, _ = run(tmp_path, recipe)

    def t_of(name: str) -> float:
        if "mlp" in name:
            return (0.0, 0.5, 0.3)[int(name.split(".")[2])]
        return 1.2 if "lm_head" in name else 0.4

    assert check(result, host, [source, base], slerp(1, t_of), dtype=torch.float32) == 3 + 9 * LAYERS


@pytest.mark.parametrize("layout", LAYOUTS)
def test_casts_protection_filters_and_gradients(tmp_path: Path, layout: str) -> None:
    host = write_vlm(tmp_path / "vlm", layout)
    one, two = write_lm(tmp_path / "one", seed=5), write_lm(tmp_path / "two", seed=6, dtype="bfloat16", storage="sharded")
    filtered = [{"filter": "model.layers.1.", "value": 2.0}, {"filter": "k_proj", "value": [1, 0, 4]}]
    recipe = {
        "merge_method": "linear",
        "models": [
            {"model": "./vlm", "parameters": {"weight": [0.0, 1.0]}},
            {"model": "./one", "parameters": {"weight": filtered}},
            {"model": "./two", "parameters": {"weight": 0.25}},
        ],
        "parameters": {"weight": 0.125, "normalize": False},
        "protect": ["layernorm", "model.layers.2.mlp.up_proj"],
        "dtype": "bfloat16",
        "out_dtype": "float32",
    }  # fmt: skip
    result, summary = run(tmp_path, recipe)

    def weights(name: str) -> tuple[float, float, float]:
        layer = int(name.split(".")[2]) if ".layers." in name else 0
        middle = 2.0 if "model.layers.1." in name else (1, 0, 4)[layer] if "k_proj" in name else 0.125
        return (layer / 2, middle, 0.25)

    kept = lambda role: "layernorm" in role or "model.layers.2.mlp.up_proj" in role  # noqa: E731
    merged = check(
        result, host, [host, one, two], linear(weights, normalize=False), kept=kept, dtype=torch.float32, cast=torch.bfloat16
    )
    assert merged == 3 + 7 * LAYERS - 1
    said = {pair.name: pair.reason for pair in summary.pairing.tensors}
    assert all("protected" in (said[name] or "") for role, name in host.names.items() if kept(role) and "vision" not in role)
    config, before = (json.loads((tmp_path / folder / "config.json").read_text()) for folder in ("out", "vlm"))
    assert config.pop("torch_dtype") == "float32"
    before.pop("torch_dtype")
    if layout != "original":
        assert config["text_config"].pop("torch_dtype") == "float32"
        before["text_config"].pop("torch_dtype")
    assert config == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slices_have_parameters_of_their_own(tmp_path: Path, layout: str) -> None:
    host, source = write_vlm(tmp_path / "vlm", layout), write_lm(tmp_path / "ja")

    def part(first: int, last: int, host_weight: Any, weight: Any) -> dict[str, Any]:
        return {
            "sources": [
                {"model": "./vlm", "layer_range": [first, last], "parameters": {"weight": host_weight}},
                {"model": "./ja", "layer_range": [first, last], "parameters": {"weight": weight}},
            ]
        }

    result, _ = run(tmp_path, {"merge_method": "linear", "slices": [part(0, 2, [0.2, 0.6], 0.5), part(2, 3, [0.1, 0.9], 0.3)]})
    per_layer = {0: (0.2, 0.5), 1: (0.6, 0.5), 2: (0.9, 0.3)}  # a slice of one layer reads the gradient's last entry

    def weights(name: str) -> tuple[float, float]:
        if ".layers." in name:
            return per_layer[int(name.split(".")[2])]
        return (0.2, 0.5) if "embed" in name else (0.1, 0.3)

    assert check(result, host, [host, source], linear(weights)) == 3 + 9 * LAYERS


def test_restacked_layers_get_new_numbers_and_the_config_says_so(tmp_path: Path) -> None:
    host, source = write_vlm(tmp_path / "vlm", "hf"), write_lm(tmp_path / "ja")
    sources = lambda first, last: [  # noqa: E731
        {"model": "./vlm", "layer_range": [first, last]},
        {"model": "./ja", "layer_range": [first, last]},
    ]
    recipe = {
        "merge_method": "linear", "parameters": {"weight": 0.5}, "protect": ["up_proj"],
        "slices": [{"sources": sources(0, 2)}, {"sources": sources(1, 3)}],
    }  # fmt: skip
    result, summary = run(tmp_path, recipe)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["text_config"]["num_hidden_layers"] == 4
    for layer, origin in enumerate((0, 1, 1, 2)):
        role = f"model.layers.{origin}.mlp.gate_proj.weight"
        got = result[f"language_model.model.layers.{layer}.mlp.gate_proj.weight"]
        mean, size = linear(lambda _: (0.5, 0.5))([exact(host.tensors[role]), exact(source.tensors[role])], role)
        assert_rounded_once(got, mean, size, role)
        kept = result[f"language_model.model.layers.{layer}.mlp.up_proj.weight"]
        assert torch.equal(kept, host.tensors[f"model.layers.{origin}.mlp.up_proj.weight"])
    assert len(result) == len(host.names) + 9
    assert summary.pairing.layers == 4


def test_rows_meet_by_token(tmp_path: Path) -> None:
    shuffled = [*LM_TOKENS[:3], *reversed(LM_TOKENS[3:]), "▁new", "▁newer"]
    host = write_vlm(tmp_path / "vlm", "hf")
    source = write_lm(tmp_path / "ja", tokens=shuffled, rows=len(shuffled), head=False, inv_freq=False)
    recipe = {
        "merge_method": "linear",
        "models": [{"model": "./vlm", "parameters": {"weight": 1}}, {"model": "./ja", "parameters": {"weight": 3}}],
    }
    result, summary = run(tmp_path, recipe)
    assert check(result, host, [host, source], linear(lambda _: (1, 3))) == 3 + 9 * LAYERS
    embedding = next(pair for pair in summary.pairing.tensors if pair.role == "embed_tokens.weight")
    assert embedding.rows is not None
    assert (embedding.rows.merged, embedding.rows.total) == (len(LM_TOKENS), HOST_ROWS)


def test_a_tied_host_gets_no_head(tmp_path: Path) -> None:
    host = write_lm(tmp_path / "host", head=False, inv_freq=False)
    source = write_lm(tmp_path / "ja", seed=7)
    recipe = {
        "merge_method": "linear",
        "models": [{"model": "./host", "parameters": {"weight": 1}}, {"model": "./ja", "parameters": {"weight": 1}}],
    }
    result, summary = run(tmp_path, recipe)
    assert check(result, host, [host, source], linear(lambda _: (1, 1))) == 2 + 9 * LAYERS
    assert "its embedding" in next(iter(summary.pairing.dropped.values()))["lm_head.weight"]


def test_two_vlms_of_different_layouts_share_everything(tmp_path: Path) -> None:
    host = write_vlm(tmp_path / "one", "hf-new")
    other = write_vlm(tmp_path / "two", "hf", seed=9, storage="bin")
    recipe = {
        "merge_method": "linear",
        "models": [{"model": "./one", "parameters": {"weight": 0.3}}, {"model": "./two", "parameters": {"weight": 0.7}}],
    }
    result, summary = run(tmp_path, recipe)
    merged = check(result, host, [host, other], linear(lambda _: (0.3, 0.7)))
    assert merged == len(host.names)
    assert list(next(iter(summary.pairing.dropped.values()))) == ["vision_tower.vision_model.embeddings.position_ids"]


@pytest.mark.parametrize("layout", ["hf", "hf-new"])
def test_transformers_loads_the_result_and_the_logits_move(tmp_path: Path, layout: str) -> None:
    from transformers import LlavaForConditionalGeneration

    write_vlm(tmp_path / "vlm", layout, sizes=True, dtype="float32")
    write_lm(tmp_path / "ja", dtype="float32")
    recipe = {
        "merge_method": "linear",
        "models": [{"model": "./vlm", "parameters": {"weight": 0.5}}, {"model": "./ja", "parameters": {"weight": 0.5}}],
    }
    result, _ = run(tmp_path, recipe)
    before = LlavaForConditionalGeneration.from_pretrained(tmp_path / "vlm")
    after, info = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    role = "layers.0.mlp.gate_proj.weight"
    name = next(name for name in result if name.endswith(role))
    assert torch.equal(after.model.language_model.layers[0].mlp.gate_proj.weight, result[name])
    picture, ids = torch.ones(1, 3, 8, 8), torch.tensor([[1, *[28] * 4, 5, 6]])
    with torch.no_grad():
        old, new = (model(input_ids=ids, pixel_values=picture).logits for model in (before, after))
    assert new.shape == (1, 7, HOST_ROWS)
    assert torch.isfinite(new).all()
    assert not torch.allclose(old, new, atol=1e-4)


def test_identity_is_bit_exact(tmp_path: Path) -> None:
    host = write_vlm(tmp_path / "vlm", "hf")
    source = write_lm(tmp_path / "ja")
    recipe: dict[str, Any] = {
        "merge_method": "linear",
        "models": [{"model": "./vlm", "parameters": {"weight": 0.7}}, {"model": "./ja", "parameters": {"weight": 0}}],
    }
    result, _ = run(tmp_path, recipe)
    assert all(torch.equal(result[name], host.tensors[role]) for role, name in host.names.items())
    (tmp_path / "out").rename(tmp_path / "first")
    swap, _ = run(
        tmp_path, {"merge_method": "linear", "vlm": "./vlm", "models": [{"model": "./ja", "parameters": {"weight": 1}}]}
    )
    rows = len(LM_TOKENS)
    assert rows < LM_ROWS
    for role, tensor in source.tensors.items():
        got = swap[host.names[role]]
        if role in ("model.embed_tokens.weight", "lm_head.weight"):
            assert torch.equal(got[:rows], tensor[:rows])
            assert torch.equal(got[rows:], host.tensors[role][rows:])
        else:
            assert torch.equal(got, tensor)
    assert TORCH["float16"] == swap[host.names["model.norm.weight"]].dtype
