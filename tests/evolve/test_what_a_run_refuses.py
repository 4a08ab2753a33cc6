"""What would spoil a run in silence stops it with a message; what spoils one candidate is written down, and the run goes on."""

from __future__ import annotations

import json
import math
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vlmerge.check import check
from vlmerge.config.recipe import Recipe
from vlmerge.errors import CandidateFailure, CheckpointError, ConfigError, MismatchError, RunFolderError, TaskError
from vlmerge.evolve import evolve
from vlmerge.outlook import outlook
from vlmerge.runtime.live import LiveModel
from vlmerge.store import Store

from .conftest import FAMILY, Quiet, load, small_run, task

MODELS = ("vlm", "ja", "base")


def smallest(**changes: Any) -> dict[str, Any]:
    """One stage of two generations, nothing held out."""
    keys = {
        "tasks": [task("search", 3)],
        "validation": {"fraction": 0},
        "holdout": None,
        "search": {"max_fevals": 8, "global_fevals": 8, "population": 4},
    }
    return small_run(**{**keys, **changes})


def spoiled(folder: Path, model: str, name: str, value: float) -> dict[str, Any]:
    """The shipped models with one number of one of them changed; gives the `merge:` block."""
    for each in MODELS:
        shutil.copytree(FAMILY / each, folder / each)
    weights = load_file(folder / model / "model.safetensors")
    weights[name] = weights[name].clone()
    weights[name].view(-1)[7] = value
    save_file(weights, folder / model / "model.safetensors", metadata={"format": "pt"})
    return {"models": [str(folder / each) for each in MODELS], "base_model": str(folder / "base")}


