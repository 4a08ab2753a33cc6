"""A whole run on a GPU: it finishes, and run twice it is the same run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from vlmerge.config.recipe import load_recipe
from vlmerge.evolve import evolve
from vlmerge.merge import merge

from .conftest import Quiet, contents, load, small_run
from .test_path_runs import hybrid_run, path_run

DEVICE = "cuda"
WRITTEN = ("config.json", "model.safetensors")


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


@pytest.mark.gpu
@pytest.mark.parametrize("run", [path_run(), hybrid_run()], ids=["path", "hybrid"])
def test_a_run_over_paths_on_a_gpu_is_the_same_when_run_again(run: dict[str, Any], tmp_path: Path) -> None:
    run = {**run, "runtime": {"device": DEVICE, "threads": 1}}
    folders = [evolve(load(tmp_path / name, run), tmp_path / name / "small", Quiet()) for name in ("one", "two")]
    one, two = ({name: (folder / "model" / name).read_bytes() for name in WRITTEN} for folder in folders)
    assert one == two
    told = [json.loads((folder / "results.json").read_text(encoding="utf-8")) for folder in folders]
    assert told[0]["rows"] == told[1]["rows"]
    assert not any(row["candidate"] == "winner" and row["score"] is None for row in told[0]["rows"])
