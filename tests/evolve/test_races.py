"""Races in a run: candidates are stopped, nothing takes a part for the whole, and interrupted equals uninterrupted."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from vlmerge.errors import ConfigError
from vlmerge.evolve import evolve
from vlmerge.standing import leaders, set_score
from vlmerge.store import STORE_NAME, Store

from .conftest import Quiet, contents, load, small_run, task
from .test_killed import killed

POPULATION = 6


def raced_run(**changes: Any) -> dict[str, Any]:
    """One stage of two generations, with pictures for three blocks; steps are wide so that some are far behind."""
    search = {
        "max_fevals": 2 * POPULATION, "global_fevals": 2 * POPULATION, "population": POPULATION, "global_sigma": 0.4,
        "racing": {"blocks": 3, "error_rate": 0.4},
    }  # fmt: skip
    tasks = [task("search", 110), task("search", 4, "en", weight=0, label="English")]
    common: dict[str, Any] = {"tasks": tasks, "validation": [task("validation", 6)], "search": search, "holdout": None}
    return small_run(**{**common, "decoding": {"max_new_tokens": 6}, **changes})


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raced")
    return evolve(load(folder, raced_run()), folder / "small", Quiet())


def test_whoever_is_stopped_ranks_behind_and_is_no_score(raced: Path) -> None:
    with Store.read_only(raced / STORE_NAME) as store:
        searched = [trial for trial in store.trials() if trial.kind == "searched"]
        stopped = [trial for trial in searched if trial.status == "stopped"]
        whole = {trial.trial: len(store.answers(trial.trial, "search")) for trial in searched if trial.status == "scored"}
        assert stopped
        assert set(whole.values()) == {114}
        for trial in stopped:
            asked = len(store.answers(trial.trial, "search"))
            assert 0 < asked < 110
            assert trial.reason == f"stopped after {asked} of 114 questions"
            assert set_score(store, trial, "search") is None
            assert not store.has_answers(trial.trial, "search")
        for generation in store.generations():
            told = generation.fitness
            assert told is not None
            members = [trial for trial in searched if trial.generation == generation.generation]
            ends = [told[trial.position or 0] for trial in members if trial.status == "scored"]
            assert len(ends) >= POPULATION // 2
            for trial in members:
                score = told[trial.position or 0]
                assert score is not None
                if trial.status == "stopped":
                    assert score < min(end for end in ends if end is not None)
                else:
                    assert math.isclose(score, set_score(store, trial, "search") or 0.0)
        assert leaders(store, searched=True)["best"][1].trial in whole
        asked = store.answers_of_search()
        assert asked == sum(len(store.answers(trial.trial, "search")) for trial in searched)
    told = json.loads((raced / "results.json").read_text(encoding="utf-8"))
    assert (told["trials"], told["stopped"]) == (2 * POPULATION, len(stopped))
    assert told["search_questions_saved"] == pytest.approx(1 - asked / (2 * POPULATION * 114), abs=1e-4)