@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        ("ja", "model.layers.2.mlp.up_proj.weight", math.nan),
        ("base", "lm_head.weight", math.inf),
        ("vlm", "language_model.model.embed_tokens.weight", -math.inf),
        ("vlm", "vision_tower.pre_layrnorm.bias", math.nan),
    ],
)
def test_a_model_with_a_broken_number_is_named_before_the_first_candidate(
    model: str, name: str, value: float, tmp_path: Path
) -> None:
    merge = spoiled(tmp_path, model, name, value)
    with pytest.raises(MismatchError, match="NaN or infinity") as caught:
        evolve(load(tmp_path, smallest(merge=merge)), tmp_path / "run", Quiet())
    assert str(tmp_path / model) in caught.value.message()
    assert name in caught.value.message()
    assert "1 of" in caught.value.message()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (None, "no preprocessor_config.json and no processor_config.json"),
        ({"image_processor_type": "NoSuchImageProcessor"}, "Error"),
    ],
    ids=["none", "one that nobody knows"],
)
def test_a_host_that_cannot_be_asked_is_refused_before_any_weight_is_read(
    settings: dict[str, str] | None, says: str, tmp_path: Path
) -> None:
    """A broken number in the weights would be told of first, had they been read."""
    run = smallest(merge=spoiled(tmp_path, "vlm", "vision_tower.pre_layrnorm.bias", math.nan))
    for name in ("preprocessor_config.json", "processor_config.json"):
        (tmp_path / "vlm" / name).unlink(missing_ok=True)
    if settings is not None:
        (tmp_path / "vlm" / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot load its processor") as caught:
        evolve(load(tmp_path, run), tmp_path / "run", Quiet())
    assert str(tmp_path / "vlm") in caught.value.message()
    assert says in caught.value.message()
    assert not (tmp_path / "run").exists()


def test_a_live_dtype_that_cannot_hold_the_result_is_refused(tmp_path: Path) -> None:
    run = smallest(runtime={"device": "cpu", "threads": 1, "dtype": "bfloat16"})
    with pytest.raises(ConfigError, match="rounded once more") as caught:
        evolve(load(tmp_path, run), tmp_path / "run", Quiet())
    assert "float16 or float32" in caught.value.message()
    assert not (tmp_path / "run").exists()


def changed(rows: list[str]) -> list[str]:
    own = rows[0].replace('"answer_ja"', '"answer_was"').replace('"question_ja"', '"answer_ja": "ちがう", "question_ja"')
    return [own, *rows[1:]]


EDITS = {
    "an answer": (changed, "search-000-0"),
    "fewer": (lambda rows: rows[:2], "search-000-2"),
    "another order": (lambda rows: [rows[1], rows[0], rows[2]], "search-000-0"),
}


def test_questions_that_changed_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "questions.jsonl"
    source = FAMILY / "bench" / "search" / "questions.jsonl"
    rows = [
        row.replace('"image": "', f'"image": "{source.parent}/') for row in source.read_text(encoding="utf-8").splitlines()[:3]
    ]
    own.write_text("\n".join(rows), encoding="utf-8")
    fields = {"question": "question_ja", "answer": "answer_ja"}
    config = load(tmp_path, smallest(tasks=[{"name": str(own), "fields": fields}]))
    with monkeypatch.context() as patch:
        patch.setattr(import_module("vlmerge.evolve"), "elect", interrupt)
        with pytest.raises(KeyboardInterrupt):
            evolve(config, tmp_path / "run", Quiet())
    for what, (edit, named) in EDITS.items():
        own.write_text("\n".join(edit(rows)), encoding="utf-8")
        with pytest.raises(RunFolderError, match="questions have changed") as caught:
            evolve(config, tmp_path / "run", Quiet())
        assert named in caught.value.message(), what
    own.write_text("\n".join(rows), encoding="utf-8")
    assert (evolve(config, tmp_path / "run", Quiet()) / "model").is_dir()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_candidate_whose_answers_are_not_numbers_is_ranked_last(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finite weights may still have no finite logits: here about half of the candidates, by a digit of their first weight."""
    merged = LiveModel.merge

    def spoiling(self: LiveModel, recipe: Recipe) -> None:
        merged(self, recipe)
        weights: list[Any] = [source.parameters.get("weight") for source in recipe.models or ()]
        if len(weights) == 3 and weights[0] != weights[1] and int(weights[0] * 1e6) % 2:
            self._model.model.language_model.norm.weight.fill_(value)

    monkeypatch.setattr(LiveModel, "merge", spoiling)
    told: list[list[float | None]] = []
    from vlmerge.search import Optimizer

    tell = Optimizer.tell

    def telling(self: Optimizer, genomes: Any, fitness: Any) -> None:
        told.append(list(fitness))
        tell(self, genomes, fitness)

    monkeypatch.setattr(Optimizer, "tell", telling)
    folder = evolve(load(tmp_path, smallest()), tmp_path / "run", Quiet())
    with Store.read_only(folder / "run.sqlite") as store:
        trials = store.trials()
        searched = [trial for trial in trials if trial.kind == "searched"]
        failed = [trial for trial in searched if trial.status == "failed"]
        assert 0 < len(failed) < len(searched)
        assert {trial.reason for trial in failed} == {"the logits are not finite"}
        assert not any(store.answers(trial.trial, "search") for trial in failed)
        assert [trial.status == "failed" for trial in searched] == [score is None for row in told for score in row]
        rows = store.get("standing")
        assert not {trial.trial for trial in failed} & set(rows.values())
    weights = load_file(folder / "model" / "model.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


def test_a_run_in_which_everything_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise CandidateFailure("nothing works today")

    monkeypatch.setattr(LiveModel, "merge", failing)
    with pytest.raises(RunFolderError, match="every candidate of this run failed") as caught:
        evolve(load(tmp_path, smallest()), tmp_path / "run", Quiet())
    assert "nothing works today" in caught.value.message()
    assert not (tmp_path / "run" / "model").exists()


def test_a_run_in_which_every_answer_is_right_has_a_page(tmp_path: Path) -> None:
    folder = evolve(load(tmp_path, smallest(tasks=[task("search", 1, "en", kinds=["bg"])])), tmp_path / "run", Quiet())
    scores = [row["score"] for row in json.loads((folder / "results.json").read_text(encoding="utf-8"))["rows"]]
    assert sorted(scores)[len(scores) // 4] == 100
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("key", ["tasks", "holdout"])
def test_a_check_names_a_file_of_questions_that_is_missing(key: str, tmp_path: Path) -> None:
    run = load(tmp_path, small_run(**{key: [{**task("search", 3), "name": "missing/questions.jsonl"}]}))
    with pytest.raises(TaskError, match=r"missing/questions\.jsonl"):
        outlook(run, check(run), tmp_path / "out")
    given = load(
        tmp_path, small_run(**{key: [{**task("search", 3), "name": "JMMMU", "path": str(tmp_path / "none"), "fields": {}}]})
    )
    with pytest.raises(TaskError, match="none"):
        outlook(given, check(given), tmp_path / "out")
