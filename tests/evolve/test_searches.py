"""Runs over every kind of space: genes are searched, stages follow one another or do not, a run goes on where it stopped."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from vlmerge.config.recipe import read_recipe
from vlmerge.evolve import evolve
from vlmerge.store import Store

from .conftest import FAMILY, Quiet, contents, load, small_run, task

MODELS = [str(FAMILY / name) for name in ("vlm", "ja", "base")]
TWO = {"models": MODELS[:2], "base_model": MODELS[2]}


@pytest.fixture(autouse=True)
def few_hand_set_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host and two others are enough here, and save most of the time."""
    loop = import_module("vlmerge.evolve")
    listed = loop.baselines
    monkeypatch.setattr(loop, "baselines", lambda *given: listed(*given)[:3])


def few(merge: dict[str, Any], **search: Any) -> dict[str, Any]:
    """A run of few candidates and questions."""
    return small_run(
        merge={**TWO, **merge},
        tasks=[task("search", 4)],
        validation=[task("validation", 4)],
        holdout=None,
        search={"max_fevals": 6, "global_fevals": 2, "population": 2, **search},
        decoding={"max_new_tokens": 8},
    )


def run(folder: Path, merge: dict[str, Any], **search: Any) -> tuple[Path, Quiet]:
    observer = Quiet()
    return evolve(load(folder, few(merge, **search)), folder / "run", observer), observer


def searched(path: Path) -> list[tuple[int | None, Any]]:
    """(stage, recipe) of every searched candidate."""
    with Store.read_only(path / "run.sqlite") as store:
        return [(one.stage, read_recipe(one.recipe, one.label)) for one in store.trials() if one.kind == "searched"]


def test_which_method_is_searched_with_its_parameters(tmp_path: Path) -> None:
    merge = {"method": ["linear", "ties", "dare_ties"], "space": {"groups": 1, "separate": [], "parameters": ["density"]}}
    path, _ = run(tmp_path, merge, max_fevals=12, global_fevals=0, population=6)
    tried = [recipe for _, recipe in searched(path)]
    assert len({recipe.merge_method for recipe in tried}) > 1
    assert all(recipe.base_model is not None for recipe in tried if recipe.merge_method != "linear")
    used = yaml.safe_load((path / "run.yaml").read_text())
    assert used["search"]["algorithm"] == "catcma"
    assert (path / "model" / "model.safetensors").exists()


def test_stages_follow_one_another_while_validation_agrees(tmp_path: Path) -> None:
    space = [{"groups": 1}, {"groups": 1, "modules": ["attention", "mlp", "norms"]}]
    whatever, said = run(tmp_path / "on", {"space": space}, agreement=0)
    assert {stage for stage, _ in searched(whatever)} == {0, 1, 2}
    with Store.read_only(whatever / "run.sqlite") as store:
        first, second = store.get("agreements")
        assert (first["stage"], first["before"], first["agreed"], first["questions"]) == ("groups", "global", True, 4)
        assert (second["stage"], second["before"]) == ("finer", "groups")
        assert store.trial("mean:finer") is not None
        assert "mean:finer" in store.get("standing")
    assert any("on to finer" in line for line in said.lines)
    assert "mean:finer" in (whatever / "results.json").read_text()
    # Of an equal mean no resample is better, and 100 % are asked for: the second stage's hardly is.
    ended, said = run(tmp_path / "off", {"space": space}, agreement=1, sigma=1e-9)
    assert {stage for stage, _ in searched(ended)} == {0, 1}
    with Store.read_only(ended / "run.sqlite") as store:
        (only,) = store.get("agreements")
        assert not only["agreed"]
        assert "did not agree" in store.get("left_out")["mean:finer"]
        assert store.trial("mean:finer") is None
        assert [stage["name"] for stage in store.get("stages")] == ["global", "groups"]
        assert store.get("budget") == len(searched(ended))
    assert any("the search ends here" in line for line in said.lines)
    assert "did not agree" in (ended / "report.html").read_text()


def test_a_decision_is_kept_when_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped right after the decision, and again in the finer stage: the same run as one that was not, nothing asked twice."""
    space = [{"groups": 1, "separate": []}, {"groups": 2, "separate": []}]
    search = {"max_fevals": 8, "global_fevals": 2, "agreement": 0}
    whole, _ = run(tmp_path / "whole", {"space": space}, **search)
    config = load(tmp_path / "parts", few({"space": space}, **search))
    loop = import_module("vlmerge.evolve")

    calls = 0
    search_on = loop.search

    def interrupted(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return search_on(*given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "search", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evolve(config, tmp_path / "parts" / "run", Quiet())
    with Store.read_only(tmp_path / "parts" / "run" / "run.sqlite") as store:
        assert len(store.get("agreements")) == 1
    again = Quiet()
    evolve(config, tmp_path / "parts" / "run", again)
    assert any("on to finer" in line for line in again.lines)
    assert contents(tmp_path / "parts" / "run")["tables"]["answers"] == contents(whole)["tables"]["answers"]
    assert contents(tmp_path / "parts" / "run")["recipe"] == contents(whole)["recipe"]


def test_parameters_ties_curves_and_a_start_are_searched(tmp_path: Path) -> None:
    space = {"curve": "linear", "parameters": {"weight": {"negative": False}, "density": {"per": "model"}}}
    path, _ = run(tmp_path / "first", {"method": "ties", "space": space}, start="host", max_fevals=4, global_fevals=2)
    stages = {stage for stage, _ in searched(path)}
    assert stages == {0, 1}
    slices = searched(path)[-1][1].slices
    assert len(slices) == 6
    # The winner of a run is where another one begins.
    merge = {"models": MODELS, "method": ["ties", "linear"], "space": space}  # A hand-set merge may have won.
    second = few(merge, start=str(path), max_fevals=4, global_fevals=2)
    observer = Quiet()
    on = evolve(load(tmp_path / "second", second), tmp_path / "second" / "run", observer)
    used = yaml.safe_load((on / "run.yaml").read_text())
    assert used["search"]["start"]["merge_method"] in ("linear", "ties")
