"""A run over models with adapters: found beside the run file, in the record, and in the model that comes out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from vlmerge.config.recipe import load_recipe
from vlmerge.errors import RunFolderError
from vlmerge.evolve import evolve
from vlmerge.merge import merge
from vlmerge.store import Store

from .conftest import FAMILY, Quiet, load, small_run, task


def write_adapter(folder: Path, alpha: float = 4) -> None:
    at = "base_model.model.model.layers.1.mlp.up_proj"
    save_file(
        {f"{at}.lora_A.weight": torch.ones(2, 192) * 0.01, f"{at}.lora_B.weight": torch.ones(512, 2) * 0.02},
        folder / "adapter_model.safetensors",
    )
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": alpha}))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")


def test_a_run_whose_source_has_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    write_adapter(tmp_path / "tuned")
    base, ja = str(FAMILY / "base"), str(FAMILY / "ja")
    models = [str(FAMILY / "vlm"), f"{base}+./tuned", ja]
    run = small_run(
        merge={"models": models, "base_model": base},
        tasks=[task("search", 3)],
        validation=[task("validation", 3)],
        holdout=None,
        search={"max_fevals": 6, "global_fevals": 3, "population": 3},
    )
    config = load(tmp_path, run)
    folder = evolve(config, tmp_path / "run", Quiet())
    name = f"{base}+{tmp_path / 'tuned'}"
    with Store.read_only(folder / "run.sqlite") as store:
        records = {record.name: record for record in store.models()}
        fingerprints = {record.fingerprint for record in records.values()}
        assert records[name].label == "base+tuned"
        assert records[name].path == name
        assert "mit" in (records[name].licence or "")
        assert len(fingerprints) == len(records)
    assert yaml.safe_load((folder / "run.yaml").read_text())["merge"]["models"][1] == name
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "base+tuned" in page
    card = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in card
    assert str(FAMILY) not in card
    assert "(MIT: base+tuned)" in card
    merge(load_recipe(folder / "recipe.yaml"), tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (folder / "model" / "model.safetensors").read_bytes()
    write_adapter(tmp_path / "tuned", alpha=5)
    with Store.read_only(folder / "run.sqlite") as store:
        from vlmerge.export import export

        with pytest.raises(RunFolderError, match="a model has changed"):
            export(folder, tmp_path / "exported", trial=next(t.trial for t in store.trials() if name in t.recipe))
