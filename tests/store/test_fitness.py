"""What the optimizer is told: who breaks a constraint comes last, credit is divided, fronts are what nothing dominates."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from vlmerge.aims import bounds, dominates, shared_credit, spread_out, undominated, violation
from vlmerge.aims.wanted import KEY
from vlmerge.errors import RunFolderError
from vlmerge.fitness import best_first, front, outside, plain_scores, require_references, told
from vlmerge.loggers.figures import Known, generation_figures
from vlmerge.loggers.figures import told as generations_told
from vlmerge.standing import leaders, rank, set_score
from vlmerge.store import AnswerRecord, QuestionRecord, Store, TaskRecord, Trial, label_of
from vlmerge.writing import is_written_in

JA, EN = "日本語です。", "English."


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A run of two tasks of three questions; nothing tried yet."""
    made = Store.create(tmp_path / "run.sqlite")
    tasks = [TaskRecord("search", name, "m", weight, None, "greedy", "p", "s") for name, weight in (("ja", 1.0), ("en", 0.0))]
    questions = [
        QuestionRecord("search", task.task, str(at), "?", ("!",), None, f"{at}", ()) for task in tasks for at in range(3)
    ]
    made.record_setting([], tasks, questions, {}, {})
    return made


def tried(store: Store, label: str, ja: list[float], en: list[float], place: tuple[int, int, int] | None = None) -> Trial:
    """A trial with these scores; those below 0.5 were said in English."""
    records = [
        AnswerRecord("search", task, str(at), EN if task == "en" or score < 0.5 else JA, 3, score)
        for task, scores in (("ja", ja), ("en", en))
        for at, score in enumerate(scores)
    ]
    stage, generation, position = place or (None, None, None)
    kind = "baseline" if place is None else "searched"
    trial = Trial(store.next_trial(), label, kind, stage, generation, position, None, "r", "scored", None, {}, "2026-01-01")
    store.record_trial(trial, records)
    return trial


def aim(store: Store, **aims: Any) -> None:
    store.set(KEY, {"constraints": [], "objectives": [], "sharing": False, **aims})


def generation(store: Store, *scores: tuple[list[float], list[float]]) -> list[Trial]:
    return [tried(store, label_of(0, 0, at), ja, en, (0, 0, at)) for at, (ja, en) in enumerate(scores)]


def test_a_share_of_the_start_is_of_the_start(store: Store) -> None:
    aim(store, constraints=[{"task": "en", "at_least": 0.9, "of": "start"}])
    tried(store, "host", [0, 0, 0], [1, 1, 1])
    tried(store, "start", [0, 0, 0], [0.5, 0.5, 0.5])
    keeps, breaks = generation(store, ([1, 1, 1], [0.4, 0.5, 0.5]), ([1, 1, 1], [0.4, 0.4, 0.4]))
    assert violation(store, keeps.trial, bounds(store, "search")) == 0
    assert violation(store, breaks.trial, bounds(store, "search")) == pytest.approx(1 - 0.4 / 0.45)


def test_who_breaks_a_constraint_ranks_behind_whoever_keeps_them(store: Store) -> None:
    aim(store, constraints=[{"task": "en", "at_least": 0.9, "of": "host"}, {"language": "ja", "at_least": 0.3}])
    tried(store, "host", [0, 0.6, 0], [1, 1, 0.4])
    trials = generation(
        store,
        ([1, 1, 1], [0.4, 0.4, 0.4]),  # the best, half of the English gone
        ([0, 0.9, 0], [0.8, 0.8, 0.8]),  # keeps both
        ([1, 1, 1], [0.7, 0.7, 0.7]),  # lacks a little
        ([0, 0, 0], [1, 1, 1]),  # speaks no Japanese
    )
    fitness = told(store, trials)
    bound = 0.9 * 0.8
    assert fitness == pytest.approx([-(bound - 0.4) / bound, 0.3, -(bound - 0.7) / bound, -1.0])
    store.record_ask(0, 0, [(0.0,)] * 4)
    store.record_tell(0, 0, fitness, (0.0,), 0.1, 1.0)
    assert outside(store, store.generations()[0]) == [True, False, True, True]
    assert plain_scores(store, store.generations()[0]) == [set_score(store, trial, "search") for trial in trials]
    assert best_first(store, {trial.trial: trial.label for trial in trials})[0] == trials[1].label
    require_references(store, "search")


def test_a_share_of_the_host_needs_a_host_that_answers(store: Store) -> None:
    aim(store, constraints=[{"task": "en", "at_least": 0.9, "of": "host"}])
    with pytest.raises(RunFolderError, match="the host has none"):
        require_references(store, "search")
    aim(store, constraints=[{"task": "en", "at_least": 0.9}])
    require_references(store, "search")


