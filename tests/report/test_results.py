"""results.json is what scripts read: its shape, its numbers, and what is not in it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Kind, build

from vlmerge.report import rows, write_report, write_results
from vlmerge.report.results import standing
from vlmerge.store import STORE_NAME, Store

ROW = {
    "candidate", "trial", "set", "task", "metric", "score", "low", "high", "level", "questions", "prompt", "decoding",
    "winner_minus_row",
}  # fmt: skip


@pytest.fixture(scope="module")
def results(finished: Path) -> dict:
    return json.loads((finished / "results.json").read_text())


def test_the_shape_is_schema_1(results: dict) -> None:
    more = {"selection", "sanity", "simplified", "importance", "ablation", "archive"}
    assert set(results) == {"schema", "rows", "trials", "holdout_views", "seconds_per_trial", *more}
    assert (results["schema"], results["trials"], results["holdout_views"]) == (1, 140, 1)
    assert results["seconds_per_trial"] == pytest.approx(1.03)
    for row in results["rows"]:
        assert set(row) == ROW
        assert row["set"] in ("search", "validation", "holdout")
        assert row["level"] == 0.95
        assert 0 <= row["low"] <= row["score"] <= row["high"] <= 100
        assert (row["winner_minus_row"] is None) == (row["candidate"] == "winner")
        assert row["winner_minus_row"] is None or set(row["winner_minus_row"]) == {"mean", "low", "high", "p"}
    assert len({(row["candidate"], row["set"], row["task"]) for row in results["rows"]}) == len(results["rows"])


def test_every_candidate_stands_on_every_set_and_task_that_it_was_asked(results: dict) -> None:
    found = {(row["candidate"], row["set"], row["task"]) for row in results["rows"]}
    for candidate in ("winner", "mean", "host", "swap:ja", "swap_scaled:ja", "equal", "grid", "chat_vector:ja"):
        for split in ("search", "validation", "holdout"):
            assert {(candidate, split, task) for task in ("all", "pictures-ja", "pictures-en")} <= found
    assert ("best", "search", "all") in found
    assert ("best", "search", "pictures-en") not in found  # searched candidates were not asked in English
    assert not any(candidate == "chat_vector:base" for candidate, _, _ in found)


def test_scores_are_plain_means_in_points_of_a_hundred(results: dict, finished: Path) -> None:
    with Store.read_only(finished / STORE_NAME) as store:
        for row in results["rows"]:
            counted = ["pictures-ja"] if row["task"] == "all" else [row["task"]]
            given = [a.score for a in store.answers(row["trial"], row["set"]) if a.task in counted]
            assert row["score"] == pytest.approx(100 * np.mean(given), abs=1e-3)
            assert row["questions"] == len(given)


def test_differences_are_those_of_the_scores(results: dict) -> None:
    winner = {(row["set"], row["task"]): row["score"] for row in results["rows"] if row["candidate"] == "winner"}
    for row in results["rows"]:
        if row["winner_minus_row"] is not None:
            apart = row["winner_minus_row"]
            assert apart["mean"] == pytest.approx(winner[row["set"], row["task"]] - row["score"], abs=1e-3)
            assert apart["low"] <= apart["mean"] <= apart["high"]
    same = next(row for row in results["rows"] if row["candidate"] == "mean" and row["set"] == "holdout")
    assert same["winner_minus_row"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}


def test_the_file_is_the_same_every_time(finished: Path, tmp_path: Path) -> None:
    with Store.read_only(finished / STORE_NAME) as store:
        again = tmp_path / "again"
        store.snapshot(tmp_path / STORE_NAME)
        again.mkdir()
        write_results(store, again)
    write_report(tmp_path)
    assert (tmp_path / "results.json").read_bytes() == (finished / "results.json").read_bytes()
    assert [path.name for path in again.iterdir()] == ["results.json"]


def test_the_best_of_many_is_said_to_owe_something_to_having_been_chosen(results: dict) -> None:
    of = {(row["candidate"], row["set"]): row["score"] for row in results["rows"] if row["task"] == "all"}
    told = results["selection"]
    assert (told["set"], told["search"], told["fresh"]) == ("holdout", of["best", "search"], of["best", "holdout"])
    unchosen = ["host", "swap:ja", "swap:base", "equal", "chat_vector:ja"]
    lost = np.mean([of[row, "search"] - of[row, "holdout"] for row in unchosen])
    assert told["by_hand"] == pytest.approx(lost, abs=1e-3)
    assert told["bias"] == pytest.approx(told["search"] - told["fresh"] - lost, abs=1e-3)


def test_before_the_election_the_best_try_of_a_row_stands_for_it(make_run: Callable[[Kind], Path]) -> None:
    folder = make_run(Kind(finished=False, generations=2))
    with Store.read_only(folder / STORE_NAME) as store:
        tries = [trial.trial for trial in store.trials() if trial.label.startswith("grid@")]
        scores = {t: np.mean([a.score for a in store.answers(t, "search", "pictures-ja")]) for t in tries}
        found = rows(store)
        assert standing(store)["grid"] == max(scores, key=lambda trial: scores[trial])
    assert len(tries) == 2
    assert "winner" not in {row.candidate for row in found}
    assert all(row.winner_minus_row is None for row in found)
    assert {row.set for row in found} == {"search"}


def test_contamination_is_said(tmp_path: Path) -> None:
    build(tmp_path, Kind(contaminated=True, generations=5))
    with Store.read_only(tmp_path / STORE_NAME) as store:
        written = json.loads(write_results(store, tmp_path).read_text())
    assert written["contaminated"] == ["3 pictures stand on both sides"]


def test_a_store_that_has_just_been_made_has_no_rows(tmp_path: Path) -> None:
    with Store.create(tmp_path / STORE_NAME) as store:
        written = json.loads(write_results(store, tmp_path).read_text())
    assert written == {"schema": 1, "rows": [], "trials": 0, "holdout_views": 0, "seconds_per_trial": None}
