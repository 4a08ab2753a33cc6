"""Rows of a token that `protect` names stay the host's, in embedding and head, whatever else is merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_family import LM_TOKENS, write_lm, write_vlm

from vlmerge.config import ModelRef, Recipe, load_recipe
from vlmerge.errors import MismatchError
from vlmerge.merge import merge, prepare, prepare_models
from vlmerge.runtime.live import LiveModel, choose_placement


def recipe(folder: Path, host: str, *protect: str, **keys: Any) -> Recipe:
    models = [{"model": f"./{name}", "parameters": {"weight": 0.5}} for name in (host, "ja")]
    text = yaml.safe_dump({"merge_method": "linear", "models": models, "protect": list(protect), **keys})
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    return load_recipe(folder / "recipe.yaml")


@pytest.mark.parametrize("host", ["vlm", "en"])
def test_its_rows_stay_and_no_others(tmp_path: Path, host: str) -> None:
    """A host with more rows than the source, and one of the same vocabulary."""
    write_vlm(tmp_path / "vlm", "hf") if host == "vlm" else write_lm(tmp_path / "en", seed=5)
    write_lm(tmp_path / "ja")
    token, row = LM_TOKENS[5], 5
    merge(recipe(tmp_path, host), tmp_path / "free")
    merge(recipe(tmp_path, host, f"token:{token}"), tmp_path / "held")
    before, free, held = (load_file(tmp_path / name / "model.safetensors") for name in (host, "free", "held"))
    names = [name for name in before if name.endswith(("embed_tokens.weight", "lm_head.weight"))]
    assert len(names) == 2
    for name in held:
        same = (free[name] == held[name]).flatten(1).all(1) if free[name].ndim > 1 else free[name] == held[name]
        assert (~same).nonzero().flatten().tolist() == ([row] if name in names else []), name
    assert all(torch.equal(held[name][row], before[name][row]) for name in names)
    reasons = [pair.reason or "" for pair in prepare(recipe(tmp_path, host, f"token:{token}")).pairing.tensors]
    assert sum("1 protected" in reason for reason in reasons) == 2


def test_in_place_is_what_is_written(tmp_path: Path) -> None:
    write_lm(tmp_path / "en", seed=5)
    write_lm(tmp_path / "ja")
    asked = recipe(tmp_path, "en", f"token:{LM_TOKENS[7]}", "norm")
    refs = [ModelRef(str(tmp_path / name)) for name in ("en", "ja")]
    live = LiveModel.load(prepare_models(refs, protect=asked.protect), choose_placement("cpu", host_dtype="float16"))
    live.merge(asked)
    merge(asked, tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    for name, parameter in live._model.named_parameters():
        assert torch.equal(parameter, written[name].float()), name


def test_mistakes_are_named(tmp_path: Path) -> None:
    write_lm(tmp_path / "en", seed=5)
    write_lm(tmp_path / "ja")
    with pytest.raises(MismatchError, match="does not have"):
        prepare(recipe(tmp_path, "en", "token:nowhere"))
    with pytest.raises(MismatchError, match="force: true"):
        prepare(recipe(tmp_path, "en", f"token:{LM_TOKENS[7]}", tokenizer={"source": "union"}))
