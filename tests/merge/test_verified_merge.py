"""A merge that came to nothing is refused; one that is verified says so."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_family import HIDDEN, read_result, write_lm
from typer.testing import CliRunner

from vlmerge.cli import app
from vlmerge.config import load_recipe
from vlmerge.errors import MismatchError
from vlmerge.merge import MergeSummary, merge

ROLE = "model.layers.1.self_attn.q_proj.weight"
SAME = (torch.arange(HIDDEN * HIDDEN).reshape(HIDDEN, HIDDEN) / 1000).half()
ONES = torch.ones(HIDDEN, dtype=torch.float16)


def recipe_of(folder: Path, weights: tuple[Any, Any], **more: Any) -> Path:
    models = [{"model": f"./{name}", "parameters": {"weight": each}} for name, each in zip("ab", weights, strict=True)]
    recipe = {"merge_method": "linear", "models": models, "parameters": {"normalize": False}, **more}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder / "recipe.yaml"


def attempt(folder: Path, weights: tuple[Any, Any], **more: Any) -> MergeSummary:
    return merge(load_recipe(recipe_of(folder, weights, **more)), folder / "out")


def two(folder: Path, **edit: torch.Tensor) -> None:
    for seed, name in enumerate("ab"):
        write_lm(folder / name, seed=seed, edit={key.replace("__", "."): value for key, value in edit.items()})


@pytest.fixture(autouse=True, params=[1 << 23, 1000])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one piece and in many."""
    monkeypatch.setattr(import_module("vlmerge.merge"), "PIECE", request.param)


def test_weights_that_cancel_are_refused(tmp_path: Path) -> None:
    two(tmp_path, **{ROLE: SAME})
    with pytest.raises(MismatchError, match="single number") as caught:
        attempt(tmp_path, (0.5, -0.5))
    assert ROLE in str(caught.value)
    assert "0 in all of its [64, 64]" in str(caught.value)
    assert caught.value.remedy
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.partial").exists()


def test_a_dtype_in_which_weights_vanish_is_refused(tmp_path: Path) -> None:
    two(tmp_path)
    with pytest.raises(MismatchError, match="single number"):
        attempt(tmp_path, (1e-9, 1e-9))
    assert attempt(tmp_path, (1e-9, 1e-9), out_dtype="float32").verified.tensors > 0


def test_what_the_parents_are_the_result_may_be(tmp_path: Path) -> None:
    """Norms of ones and biases of zeros are what models begin with; some keep them."""
    two(tmp_path, **{"model.norm.weight": ONES, "model.layers.0.input_layernorm.weight": 0 * ONES})
    assert attempt(tmp_path, (0.5, 0.5)).zeroed == ()
    assert torch.equal(read_result(tmp_path / "out")["model.norm.weight"], ONES)


def test_zero_that_the_recipe_asks_for_is_given_and_told(tmp_path: Path) -> None:
    two(tmp_path)
    zero = [{"filter": "layers.1.self_attn.q_proj", "value": 0.0}, {"value": 0.5}]
    summary = attempt(tmp_path, (zero, zero))
    assert summary.zeroed == (ROLE,)
    assert summary.notes[-1] == f"zero, as the recipe's weights say: {ROLE}"
    assert not read_result(tmp_path / "out")[ROLE].any()


def test_the_command_says_what_was_verified(tmp_path: Path) -> None:
    two(tmp_path)
    result = CliRunner().invoke(app, ["merge", str(recipe_of(tmp_path, (0.5, 0.5))), str(tmp_path / "out")])
    assert result.exit_code == 0
    assert "verified in" in result.output
    assert "33 tensors in 1 file, as announced, in place, and finite" in result.output
    assert "terms that are not known here, of a and b, may be stricter" in result.output
