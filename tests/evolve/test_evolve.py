"""A run from its YAML to its folder: what it writes, what it refuses, what it never looks at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from vlmerge.config.recipe import load_recipe
from vlmerge.config.run import load_run
from vlmerge.errors import RunFolderError, TaskError
from vlmerge.evaluate import evaluate_model
from vlmerge.evolve import evolve
from vlmerge.merge import merge
from vlmerge.report import write_report
from vlmerge.report.phrases import read_phrases
from vlmerge.report.table import claim_line
from vlmerge.report.view import read_view
from vlmerge.store import Store

from .conftest import FAMILY, Quiet, contents, load, small_run, task, write_run

BRIEF = {"max_fevals": 3, "global_fevals": 3, "population": 3}
"""One generation, for tests that are about what stands around the search."""


def test_a_finished_run_has_everything_that_the_design_names(finished: Path) -> None:
    for name in ("run.yaml", "run.sqlite", "report.html", "results.json", "recipe.yaml", "model/README.md", "figures"):
        assert (finished / name).exists(), name
    results = json.loads((finished / "results.json").read_text(encoding="utf-8"))
    assert results["schema"] == 1
    assert results["trials"] == 12  # whole generations of 3 within a budget of 14, in each stage
    assert results["holdout_views"] == 1
    rows = {(row["candidate"], row["set"], row["task"]) for row in results["rows"]}
    names = {
        "winner",
        "host",
        "swap:ja",
        "swap:base",
        "swap_scaled:ja",
        "equal",
        "grid",
        "chat_vector:ja",
        "global",
        "best",
        "mean",
    }
    for candidate in names:
        for split in ("search", "validation", "holdout"):
            assert (candidate, split, "all") in rows
        assert any(row[0] == candidate and row[2] == "English kept" for row in rows)


def test_a_second_look_at_the_holdout_is_counted_and_said(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run", symlinks=True)
    questions = task("holdout", 2)

    def look(model: Path, **other: Any) -> list[str]:
        observer = Quiet()
        keys = {"preset": None, "max_new_tokens": 4, "device": "cpu", "observer": observer}
        evaluate_model(str(model), [{**questions, **other}], **keys)
        return [line for line in observer.lines if "holdout" in line]

    assert look(run, name=task("validation", 1)["name"]) == []
    assert look(run / "model")[0].startswith("holdout seen 2 times: 2 of these questions are the run's holdout")
    assert look(run, limit=1)[0].startswith("holdout seen 3 times: 1 of these questions")
    write_report(run)
    assert json.loads((run / "results.json").read_text(encoding="utf-8"))["holdout_views"] == 3
    with Store.read_only(run / "run.sqlite") as store:
        assert [look["questions"] for look in store.get("holdout_looks")] == [2, 1]
        assert "looked at 3 times" in claim_line(read_view(store), read_phrases("en"))


def test_running_again_changes_nothing(finished: Path) -> None:
    before = contents(finished)
    evolve(load_run(finished.parent / "small.yaml"), finished, Quiet())
    evolve(load_run(finished / "run.yaml"), finished, Quiet())
    assert contents(finished) == before


def test_the_written_run_has_no_auto_left(finished: Path) -> None:
    run = yaml.safe_load((finished / "run.yaml").read_text(encoding="utf-8"))
    assert run["runtime"] == {"device": "cpu", "dtype": "float32", "batch_size": 192, "threads": 1}


def test_recipe_yaml_rebuilds_the_model_bit_for_bit(finished: Path, tmp_path: Path) -> None:
    merge(load_recipe(finished / "recipe.yaml"), tmp_path / "again")
    for path in sorted((finished / "model").iterdir()):
        if path.name not in ("README.md", "figures"):  # The run's card has its scores, and pictures of its search.
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_another_configuration_is_refused_with_the_difference(finished: Path, tmp_path: Path) -> None:
    other = load(tmp_path, small_run(search={"max_fevals": 14, "global_fevals": 6, "population": 3, "seed": 7}))
    with pytest.raises(RunFolderError, match=r"search\.seed: 1 → 7"):
        evolve(other, finished, Quiet())


def test_a_locked_folder_and_a_foreign_folder_are_refused(tmp_path: Path) -> None:
    config = load(tmp_path / "yaml", small_run())
    (tmp_path / "locked").mkdir()
    with FileLock(tmp_path / "locked" / ".lock"), pytest.raises(RunFolderError, match="another process"):
        evolve(config, tmp_path / "locked", Quiet())
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("…")
    with pytest.raises(RunFolderError, match="not a run folder"):
        evolve(config, tmp_path / "foreign", Quiet())
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["thesis.tex"]


def test_an_image_on_both_sides_is_refused_or_marked(tmp_path: Path) -> None:
    same = small_run(holdout=[task("search", 4)], search=BRIEF)
    with pytest.raises(TaskError, match="not disjoint"):
        evolve(load(tmp_path, same), tmp_path / "refused", Quiet())
    assert not (tmp_path / "refused" / "run.yaml").exists()
    observer = Quiet()
    run = evolve(load(tmp_path, {**same, "allow_contaminated_holdout": True}), tmp_path / "marked", observer)
    assert any("CONTAMINATED" in line for line in observer.lines)
    assert "CONTAMINATED" in (run / "report.html").read_text(encoding="utf-8")
    assert "CONTAMINATED" in (run / "model" / "README.md").read_text(encoding="utf-8")


def test_validation_by_fraction_splits_by_image_and_no_holdout_means_no_claim(tmp_path: Path) -> None:
    run = evolve(
        load(tmp_path, small_run(validation={"fraction": 0.34}, holdout=None, search=BRIEF)), tmp_path / "run", Quiet()
    )
    with Store.read_only(run / "run.sqlite") as store:
        groups = {split: {question.group for question in store.questions(split)} for split in ("search", "validation")}
        assert groups["search"]
        assert groups["validation"]
        assert not groups["search"] & groups["validation"]
        assert not store.questions("holdout")
        assert store.get("elected_on") == "validation"
        assert not store.get("holdout_views")
    assert "no claim" in (run / "report.html").read_text(encoding="utf-8").lower()


def test_the_search_never_reads_the_holdout(finished: Path, tmp_path: Path) -> None:
    """Other holdout answers, the same search: every genome, answer and score before the election is the same."""
    scrambled = [json.loads(line) for line in (FAMILY / "bench/holdout/questions.jsonl").read_text().splitlines()[:6]]
    rows = [{**row, "image": str(FAMILY / "bench/holdout" / row["image"]), "answer_ja": "ちがう"} for row in scrambled]
    (tmp_path / "holdout.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    holdout = [{"name": str(tmp_path / "holdout.jsonl"), "fields": {"question": "question_ja", "answer": "answer_ja"}}]
    run = evolve(load(tmp_path, small_run(holdout=holdout)), tmp_path / "small", Quiet())
    ours, theirs = contents(run)["tables"], contents(finished)["tables"]
    assert ours["generations"] == theirs["generations"]
    assert ours["trials"] == theirs["trials"]
    searched = [[row for row in side["answers"] if row["split"] != "holdout"] for side in (ours, theirs)]
    assert searched[0] == searched[1]
    assert contents(run)["recipe"] == contents(finished)["recipe"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_whatever_pythonhashseed(finished: Path, tmp_path: Path) -> None:
    run, out = write_run(tmp_path, small_run()), tmp_path / "small"
    command = [sys.executable, "-m", "vlmerge", "evolve", str(run), "--out", str(out)]
    subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "4242"}, check=True, capture_output=True)
    assert contents(out) == contents(finished)


def test_language_models_alone_are_evolved_on_text(tmp_path: Path) -> None:
    text = "There is a cat on the left. There is a pizza on the right.<q>What is on the {}?<a>"
    rows = [{"question": text.format(side), "answer": answer} for side, answer in (("left", "A cat."), ("right", "A pizza."))]
    (tmp_path / "text.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = small_run(
        merge={"models": [str(FAMILY / "ja"), str(FAMILY / "base")], "base_model": str(FAMILY / "base")},
        tasks=[{"name": str(tmp_path / "text.jsonl")}],
        validation={"fraction": 0},
        holdout=None,
    )
    folder = evolve(load(tmp_path, run), tmp_path / "run", Quiet())
    with Store.read_only(folder / "run.sqlite") as store:
        assert store.get("elected_on") == "search"
        assert {record.family for record in store.models()} == {"Llama"}
    assert json.loads((folder / "model" / "config.json").read_text())["model_type"] == "llama"


def test_a_candidate_that_fails_is_data(tmp_path: Path) -> None:
    """Step sizes far beyond sense: weights overflow float16, and the run goes on with the failures ranked last."""
    run = small_run(search={"max_fevals": 12, "global_fevals": 12, "population": 6, "global_sigma": 1e6})
    folder = evolve(load(tmp_path, run), tmp_path / "run", Quiet())
    with Store.read_only(folder / "run.sqlite") as store:
        failed = [trial for trial in store.trials() if trial.status == "failed"]
        assert failed
        assert all(trial.reason for trial in failed)
        standing = store.get("standing")
        winner = store.trial(standing["winner"])
        assert winner is not None
        assert winner.status == "scored"


def test_a_bug_stops_the_run_and_leaves_the_store_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlmerge.tasks.task import ReferenceTask

    scored = ReferenceTask.score
    calls = 0

    def broken(self: ReferenceTask, *args: Any) -> float:
        nonlocal calls
        calls += 1
        if calls > 40:
            raise ZeroDivisionError("a bug in our code")
        return scored(self, *args)

    config = load(tmp_path, small_run(search=BRIEF))
    with monkeypatch.context() as patch:
        patch.setattr(ReferenceTask, "score", broken)
        with pytest.raises(ZeroDivisionError):
            evolve(config, tmp_path / "small", Quiet())
    with Store.read_only(tmp_path / "small" / "run.sqlite") as store:
        assert len(store.trials()) == 4
        assert all(len(store.answers(trial.trial, "search")) == 9 for trial in store.trials())
    evolve(config, tmp_path / "small", Quiet())


def test_a_model_that_changed_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    for name in ("vlm", "ja", "base"):
        shutil.copytree(FAMILY / name, tmp_path / name)
    merge_block = {"models": [str(tmp_path / name) for name in ("vlm", "ja", "base")], "base_model": str(tmp_path / "base")}
    config = load(tmp_path, small_run(merge=merge_block))
    from vlmerge.election import Standing

    def interrupted(*_: object) -> Standing:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(import_module("vlmerge.evolve"), "elect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evolve(config, tmp_path / "run", Quiet())
    shutil.copyfile(FAMILY / "base" / "model.safetensors", tmp_path / "ja" / "model.safetensors")
    with pytest.raises(RunFolderError, match="has changed"):
        evolve(config, tmp_path / "run", Quiet())
