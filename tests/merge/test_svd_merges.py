"""svd_linear from files to files: which tensors it cuts, by which rank, and what a parent that is not finite comes to."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_family import HIDDEN, LAYERS, decoder, write_lm, write_vlm

from vlmerge.config import load_recipe
from vlmerge.errors import MismatchError
from vlmerge.merge import merge


def merged(folder: Path, name: str, recipe: dict[str, Any]) -> dict[str, torch.Tensor]:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return load_file(merge(load_recipe(folder / f"{name}.yaml"), folder / name).out / "model.safetensors")


def recipe_of(method: str, names: tuple[str, ...] = ("./vlm", "./ja"), **parameters: object) -> dict[str, Any]:
    models = [{"model": name, "parameters": {"weight": weight}} for name, weight in zip(names, (0.6, 0.5), strict=False)]
    return {"merge_method": method, "base_model": "./base", "models": models, "parameters": parameters, "dtype": "float32"}


@pytest.fixture(autouse=True)
def many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("vlmerge.merge"), "PIECE", 501)


def is_cut(name: str) -> bool:
    return "_proj." in name


def test_matrices_alone_are_cut(tmp_path: Path) -> None:
    """Norms, embeddings and head (of another vocabulary, in the rows that are shared) are task arithmetic's, bit for bit."""
    write_vlm(tmp_path / "vlm", "hf")
    models = {name: write_lm(tmp_path / name, seed=seed) for seed, name in enumerate(("ja", "base"), 5)}
    plain = merged(tmp_path, "plain", recipe_of("task_arithmetic"))
    whole = merged(tmp_path, "whole", recipe_of("svd_linear", rank=1))
    cut = merged(tmp_path, "cut", recipe_of("svd_linear"))
    assert {name for name in cut if is_cut(name)}
    for name, tensor in plain.items():
        assert torch.equal(whole[name], tensor), name
        assert torch.equal(cut[name], tensor) is not (is_cut(name) and "language_model" in name), name
    # Against numpy, at the rank where nothing else is said.
    role = "model.layers.2.mlp.down_proj.weight"
    base = models["base"].tensors[role].double().numpy()
    vlm = load_file(tmp_path / "vlm" / "model.safetensors")[f"language_model.{role}"]
    total = np.zeros_like(base)
    for tensor, weight in ((vlm, 0.6), (models["ja"].tensors[role], 0.5)):
        left, sizes, right = np.linalg.svd(tensor.double().numpy() - base, full_matrices=False)
        kept = int(0.2 * len(sizes))
        total += weight * (left[:, :kept] * sizes[:kept]) @ right[:kept]
    assert np.abs(cut[f"language_model.{role}"].double().numpy() - (base + total)).max() < 1e-7


def test_towers_that_are_merged_are_cut_but_for_their_tables(tmp_path: Path) -> None:
    for seed, name in enumerate(("vlm", "other", "base"), 1):
        write_vlm(tmp_path / name, "hf", seed=seed)
    names = ("./vlm", "./other")
    plain = merged(tmp_path, "plain", recipe_of("task_arithmetic", names))
    cut = merged(tmp_path, "cut", recipe_of("svd_linear", names, rank=0.3))
    same = {name for name in plain if torch.equal(plain[name], cut[name])}
    assert {name for name, tensor in plain.items() if tensor.dim() != 2 or "embed" in name or "lm_head" in name} == same
    assert any("vision" in name for name in set(plain) - same)


def test_slices_have_ranks_of_their_own(tmp_path: Path) -> None:
    for seed, name in enumerate(("ja", "en", "base"), 5):
        write_lm(tmp_path / name, seed=seed)
    names = ("./ja", "./en")
    single = {rank: merged(tmp_path, f"at{rank}", recipe_of("svd_linear", names, rank=rank)) for rank in (0.1, 0.5)}
    members = [{"model": name, "parameters": {"weight": weight}} for name, weight in zip(names, (0.6, 0.5), strict=True)]
    slices = [
        {
            "sources": [{**each, "layer_range": [first, last]} for each in (*members, {"model": "./base"})],
            "parameters": {"rank": rank},
        }
        for first, last, rank in ((0, 1, 0.1), (1, LAYERS, 0.5))
    ]
    recipe = {"merge_method": "svd_linear", "base_model": "./base", "slices": slices, "dtype": "float32"}
    got = merged(tmp_path, "sliced", recipe)
    compared = [name for name in got if is_cut(name)]
    assert len(compared) == 7 * LAYERS
    for name in compared:
        own, other = (0.1, 0.5) if ".layers.0." in name else (0.5, 0.1)
        assert torch.equal(got[name], single[own][name])
        assert not torch.equal(got[name], single[other][name])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("who", ["vlm", "ja", "base"])
def test_a_parent_that_is_not_finite_is_named(tmp_path: Path, who: str, bad: float) -> None:
    role = "model.layers.1.mlp.up_proj.weight"
    spoilt = decoder(3, 8, torch.float16)[role].clone()
    spoilt[3, 5] = bad
    assert spoilt.shape[1] == HIDDEN
    edits = {name: {"edit": {role: spoilt}} if name == who else {} for name in ("vlm", "ja", "base")}
    write_vlm(tmp_path / "vlm", "hf", **edits["vlm"])
    for seed, name in enumerate(("ja", "base"), 5):
        write_lm(tmp_path / name, seed=seed, **edits[name])
    with pytest.raises(MismatchError, match="NaN or infinity") as caught:
        merged(tmp_path, "out", recipe_of("svd_linear"))
    assert f"{who}: " in str(caught.value)
    assert role in str(caught.value)
    assert not (tmp_path / "out").exists()
