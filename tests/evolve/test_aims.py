"""Runs with aims beside a high score: constraints that candidates have to keep, fronts between objectives, shared credit."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from vlmerge.aims import violation
from vlmerge.evolve import evolve
from vlmerge.standing import rank, set_score
from vlmerge.store import Store

from .conftest import FAMILY, Quiet, load, small_run, task

MODELS = [str(FAMILY / name) for name in ("vlm", "ja", "base")]
TWO = {"models": MODELS[:2], "base_model": MODELS[2]}


@pytest.fixture(autouse=True)
def few_hand_set_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host and two others are enough here, and save most of the time."""
    loop = import_module("vlmerge.evolve")
    listed = loop.baselines
    monkeypatch.setattr(loop, "baselines", lambda *given: listed(*given)[:3])


def both(split: str, limit: int, **keys: Any) -> list[dict[str, Any]]:
    """Japanese counts, English is asked beside it."""
    return [task(split, limit, label="Japanese"), task(split, limit, "en", label="English", **keys)]


def aiming(weight: float = 0.0, **search: Any) -> dict[str, Any]:
    """A run of few candidates over questions in two languages."""
    return small_run(
        merge=TWO,
        tasks=both("search", 6, weight=weight),
        validation=both("validation", 6, weight=weight),
        holdout=both("holdout", 6, weight=weight),
        search={"max_fevals": 8, "global_fevals": 8, "population": 4, **search},
        decoding={"max_new_tokens": 12},
    )


ENGLISH_KEPT = [{"task": "English", "at_least": 0.95, "of": "host"}, {"task": "Japanese", "language": "ja", "at_least": 0.5}]


def test_who_breaks_a_constraint_ranks_behind_and_cannot_win(tmp_path: Path) -> None:
    path = evolve(load(tmp_path, aiming(constraints=ENGLISH_KEPT)), tmp_path / "run", Quiet())
    with Store.read_only(path / "run.sqlite") as store:
        searched = [trial for trial in store.trials() if trial.kind == "searched"]
        told = [fitness for one in store.generations() for fitness in one.fitness or ()]
        assert any(fitness is not None and fitness < 0 for fitness in told)
        for trial, fitness in zip(searched, told, strict=True):
            broken = violation(store, trial.trial, "search")
            assert fitness == (-broken if broken else set_score(store, trial, "search"))
        finalists = {trial: store.trial(trial) for trial in store.get("standing").values()}
        ranks = {number: rank(store, trial, "validation") for number, trial in finalists.items() if trial is not None}
        assert ranks[store.get("standing")["winner"]] == max(score for score in ranks.values() if score is not None)


def test_a_front_is_searched_scored_and_told(tmp_path: Path) -> None:
    observer = Quiet()
    run = aiming(1.0, objectives=["Japanese", "English"], population=6, max_fevals=12, global_fevals=12)
    path = evolve(load(tmp_path, run), tmp_path / "run", observer)
    results = json.loads((path / "results.json").read_text())
    print(json.dumps(results["front"], indent=1)[:1500], observer.lines)
