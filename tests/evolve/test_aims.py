"""Runs with aims beside a high score: constraints that candidates have to keep, fronts between objectives."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from vlmerge.aims import bounds, violation
from vlmerge.ask import load_model
from vlmerge.config.run import RuntimeSpec
from vlmerge.evaluate import evaluate
from vlmerge.evolve import evolve
from vlmerge.export import export
from vlmerge.standing import rank, set_score
from vlmerge.store import Store
from vlmerge.tasks.sets import load_sets

from .conftest import FAMILY, ForkedRuns, Quiet, contents, load, small_run, task, write_run

HAND_SET = 3
"""The host and two others are enough here, and save most of the time."""
TWO = {"models": [str(FAMILY / name) for name in ("vlm", "ja")], "base_model": str(FAMILY / "base")}
CONSTRAINTS = [{"task": "English", "at_least": 0.95, "of": "host"}, {"task": "Japanese", "language": "ja", "at_least": 0.5}]


def aiming(weight: float, **search: Any) -> dict[str, Any]:
    """A run of few candidates over questions in two languages; Japanese counts, English by `weight`."""

    def both(split: str) -> list[dict[str, Any]]:
        return [task(split, 6, label="Japanese"), task(split, 6, "en", label="English", weight=weight)]

    return small_run(
        merge=TWO,
        tasks=both("search"),
        validation=both("validation"),
        holdout=both("holdout"),
        search={"max_fevals": 8, "global_fevals": 8, "population": 4, **search},
        decoding={"max_new_tokens": 12},
    )


APART = ["Japanese", {"label": "English alone", "tasks": {"English": 1, "Japanese": -1}}]
"""Objectives that no merge is best at together, so that few candidates and questions have a front."""
RUNS = {"constraints": aiming(0, constraints=CONSTRAINTS), "front": aiming(1, objectives=APART, start="equal")}


@pytest.fixture(scope="module", autouse=True)
def few_hand_set_merges() -> Iterator[None]:
    loop, patch = import_module("vlmerge.evolve"), pytest.MonkeyPatch()
    listed = loop.baselines
    patch.setattr(loop, "baselines", lambda *given: listed(*given)[:HAND_SET])
    yield
    patch.undo()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Quiet]]:
    """Each of the two, uninterrupted."""
    found: dict[str, tuple[Path, Quiet]] = {}
    for name, run in RUNS.items():
        folder, observer = tmp_path_factory.mktemp(name), Quiet()
        found[name] = evolve(load(folder, run), folder / "small", observer), observer
    return found


def test_who_breaks_a_constraint_ranks_behind_and_cannot_win(runs: dict[str, tuple[Path, Quiet]]) -> None:
    path, observer = runs["constraints"]
    with Store.read_only(path / "run.sqlite") as store:
        searched = [trial for trial in store.trials() if trial.kind == "searched"]
        told = [fitness for one in store.generations() for fitness in one.fitness or ()]
        for trial, fitness in zip(searched, told, strict=True):
            broken = violation(store, trial.trial, bounds(store, "search"))
            assert fitness == (-broken if broken else set_score(store, trial, "search"))
        places = {row: number for row, number in store.get("standing").items() if row != "simple"}  # It comes after.
        finalists = {row: trial for row, number in places.items() if (trial := store.trial(number)) is not None}
        ranks = {
            row: own for row, trial in finalists.items() if (own := rank(store, trial, bounds(store, "validation"))) is not None
        }
        scores = {row: set_score(store, trial, "validation") or 0.0 for row, trial in finalists.items()}
        assert ranks["winner"] == max(ranks.values())
        assert ranks["winner"] < max(scores.values())  # The highest score speaks no English any more.
    results = json.loads((path / "results.json").read_text())
    assert results["feasible"] is (ranks["winner"] >= 0)
    assert {(one["task"], one["set"]) for one in results["constraints"]} == {
        (name, split) for name in ("English", "Japanese") for split in ("search", "validation", "holdout")
    }
    assert any("outside the constraints" in line for line in observer.lines)


def test_a_front_is_searched_scored_and_told(runs: dict[str, tuple[Path, Quiet]]) -> None:
    path, observer = runs["front"]
    with Store.read_only(path / "run.sqlite") as store:
        members, places = store.get("front"), store.get("standing")
        assert [stage["name"] for stage in store.get("stages")] == ["global"]
        assert all(isinstance(each, tuple) for one in store.generations() for each in one.fitness or ())
        assert len(members) > 1
        for member in members:
            assert store.has_answers(member, "validation")
            assert store.has_answers(member, "holdout")
        trials = [trial for trial in store.trials() if trial.trial in members]
        best = max(set_score(store, trial, "validation") or 0.0 for trial in trials)
        winner = store.trial(places["winner"])
        assert winner in trials
        assert winner is not None
        assert set_score(store, winner, "validation") == best
        assert store.get("holdout_views") == 1
        assert not any(trial.kind == "mean" for trial in store.trials())
    results = json.loads((path / "results.json").read_text())
    assert [point["trial"] for point in results["front"]["points"]] == members
    assert [point["trial"] for point in results["front"]["points"] if point["winner"]] == [places["winner"]]
    assert any("front of" in line for line in observer.lines)
    assert f"--trial {members[0]}" in (path / "report.html").read_text()


def test_a_point_of_the_front_is_exported_with_the_answers_that_were_scored(
    runs: dict[str, tuple[Path, Quiet]], tmp_path: Path
) -> None:
    path, _ = runs["front"]
    with Store.read_only(path / "run.sqlite") as store:
        point = next(member for member in store.get("front") if member != store.get("standing")["winner"])
        scored = store.answers(point, "holdout")
    export(path, tmp_path / "model", point)
    live = load_model(str(tmp_path / "model"), RuntimeSpec(device="cpu", threads=1))
    again = evaluate(live, load_sets(load(tmp_path, RUNS["front"])).holdout, "holdout")
    assert {(one.task, one.question, one.text) for one in again} == {(one.task, one.question, one.text) for one in scored}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kills"), [("constraints", [("before-tell", 2)]), ("front", [("before-tell", 2), ("in-meta", 1)])]
)
def test_a_killed_run_goes_on_to_the_same_end(
    name: str,
    kills: list[tuple[str, int]],
    runs: dict[str, tuple[Path, Quiet]],
    forked_runs: ForkedRuns,
    tmp_path: Path,
) -> None:
    run, out = write_run(tmp_path, RUNS[name]), tmp_path / "small"
    for place, count in kills:
        status, said = forked_runs.run(place, count, run, out, str(HAND_SET))
        assert status == -signal.SIGKILL, said
    evolve(load(tmp_path, RUNS[name]), out, Quiet())
    assert contents(out) == contents(runs[name][0])
