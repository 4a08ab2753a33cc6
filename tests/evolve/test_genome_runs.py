"""A mergekit-evolve file, with a vision-language model among its models, from its YAML to the exported model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vlmerge.config.recipe import load_recipe
from vlmerge.evolve import evolve
from vlmerge.merge import merge
from vlmerge.store import Store

from .conftest import FAMILY, Quiet, load, small_run, task

VLM, JA, BASE = (str(FAMILY / name) for name in ("vlm", "ja", "base"))
GENOMES: dict[str, tuple[dict[str, Any], int]] = {
    "task_arithmetic": (
        {
            "models": [VLM, JA],
            "base_model": BASE,
            "layer_granularity": 3,
            "filters": ["self_attn", "mlp"],
            "normalize": False,
            "allow_negative_weights": True,
        },
        2 * 2 * 3,
    ),
    "slerp": ({"models": [VLM, JA], "layer_granularity": 2}, 2 * 3),
    "linear": ({"models": [VLM, JA, BASE], "layer_granularity": 2, "smooth": True, "protect": ["layernorm"]}, 3 * 3),
}
"""Method → the block without it, and its number of genes: models × groups of the six layers × filters."""


@pytest.mark.parametrize("method", GENOMES)
def test_a_genome_is_evolved_and_exported(method: str, tmp_path: Path) -> None:
    block, genes = GENOMES[method]
    run = small_run(
        merge=None,
        genome={"merge_method": method, **block},
        limit=5,
        tasks=[{key: value for key, value in task("search", 0).items() if key != "limit"}],
        validation=[task("validation", 3)],
        holdout=[task("holdout", 4)],
        search={"max_fevals": 8, "population": 4},
    )
    folder = evolve(load(tmp_path, run), tmp_path / "run", Quiet())
    with Store.read_only(folder / "run.sqlite") as store:
        searched = [trial for trial in store.trials() if trial.kind == "searched"]
        assert len(searched) == 8
        assert all(trial.genome is not None and len(trial.genome) == genes for trial in searched)
        assert {trial.status for trial in searched} == {"scored"}
        assert len(store.questions("search")) == 5
        rows = store.get("standing")
        assert "mean" in rows
        assert "global" not in rows
        assert "genome" in store.get("left_out")["global"]
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["trials"] == 8
    assert any(row["candidate"] == "winner" and row["set"] == "holdout" for row in results["rows"])

    merge(load_recipe(folder / "recipe.yaml"), tmp_path / "again")
    written = (folder / "model" / "model.safetensors").read_bytes()
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == written
    # The dtype of every recipe that mergekit-evolve writes; its config says so too.
    weights = load_file(folder / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))["dtype"] == "bfloat16"


def test_random_genes_at_the_start_are_those_of_the_seed(tmp_path: Path) -> None:
    def first_generation(name: str, **changes: Any) -> list[Any]:
        run = small_run(
            merge=None,
            genome={"merge_method": "linear", "models": [VLM, JA]},
            tasks=[task("search", 3)],
            validation={"fraction": 0},
            holdout=None,
            search={"max_fevals": 2, "population": 2, "seed": 3},
            **changes,
        )
        folder = evolve(load(tmp_path / name, run), tmp_path / name / "run", Quiet())
        with Store.read_only(folder / "run.sqlite") as store:
            return [trial.genome for trial in store.trials() if trial.kind == "searched"]

    one, two = (first_generation(name, random_init=True) for name in ("one", "two"))
    assert one == two
    assert one != first_generation("equal")
