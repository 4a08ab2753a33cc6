"""Races in a run: candidates are stopped, nothing takes a part for the whole, and interrupted equals uninterrupted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest

from vlmerge.bench import Bench, Candidate
from vlmerge.config import RacingSpec, Recipe, TaskSpec, dump_recipe, read_recipe
from vlmerge.errors import CandidateFailure
from vlmerge.evolve import evolve
from vlmerge.loggers.figures import Known, generation_figures, told
from vlmerge.optuna_study import write_study
from vlmerge.raced import Course, race_note, with_races
from vlmerge.standing import leaders, set_score
from vlmerge.store import STORE_NAME, QuestionRecord, Store, TaskRecord
from vlmerge.tasks import load_tasks
from vlmerge.tasks.sets import Asked, Sets
from vlmerge.types import Answer, Decoding, Question

from .conftest import ForkedRuns, Quiet, contents, load, write_run
from .test_killed import killed
from .test_text_runs import text_run

POPULATION, QUESTIONS = 6, 24
HALF = RacingSpec(blocks=3, error_rate=0.4, survivors=0.5)
HAND_SET = 3
"""Hand-set merges that are tried: more of them would take most of the time."""
THINGS = ("cat", "pizza", "ship", "melon", "rocket", "dog", "apple", "car")


def raced_run(folder: Path) -> dict[str, Any]:
    """Two generations over passages enough for two blocks; wide steps, so that some candidates are far behind."""
    run = text_run(folder, range(2), range(2, 4), range(4, 6))
    rows = [
        {"question": f"There is a {left} on the left. There is a {right} on the right.<q>What is on the {side}?<a>",
         "answer": f"A {left if side == 'left' else right} is on the {side}."}
        for left in THINGS for right in THINGS for side in ("left", "right")
        if THINGS.index(left) - THINGS.index(right) not in (0, 1, -7)  # Those are in the other sets.
    ]  # fmt: skip
    (folder / "search.jsonl").write_text("\n".join(map(json.dumps, rows[:: len(rows) // QUESTIONS][:QUESTIONS])))
    (folder / "shown.jsonl").write_text("\n".join(map(json.dumps, rows[1:3])))
    run["tasks"] = [{"name": str(folder / "search.jsonl")}, {"name": str(folder / "shown.jsonl"), "weight": 0}]
    budget = 2 * POPULATION
    run["search"] = {
        "max_fevals": budget, "global_fevals": budget, "population": POPULATION, "global_sigma": 1.0,
        "racing": {"blocks": 2, "error_rate": 0.4, "survivors": 0.5},
    }  # fmt: skip
    return run | {"holdout": [], "decoding": {"max_new_tokens": 8}}


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, loop = tmp_path_factory.mktemp("raced"), import_module("vlmerge.evolve")
    listed = loop.baselines
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "baselines", lambda *given: listed(*given)[:HAND_SET])
        return evolve(load(folder, raced_run(folder)), folder / "small", Quiet())


def test_whoever_is_stopped_ranks_behind_and_has_no_score(raced: Path) -> None:
    with Store.read_only(raced / STORE_NAME) as store:
        searched = [trial for trial in store.trials() if trial.kind == "searched"]
        stopped = [trial for trial in searched if trial.status == "stopped"]
        whole = [trial for trial in searched if trial.status == "scored"]
        assert stopped
        assert len(stopped) + len(whole) == 2 * POPULATION
        asked_in_order = [(question.task, question.question) for question in store.questions("search")]
        for trial in whole:
            answers = store.answers(trial.trial, "search")
            assert {(answer.task, answer.question) for answer in answers} == set(asked_in_order)
            in_task = [answer.question for answer in answers if answer.task == asked_in_order[0][0]]
            assert in_task == [question for task, question in asked_in_order if task == asked_in_order[0][0]]
        for trial in stopped:
            answers = store.answers(trial.trial, "search")
            assert len(answers) == 12
            assert {answer.task for answer in answers} == {asked_in_order[0][0]}  # What does not count, decides nothing.
            assert trial.reason == f"stopped after {len(answers)} of {QUESTIONS + 2} questions"
            assert set_score(store, trial, "search") is None
            assert not store.has_answers(trial.trial, "search")
        for generation in store.generations():
            told = generation.fitness
            assert told is not None
            members = [trial for trial in searched if trial.generation == generation.generation]
            ends = [told[trial.position or 0] or 0.0 for trial in members if trial.status == "scored"]
            assert len(ends) >= POPULATION // 2
            for trial in members:
                score = told[trial.position or 0]
                assert score is not None
                if trial.status == "stopped":
                    assert score < min(ends)
                else:
                    assert math.isclose(score, set_score(store, trial, "search") or 0.0)
        assert leaders(store, searched=True)["best"][1].status == "scored"
        given = sum(len(store.answers(trial.trial, "search")) for trial in searched)
    told_to_scripts = json.loads((raced / "results.json").read_text(encoding="utf-8"))
    assert told_to_scripts["stopped"] == len(stopped)
    saved = 1 - given / (2 * POPULATION * (QUESTIONS + 2))
    assert told_to_scripts["questions_saved"] == pytest.approx(saved, abs=1e-4)
    assert f"{len(stopped)} of them were asked no further" in (raced / "report.html").read_text(encoding="utf-8")


def test_elsewhere_a_stopped_candidate_is_a_pruned_one_and_no_failure(raced: Path, tmp_path: Path) -> None:
    import optuna

    with Store.read_only(raced / STORE_NAME) as store:
        write_study(store, tmp_path / "study.db")
        stopped = sum(trial.status == "stopped" for trial in store.trials())
        figures = [generation_figures(store, told(store), step, Known(store)) for step in (1, 2)]
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert len(study.get_trials(states=[optuna.trial.TrialState.PRUNED])) == stopped
    assert not study.get_trials(states=[optuna.trial.TrialState.FAIL])
    assert sum(each["search/stopped"] for each in figures) == stopped
    assert not any(each["search/failed"] for each in figures)


@pytest.mark.slow
def test_a_race_that_was_killed_comes_to_the_same_end(raced: Path, forked_runs: ForkedRuns, tmp_path: Path) -> None:
    file = write_run(raced.parent, raced_run(raced.parent))
    assert killed(forked_runs, "in-part", 2, file, tmp_path / "small", str(HAND_SET))
    assert killed(forked_runs, "in-part", 1, file, tmp_path / "small", str(HAND_SET))
    assert not killed(forked_runs, "never", 1, file, tmp_path / "small", str(HAND_SET))
    assert contents(tmp_path / "small") == contents(raced)


# ── a generation by itself: what is asked is real, who answers is a table ──


class Interrupted:
    """A method of the store, but its count-th call is an interrupt, before anything is written."""

    def __init__(self, count: int, written: Callable[..., None] = Store.update_trial) -> None:
        self._left, self._written = count, written

    def __get__(self, store: Store, owner: object = None) -> Callable[..., None]:
        def update(*args: Any, **kwargs: Any) -> None:
            self._left -= 1
            if not self._left:
                raise KeyboardInterrupt
            self._written(store, *args, **kwargs)

        return update


class Speaker:
    """Knows a share of the answers, which its recipe names; the one of share 0.8 fails where it meets a certain question."""

    batch_size = 100

    def __init__(self) -> None:
        self._share, self.merged, self.asked = 0.0, 0, 0

    def merge(self, recipe: Recipe) -> None:
        self._share, self.merged = float(dump_recipe(recipe).partition("weight: ")[2].partition("\n")[0]), self.merged + 1

    def answer(self, questions: Sequence[Question], *_: object) -> Iterator[Answer]:
        for question in questions:
            number = int(question.id)
            if self._share == 0.8 and question.text == "more 35":
                raise CandidateFailure("out of memory")
            knows = (number * 0.618 + self._share / 7) % 1 < self._share
            self.asked += 1
            yield Answer(question, question.references[0] if knows else "no", 1)


class Generation:
    """Eight candidates, two tasks that count (less is better of one of them) and one that is shown."""

    def __init__(self, path: Path) -> None:
        tasks: list[Asked] = []
        for name, weight, count in (("more", 1.0, 48), ("less", -0.5, 24), ("shown", 0.0, 6)):
            file = path / f"{name}.jsonl"
            rows = [{"id": str(at), "question": f"{name} {at % 36}", "answer": "yes"} for at in range(count)]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(map(json.dumps, rows)))
            spec = TaskSpec(name=str(file), weight=weight, metric="exact_match")
            found = load_tasks([spec])[0]
            tasks.append(Asked(found, tuple(found.questions()), weight, None, Decoding()))
        self.sets = Sets(tuple(tasks), (), (), (), None)
        self.store = Store.create(path / STORE_NAME)
        self.store.record_setting(
            [],
            [TaskRecord("search", each.task.name, "exact_match", each.weight, None, "", "", "") for each in tasks],
            [
                QuestionRecord("search", one.task, one.id, one.text, one.references, None, one.group, ())
                for each in tasks
                for one in each.questions
            ],
            {},
            {},
        )

    def race(self, speaker: Speaker, spec: RacingSpec = HALF) -> list[float | None]:
        shares = (0.9, 0.2, 0.3, 0.95, 0.5, 0.85, 0.25, 0.8)
        text = "merge_method: linear\nmodels: [{{model: m, parameters: {{weight: {}}}}}]"
        candidates = [
            Candidate(f"stage-1/001/{at:02d}", read_recipe(text.format(share), "here"), (share,), (0, 0, at))
            for at, share in enumerate(shares)
        ]
        course = Course.of(self.sets.search, spec, (1, 0, 0), len(shares))
        bench = Bench(self.store, cast("Any", speaker), self.sets)
        return course.race.fitness(course.run(candidates, bench, self.store, cast("Any", Unwatched())))

    def record(self) -> list[object]:
        trials = self.store.trials()
        known = [replace(trial, seconds={}, finished_at="") for trial in trials]
        return [known, *(self.store.answers(trial.trial, "search") for trial in trials)]


class Unwatched:
    def tried(self, trial: object, score: float | None) -> None: ...

    def asked_a_part(self) -> None: ...


def test_a_generation_goes_on_from_every_place_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, speaker = Generation(tmp_path / "whole"), Speaker()
    told, record = whole.race(speaker), whole.record()
    statuses = [trial.status for trial in whole.store.trials()]
    assert statuses.count("failed") == 1
    assert statuses.count("stopped") >= 2
    assert speaker.asked < 0.9 * 7 * 78
    failed = next(trial for trial in whole.store.trials() if trial.status == "failed")
    assert told[-1] is None
    assert whole.store.answers(failed.trial, "search")  # It was somebody's rival before.
    place, came_to_an_end = 0, False
    while not came_to_an_end:
        place += 1
        again, asked = Generation(tmp_path / str(place)), Speaker()
        with monkeypatch.context() as patched:
            patched.setattr(Store, "update_trial", Interrupted(place))
            try:
                again.race(asked)
                came_to_an_end = True
            except KeyboardInterrupt:
                pass
        assert again.race(asked) == told
        assert again.record() == record
        assert asked.asked <= speaker.asked + 36  # What was in flight is asked again, and nothing else.
    assert place > 10


def test_a_race_ranks_as_whole_scores_do(tmp_path: Path) -> None:
    """Without an error to speak of nobody is stopped, and fitness is the score: weights, and of one task less is better."""
    generation = Generation(tmp_path)
    told = generation.race(Speaker(), RacingSpec(blocks=3, error_rate=1e-9, survivors=0.5))
    for trial, score in zip(generation.store.trials(), told, strict=True):
        assert trial.status in ("scored", "failed")
        assert score is None if trial.status == "failed" else score == pytest.approx(
            set_score(generation.store, trial, "search"), abs=1e-12
        )  # fmt: skip


def test_what_a_recipe_has_answered_is_not_asked_again(tmp_path: Path) -> None:
    """Genomes that are rounded decode to recipes that were tried: they are recorded and scored, and cost nothing."""
    generation, speaker = Generation(tmp_path), Speaker()
    store, bench = generation.store, Bench(generation.store, cast("Any", speaker), generation.sets)
    recipe = read_recipe("merge_method: linear\nmodels: [{model: m, parameters: {weight: 0.9}}]", "here")
    first = bench.try_recipe("host", "baseline", recipe)
    assert (speaker.merged, speaker.asked) == (1, 78)
    again = bench.try_recipe("stage-1/001/01", "searched", recipe, genome=(0.1,), place=(0, 0, 0))
    assert (speaker.merged, speaker.asked) == (1, 78)
    assert (again.trial, again.status, again.genome, again.seconds) == (2, "scored", (0.1,), {})
    assert store.answers(2, "search") == store.answers(1, "search")
    assert set_score(store, again, "search") == set_score(store, first, "search")
    # One that has answered a part has said that part alone; the rest is asked once.
    other = Candidate("stage-1/001/02", recipe.model_copy(update={"seed": 7}), (0.2,), (0, 0, 1))
    bench.try_part(other, generation.sets.search[:1], "racing")
    assert speaker.asked == 78 + 48
    whole = bench.try_recipe("stage-1/001/03", "searched", other.recipe, genome=(0.3,), place=(0, 0, 2))
    assert (speaker.asked, whole.seconds.keys()) == (2 * 78, {"answer"})
    assert [answer.question for answer in store.answers(4, "search")] == [
        answer.question for answer in store.answers(1, "search")
    ]
    bench.ask_the_rest(store.trial(3) or whole)
    assert speaker.asked == 2 * 78
    # A failure is no answer.
    bad = read_recipe("merge_method: linear\nmodels: [{model: m, parameters: {weight: 0.8}}]", "here")
    assert [bench.try_recipe(f"bad{at}", "baseline", bad).status for at in range(2)] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("runtime", "search", "races"),
    [
        ({"device": "cpu"}, {}, True),
        ({"device": "cpu"}, {"racing": False}, False),
        ({"device": "cuda", "batch_size": 18}, {}, True),  # 72 questions that count, in four blocks.
        ({"device": "cuda", "batch_size": 19}, {}, False),
        ({"device": "cuda", "batch_size": 19}, {"racing": True}, True),
        ({"device": "cpu"}, {"algorithm": "random"}, False),
        ({"device": "cpu"}, {"algorithm": "random", "racing": True}, True),
        ({"device": "cpu"}, {"rotate": 0.5}, False),
        ({"device": "cpu"}, {"noise": "adapt"}, False),
        ({"device": "cpu"}, {"sharing": True}, False),
        ({"device": "cpu"}, {"constraints": [{"task": "more", "at_least": 0.5}]}, False),
    ],
)
def test_races_are_held_where_they_save_time(
    tmp_path: Path, runtime: dict[str, Any], search: dict[str, Any], races: bool
) -> None:
    sets = Generation(tmp_path).sets
    run = raced_run(tmp_path) | {"search": {"max_fevals": 12, **search}, "runtime": {"batch_size": 8, **runtime}}
    run["tasks"] = [{"name": str(tmp_path / "search.jsonl"), "label": "more"}, *run["tasks"][1:]]
    asked = load(tmp_path, run)
    used = with_races(asked, sets)
    assert isinstance(used.search.racing, RacingSpec) is races
    assert asked.may_race or not races
    if "racing" not in search:
        said = race_note(sets, asked.search.racing, used.search.racing)
        assert (said is not None) is races
        assert said is None or "`racing: false` asks everybody" in said


def test_few_pictures_are_raced_by_nobody(tmp_path: Path) -> None:
    sets = Generation(tmp_path).sets
    few = replace(sets, search=tuple(replace(asked, questions=asked.questions[:23]) for asked in sets.search[:1]))
    run = raced_run(tmp_path) | {"runtime": {"device": "cpu"}}
    assert with_races(load(tmp_path, run | {"search": {"max_fevals": 12}}), few).search.racing is None
    wanted = with_races(load(tmp_path, run | {"search": {"max_fevals": 12, "racing": True}}), few).search.racing
    assert wanted == RacingSpec()
    assert race_note(few, wanted, wanted) == (
        "no races: they take 24 pictures, and the search has 23; every candidate is asked everything"
    )
