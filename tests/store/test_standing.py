"""One answer to what a trial scores and which row it stands in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vlmerge.standing import finalists, leaders, row_of, set_score
from vlmerge.store import STORE_NAME, AnswerRecord, Store, TaskRecord, Trial

HOST = Trial(1, "host", "baseline", None, None, None, None, "models: []", "scored", None, {}, "now")


def a_task(name: str, weight: float) -> TaskRecord:
    return TaskRecord("search", name, "exact_match", weight, None, "greedy", "prompt", "file")


def answers(task: str, *scores: float) -> list[AnswerRecord]:
    return [AnswerRecord("search", task, f"q{number}", "x", 1, score) for number, score in enumerate(scores)]


def a_store(path: Path, *tasks: TaskRecord) -> Store:
    store = Store.create(path / STORE_NAME)
    store.record_setting([], tasks, [], {}, {})
    return store


def test_names_with_an_at_sign_are_not_taken_for_tries() -> None:
    assert row_of("grid@0.4") == "grid"
    assert row_of("swap_scaled:ja@1.13") == "swap_scaled:ja"
    assert row_of("swap:org/name@v1.0") == "swap:org/name@v1.0"
    assert row_of("swap:org/name@2") == "swap:org/name@2"


def test_a_score_is_the_mean_of_the_task_means_by_weight(tmp_path: Path) -> None:
    with a_store(tmp_path, a_task("long", 1.0), a_task("short", 3.0), a_task("shown", 0.0)) as store:
        store.record_trial(HOST, answers("long", 1.0, 0.0, 0.0, 1.0) + answers("short", 0.1) + answers("shown", 1.0))
        assert set_score(store, HOST, "search") == pytest.approx((0.5 + 3 * 0.1) / 4)
        assert set_score(store, HOST, "holdout") is None
        assert set_score(store, replace(HOST, status="failed"), "search") is None


def test_of_a_task_with_a_weight_below_zero_less_is_better(tmp_path: Path) -> None:
    with a_store(tmp_path, a_task("right", 1.0), a_task("missed", -3.0)) as store:
        store.record_trial(HOST, answers("right", 0.5) + answers("missed", 0.0, 0.4))
        assert set_score(store, HOST, "search") == pytest.approx((0.5 + 3 * (1 - 0.2)) / 4)


def test_a_set_in_which_nothing_counts_has_no_score(tmp_path: Path) -> None:
    with a_store(tmp_path, a_task("shown", 0.0)) as store:
        store.record_trial(HOST, answers("shown", 1.0))
        assert set_score(store, HOST, "search") is None


def test_the_best_try_leads_its_row_and_the_earlier_one_where_they_are_equal(tmp_path: Path) -> None:
    with a_store(tmp_path, a_task("one", 1.0)) as store:
        tries = [("grid@0.1", "baseline", 0.2), ("grid@0.2", "baseline", 0.7), ("grid@0.3", "baseline", 0.7)]
        tries += [("stage-1/001/01", "searched", 0.4), ("stage-1/001/02", "searched", 0.9), ("global", "mean", 0.5)]
        for number, (label, kind, score) in enumerate(tries, start=1):
            store.record_trial(replace(HOST, trial=number, label=label, kind=kind), answers("one", score))
        found = {row: trial.trial for row, (_, trial) in leaders(store, searched=True).items()}
        assert found == {"grid": 2, "best": 5, "global": 6}
        assert list(leaders(store, searched=False)) == ["grid", "global"]


def test_finalists_are_the_best_by_search_score_and_no_merge_stands_twice(tmp_path: Path) -> None:
    with a_store(tmp_path, a_task("t", 1.0)) as store:
        for number, (recipe, score) in enumerate([("a", 0.5), ("b", 0.9), ("b", 0.9), ("c", 0.7), ("d", 0.7)], start=1):
            record = Trial(number, f"stage-1/001/0{number}", "searched", 0, 0, number, None, recipe, "scored", None, {}, "now")
            store.record_trial(record, answers("t", score))
        failed = Trial(6, "stage-1/001/06", "searched", 0, 0, 6, None, "e", "failed", "NaN", {}, "now")
        store.record_trial(failed)
        assert {row: trial.trial for row, trial in finalists(store, 3).items()} == {"best": 2, "best:2": 4, "best:3": 5}
        assert len(finalists(store, 9)) == 4