def test_what_all_trials_are_held_to_is_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    aim(store, constraints=[{"task": "en", "at_least": 0.9, "of": "host"}])
    host, read = tried(store, "host", [1, 1, 1], [1, 1, 1]), Counter[int]()
    answers = Store.answers

    def counted(own: Store, trial: int, *rest: Any) -> list[AnswerRecord]:
        read[trial] += 1
        return answers(own, trial, *rest)

    monkeypatch.setattr(Store, "answers", counted)
    known, steps = Known(store), list[int]()
    for number in range(4):
        trials = [tried(store, label_of(0, number, at), [1, 1, 1], [1, 1, 1], (0, number, at)) for at in range(5)]
        store.record_ask(0, number, [(0.0,)] * 5)
        read.clear()
        store.record_tell(0, number, told(store, trials), (0.0,), 0.1, 1.0)
        assert read[host.trial] == 1
        leaders(store, searched=True)
        assert read[host.trial] <= 4  # Once more, and the host is a trial as well.
        read.clear()
        generation_figures(store, generations_told(store), number + 1, known)
        steps.append(sum(read.values()))
    assert steps == [steps[0]] * 4  # A logger's step reads its own generation, however many were before.


def test_at_most_and_violations_add_up(store: Store) -> None:
    aim(store, constraints=[{"task": "en", "at_most": 0.5}, {"task": "ja", "at_least": 0.8}])
    (trial,) = generation(store, ([0.4, 0.4, 0.4], [0.75, 0.75, 0.75]))
    assert violation(store, trial.trial, bounds(store, "search")) == pytest.approx(0.5 + 0.5)
    assert rank(store, trial, bounds(store, "search")) == pytest.approx(-1.0)
    aim(store)
    assert rank(store, trial, bounds(store, "search")) == set_score(store, trial, "search")


def test_credit_goes_to_who_can_do_what_others_cannot(store: Store) -> None:
    aim(store, sharing=True)
    trials = generation(store, ([1, 1, 0], [0, 0, 0]), ([1, 1, 0], [1, 1, 1]), ([0, 0, 0.5], [0, 0, 0]))
    fitness = told(store, trials)
    assert fitness == pytest.approx([1 / 3, 1 / 3, 1 / 3])  # One question alone is worth two that are shared.
    store.record_ask(0, 0, [(0.0,)] * 3)
    store.record_tell(0, 0, fitness, (0.0,), 0.1, 1.0)
    assert plain_scores(store, store.generations()[0]) == pytest.approx([2 / 3, 2 / 3, 0.5 / 3])
    numbers = [trial.trial for trial in trials]
    backwards = shared_credit(store, dict.fromkeys(reversed(numbers)))
    assert backwards == shared_credit(store, dict.fromkeys(numbers))


def test_a_front_has_hand_set_merges_too_and_keeps_constraints(store: Store) -> None:
    axes = [{"tasks": {"ja": 1.0}}, {"tasks": {"en": 1.0}}]
    aim(store, objectives=axes)
    host = tried(store, "host", [0, 0, 0], [1, 1, 1])
    trials = generation(store, ([1, 1, 1], [0, 0, 0]), ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]), ([0.4, 0.4, 0.4], [0.4, 0.5, 0.5]))
    assert told(store, trials)[1] == (0.5, 0.5)
    assert front(store) == [host.trial, trials[1].trial, trials[0].trial]
    aim(store, objectives=axes, constraints=[{"task": "en", "at_least": 0.45}])
    assert told(store, trials)[0] == (-1.0, -1.0)
    assert front(store) == [host.trial, trials[1].trial]


points = some.lists(some.tuples(*[some.integers(0, 6)] * 2), min_size=1, max_size=30)


@given(points)
def test_nothing_beats_a_front_and_it_beats_the_rest(scores: list[tuple[int, int]]) -> None:
    everything = dict(enumerate(scores))
    found = undominated(everything)
    for trial, own in everything.items():
        beaten = any(dominates(everything[other], own) or everything[other] == own for other in found if other != trial)
        assert (trial in found) != beaten
    few = spread_out({trial: everything[trial] for trial in found}, 3)
    assert len(few) == min(3, len(found))
    assert {found[0], found[-1]} <= set(few)  # The ends of every objective stay.


@pytest.mark.parametrize(
    ("text", "language", "right"),
    [
        ("猫です", "ja", True),
        ("a cat", "ja", False),
        ("3", "ja", True),
        (" ", "ja", False),
        ("кот", "ru", True),
        ("a cat", "en", True),
    ],
)
def test_a_language_is_told_by_its_writing(text: str, language: str, right: bool) -> None:
    assert is_written_in(text, language) == right
