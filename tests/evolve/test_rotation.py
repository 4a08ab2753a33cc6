"""Rotating questions: estimates from a share of them, finalists with whole scores, and interrupted equals uninterrupted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest

from vlmerge.bench import Bench
from vlmerge.config import RacingSpec, Recipe, read_recipe
from vlmerge.errors import CandidateFailure
from vlmerge.generation import try_generation
from vlmerge.raced import Course
from vlmerge.rotation import ask_finalists_the_rest, learn_share, questions_of
from vlmerge.search import Stage
from vlmerge.search.rotating import reliability
from vlmerge.standing import estimates, finalists, leaders, set_score
from vlmerge.store import Store
from vlmerge.types import Answer, Question

from .test_races import Generation, Interrupted, Speaker, Unwatched

SHARES = ((0.9, 0.2, 0.42, 0.95, 0.5, 0.85), (0.97, 0.93, 0.4, 0.9, 0.25, 0.88), (0.96, 0.94, 0.92, 0.6, 0.83, 0.91))


class OneGene:
    """A genome is the share of the answers that its recipe knows."""

    def decode(self, genome: tuple[float, ...]) -> Recipe:
        return read_recipe(f"merge_method: linear\nmodels: [{{model: m, parameters: {{weight: {genome[0]}}}}}]", "here")


class Watching(Unwatched):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def step(self, *_: object) -> Any:
        return contextlib.nullcontext()


class Search:
    """Three generations over the questions of `Generation`, after hand-set merges."""

    def __init__(self, path: Path, rotate: float | Literal["auto"], racing: RacingSpec | None = None) -> None:
        self.asked = Generation(path)
        self.store, self.speaker, self.watch = self.asked.store, Speaker(), Watching()
        self.stage = Stage(
            "global", cast("Any", OneGene()), None, 0.1, seed=3, population=6, generations=3, rotate=rotate, racing=racing
        )

    def run(self) -> list[list[float]]:
        bench, watch = Bench(self.store, cast("Any", self.speaker), self.asked.sets), cast("Any", self.watch)
        for share in (0.3, 0.55, 0.7, 0.82):
            bench.try_recipe(f"grid@{share}", "baseline", OneGene().decode((share,)))
        told: list[list[float]] = []
        for number, shares in enumerate(SHARES):
            genomes = [(share,) for share in shares]
            if len(self.store.generations(0)) == number:
                self.store.record_ask(0, number, genomes)
            told.append(cast("list[float]", try_generation(self.stage, (0, number), genomes, bench, self.store, watch)))
            self.store.record_tell(0, number, told[-1], genomes[0], 0.1, 0.0)
        ask_finalists_the_rest(self.store, bench, watch, 3)
        return told

    def record(self) -> list[object]:
        trials = [replace(trial, seconds={}, finished_at="") for trial in self.store.trials()]
        answers = [self.store.answers(trial.trial, "search") for trial in trials]
        return [trials, answers, self.store.get("shares")]


def test_finalists_have_whole_scores_and_all_others_estimates(tmp_path: Path) -> None:
    search = Search(tmp_path, 0.5)
    search.run()
    store, whole = search.store, len(search.store.questions("search"))
    searched = [trial for trial in store.trials() if trial.kind == "searched"]
    assert {trial.status for trial in searched} == {"scored", "sampled"}
    asked = [
        frozenset((a.task, a.question) for a in store.answers(t.trial, "search")) for t in searched if t.status == "sampled"
    ]
    assert len(set(asked)) == len(SHARES)  # One set of questions for a generation, another one for each.
    assert all(0.4 * whole < len(each) < 0.65 * whole for each in asked)
    by_estimate = sorted(estimates(store).items(), key=lambda pair: -pair[1])[:3]
    assert {trial.trial for trial in finalists(store, 9).values()} == {trial for trial, _ in by_estimate}
    assert leaders(store, searched=True)["best"][0] == max(
        set_score(store, trial, "search") or 0.0 for trial in searched if trial.is_whole
    )


def test_an_estimate_is_nearer_to_the_whole_than_the_share_is(tmp_path: Path) -> None:
    errors: list[tuple[float, float]] = []
    whole = Search(tmp_path / "whole", 1.0)
    for seed in range(1, 5):
        search = Search(tmp_path / str(seed), 0.5)
        search.stage = replace(search.stage, seed=seed)
        for number, (told, true) in enumerate(zip(search.run(), whole.run(), strict=True)):
            asked = questions_of(search.stage, (0, number), search.asked.sets.search, search.store)
            course = Course.of(asked, None, (seed, 0, number), 6, whole=False)
            members = [trial for trial in search.store.trials() if trial.generation == number]
            weights = course.race.weights
            raw = [np.average(course.scores_of(search.store, trial), weights=weights) for trial in members]
            truth = np.array(true, dtype=np.float64)
            estimated = np.array(told, dtype=np.float64)
            ranks = [np.argsort(np.round(each, 9), kind="stable").tolist() for each in (raw, estimated)]  # Ties are ties.
            assert ranks[0] == ranks[1]
            errors.append((float(np.abs(estimated - truth).mean()), float(np.abs(raw - truth).mean())))
    ours, theirs = np.mean(errors, axis=0)
    assert ours < 0.9 * theirs


@pytest.mark.parametrize(("rotate", "racing"), [("auto", None), (0.6, RacingSpec(blocks=2, error_rate=0.4, survivors=0.5))])
def test_a_rotating_search_goes_on_from_every_place_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotate: float | Literal["auto"], racing: RacingSpec | None
) -> None:
    whole = Search(tmp_path / "whole", rotate, racing)
    told, record = whole.run(), whole.record()
    assert any(trial.status == "stopped" for trial in whole.store.trials()) == (racing is not None)
    if rotate == "auto":
        shares = list(cast("dict[str, float]", whole.store.get("shares")).values())
        assert len(set(shares)) > 1
        said = [f"asked {100 * share:.0f} %" if share < 1 else "is asked " for share in shares]
        assert all(words in line for words, line in zip(said, whole.watch.lines, strict=True))
    for name, count in (("update_trial", 2), ("record_trial", 13), ("record_tell", 2), ("set", 1)):
        written: Callable[..., None] = getattr(Store, name)
        again = Search(tmp_path / name, rotate, racing)
        with monkeypatch.context() as patched:
            patched.setattr(Store, name, Interrupted(count, written))
            with contextlib.suppress(KeyboardInterrupt):
                again.run()
        assert again.run() == told
        assert again.record() == record


class FailsOnTheRest(Speaker):
    """One that knows 0.97 of the answers, and fails where it is asked the rest; the count-th merge of all is an interrupt."""

    def __init__(self, store: Store, interrupt: int | None = None) -> None:
        super().__init__()
        self.store, self.interrupt = store, interrupt

    def merge(self, recipe: Recipe) -> None:
        super().merge(recipe)
        if self.merged == self.interrupt:
            raise KeyboardInterrupt

    def answer(self, questions: Sequence[Question], *rest: object) -> Iterator[Answer]:
        if self._share == 0.97 and self.store.generations(0)[-1].generation == 2:
            raise CandidateFailure("out of memory")
        return super().answer(questions, *rest)


def test_nobody_moves_up_for_a_finalist_that_fails_on_the_rest(tmp_path: Path) -> None:
    whole = Search(tmp_path / "whole", 0.5)
    whole.speaker = FailsOnTheRest(whole.store)
    whole.run()
    assert [trial.genome for trial in whole.store.trials() if trial.status == "failed"] == [(0.97,)]
    again = Search(tmp_path / "again", 0.5)
    again.speaker = FailsOnTheRest(again.store, whole.speaker.merged)
    with pytest.raises(KeyboardInterrupt):
        again.run()
    assert any(trial.status == "failed" for trial in again.store.trials())
    again.run()
    assert again.record() == whole.record()


def test_every_task_has_its_share_in_every_generation(tmp_path: Path) -> None:
    search = Search(tmp_path, 0.5)
    for generation in range(6):
        asked = questions_of(search.stage, (0, generation), search.asked.sets.search, search.store)
        counts = {one.task.name: len({question.group for question in one.questions}) for one in asked}
        for whole in search.asked.sets.search:
            pictures = len({question.group for question in whole.questions})
            assert counts.get(whole.task.name, 0) == (pictures / 2 if whole.weight else 0)


def test_in_a_race_the_first_block_s_reliability_is_made_that_of_the_whole_share(tmp_path: Path) -> None:
    search = Search(tmp_path, "auto", RacingSpec(blocks=2, error_rate=0.4, survivors=0.5))
    asked = questions_of(search.stage, (0, 0), search.asked.sets.search, search.store)
    course = Course.of(asked, search.stage.racing, (3, 0, 0), 6, whole=False)
    common, pictures = sorted(course.race.blocks[0]), course.race.pictures
    scores = np.linspace(0, 0.2, 6)[:, None] + np.random.RandomState(2).normal(0, 0.22, (6, len(pictures)))
    scores[:3, list(course.race.blocks[1])] = np.nan
    learn_share(search.stage, (0, 0), course, scores, search.store, cast("Any", search.watch))
    said = float(search.watch.lines[0].partition("ranks ")[2].partition(":")[0])
    part = reliability(scores[:, common], [pictures[at] for at in common], [course.race.weights[at] for at in common])
    times = len(set(pictures)) / len({pictures[at] for at in common})
    assert part is not None
    assert times > 1.5
    assert said == pytest.approx(times * part / (1 + (times - 1) * part), abs=0.006)
    assert said > part + 0.01
