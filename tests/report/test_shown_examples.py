"""Figure 2's questions are drawn by lot: the same lot for the same seed, and no outcome is left out."""

from pathlib import Path

import pytest

from vlmerge.report import rows
from vlmerge.report.examples import OUTCOMES, Examples, read_examples
from vlmerge.store import STORE_NAME, Store


@pytest.fixture(scope="module")
def store(finished: Path) -> Store:
    return Store.read_only(finished / STORE_NAME)


def draw(store: Store, seed: int, each: int = 4) -> Examples:
    found = read_examples(store, rows(store), seed, each)
    assert found is not None
    return found


def test_counts_are_of_all_questions_and_outcomes_are_right(store: Store) -> None:
    found = draw(store, 1, each=1000)
    asked = [question for question in store.questions("holdout") if question.task == "pictures-ja"]
    assert sum(found.counts.values()) == len(asked)
    assert (found.set, found.winner) == ("holdout", "winner")
    for example in found.shown:
        apart = example.said[-1].score - example.said[-2].score
        assert {"gain": apart > 0.5, "loss": apart < -0.5, "tie": abs(apart) < 0.5}[example.outcome]
        assert [said.candidate for said in example.said] == ["host", found.baseline, "winner"]
        assert len(example.thumbnails) == 1


def test_the_baseline_is_the_hardest_of_those_set_by_hand(store: Store) -> None:
    found = draw(store, 1)
    by_hand = [row for row in rows(store) if row.set == "holdout" and row.task == "all" and row.candidate not in
               ("winner", "global", "best", "mean")]  # fmt: skip
    assert found.baseline == max(by_hand, key=lambda row: row.score).candidate


def test_the_lot_depends_on_the_seed_alone(store: Store) -> None:
    assert draw(store, 1) == draw(store, 1)
    assert draw(store, 1).shown != draw(store, 2).shown
    assert draw(store, 1).counts == draw(store, 2).counts


def test_no_picture_stands_twice_within_an_outcome(store: Store) -> None:
    found = draw(store, 3, each=6)
    for outcome in OUTCOMES:
        groups = [example.question.group for example in found.shown if example.outcome == outcome]
        assert len(groups) == len(set(groups))
        assert 0 < len(groups) <= 6
