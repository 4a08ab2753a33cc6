"""A whole run on a GPU: it finishes, and run twice it is the same run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from vlmerge.config.recipe import load_recipe
from vlmerge.evolve import evolve
from vlmerge.merge import merge

from .conftest import Quiet, contents, load, small_run

DEVICE = "cuda"


@pytest.mark.gpu
def test_a_run_on_a_gpu_finishes_and_is_the_same_when_run_again(tmp_path: Path) -> None:
    run = small_run(runtime={"device": DEVICE, "threads": 1})
    folders = [evolve(load(tmp_path / name, run), tmp_path / name / "small", Quiet()) for name in ("one", "two")]
    one, two = (contents(folder) for folder in folders)
    assert one == two
    used = yaml.safe_load((folders[0] / "run.yaml").read_text(encoding="utf-8"))["runtime"]
    assert used == {"device": DEVICE, "dtype": "float16", "batch_size": 50, "threads": 1}
    results = json.loads((folders[0] / "results.json").read_text(encoding="utf-8"))
    assert results["trials"] == 12
    assert results["holdout_views"] == 1
    # The model is written by the CPU, whatever scored it: the recipe gives it again on any machine.
    merge(load_recipe(folders[0] / "recipe.yaml"), tmp_path / "again")
    weights = (folders[0] / "model" / "model.safetensors").read_bytes()
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == weights
