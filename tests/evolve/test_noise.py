"""Adapting to noise: more questions within a generation, then more candidates; and interrupted equals uninterrupted."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from vlmerge.bench import Bench
from vlmerge.config import Recipe, read_recipe
from vlmerge.errors import ConfigError
from vlmerge.report.saved import saved
from vlmerge.rotation import ask_finalists_the_rest
from vlmerge.search import Gene, Stage
from vlmerge.store import STORE_NAME, Store
from vlmerge.types import Answer, Question

from .conftest import ForkedRuns, contents, write_run
from .test_killed import killed
from .test_races import HAND_SET, POPULATION, Generation, Interrupted, Speaker, raced_run
from .test_rotation import Watching

BUDGET = 30


class OneGene:
    """A genome is the share of the answers that its recipe knows."""

    genes = (Gene("share", 0.0, 1.0),)
    start = (0.5,)

    def decode(self, genome: tuple[float, ...]) -> Recipe:
        return read_recipe(f"merge_method: linear\nmodels: [{{model: m, parameters: {{weight: {genome[0]}}}}}]", "here")


class Guesser(Speaker):
    """Whatever its recipe: of each question it knows the answer by chance."""

    def answer(self, questions: Sequence[Question], *_: object) -> Iterator[Answer]:
        for question in questions:
            chance = zlib.crc32(f"{self._share:.12f} {question.text} {question.id}".encode()) % 100
            yield Answer(question, question.references[0] if chance < 60 else "no", 1)


class Able(Speaker):
    """Knows the easier questions, as many as its recipe says; of the task of which less is better, the others."""

    def answer(self, questions: Sequence[Question], *_: object) -> Iterator[Answer]:
        for question in questions:
            easy = zlib.crc32(f"{question.text} {question.id}".encode()) % 100 < 100 * self._share
            yield Answer(question, question.references[0] if easy != question.text.startswith("less") else "no", 1)


class Told(Watching):
    def generation(self, *_: object) -> None: ...

    def step(self, *_: object, **__: object) -> Any:
        return contextlib.nullcontext()


class Search:
    """One stage over the questions of `Generation`, by the loop itself."""

    def __init__(self, path: Path, speaker: type[Speaker], rotate: float | Literal["auto"] = 0.5) -> None:
        self.asked = Generation(path)
        self.store, self.speaker, self.watch = self.asked.store, speaker, Told()
        self.stage = Stage(
            "global",
            cast("Any", OneGene()),
            (0.5,),
            0.3,
            seed=3,
            population=6,
            generations=BUDGET // 6,
            rotate=rotate,
            adapts=True,
        )

    def run(self) -> None:
        bench, watch = Bench(self.store, cast("Any", self.speaker()), self.asked.sets), cast("Any", self.watch)
        for share in (0.3, 0.55, 0.7):
            bench.try_recipe(f"grid@{share}", "baseline", OneGene().decode((share,)))
        import_module("vlmerge.evolve").search(0, self.stage, None, bench, self.store, watch)
        ask_finalists_the_rest(self.store, bench, watch, 2)

    def record(self) -> list[object]:
        trials = [replace(trial, seconds={}, finished_at="") for trial in self.store.trials()]
        answers = [self.store.answers(trial.trial, "search") for trial in trials]
        generations = [replace(one, seconds=None) for one in self.store.generations()]
        return [generations, trials, answers, self.store.get("shares"), self.store.get("populations")]

    @property
    def sizes(self) -> list[int]:
        return [len(one.genomes) for one in self.store.generations()]

    def asked_of(self, generation: int) -> set[frozenset[tuple[str, str]]]:
        """The questions of each of its candidates that is no finalist."""
        return {
            frozenset((answer.task, answer.question) for answer in self.store.answers(trial.trial, "search"))
            for trial in self.store.trials()
            if trial.generation == generation and trial.status == "sampled"
        }


def test_noise_alone_is_asked_everything_and_then_generations_grow_within_the_budget(tmp_path: Path) -> None:
    search = Search(tmp_path, Guesser)
    search.run()
    assert search.sizes == [6, 9, 14]
    assert {trial.status for trial in search.store.trials()} == {"scored"}
    search.store.set("config", "search: {noise: adapt, rotate: 0.5}")
    told = saved(search.store)
    assert told is not None
    assert (told.adapts, told.shares, told.candidates, told.questions) == (True, (1.0, 1.0), (6, 14), 0)
    assert search.watch.lines[1].endswith("this generation is asked 100 % of the search pictures")
    assert search.watch.lines[2].endswith("the next generation has 9 candidates, after 6")


def test_clear_ranks_are_asked_their_share_and_no_more(tmp_path: Path) -> None:
    search = Search(tmp_path, Able)
    search.stage = replace(search.stage, generations=2)
    search.run()
    whole = len(search.store.questions("search"))
    assert search.sizes == [6, 6]
    for generation in (0, 1):
        (asked,) = search.asked_of(generation)
        assert 0.4 * whole < len(asked) < 0.65 * whole
    assert search.store.get("shares") is None


def test_a_generation_has_all_its_candidates_asked_the_same_further_questions(tmp_path: Path) -> None:
    search = Search(tmp_path, Speaker, 0.34)
    search.run()
    shares = cast("dict[str, float]", search.store.get("shares"))
    asked_on = [int(key.partition("/")[2]) for key, share in shares.items() if share < 1]
    assert asked_on
    for generation in asked_on:
        assert len(search.asked_of(generation)) <= 1


@pytest.mark.parametrize(
    ("speaker", "rotate", "places"),
    [
        (Guesser, 0.5, [("update_trial", 3), ("record_ask", 2), ("set", 2)]),
        (Speaker, "auto", [("record_trial", 12), ("record_tell", 2), ("set", 1), ("update_trial", 9)]),
    ],
)
def test_an_adapting_search_goes_on_from_every_place_to_the_same_end(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    speaker: type[Speaker],
    rotate: float | Literal["auto"],
    places: list[tuple[str, int]],
) -> None:
    whole = Search(tmp_path / "whole", speaker, rotate)
    whole.run()
    record = whole.record()
    for name, count in places:
        written: Callable[..., None] = getattr(Store, name)
        again = Search(tmp_path / f"{name}-{count}", speaker, rotate)
        with monkeypatch.context() as patched:
            patched.setattr(Store, name, Interrupted(count, written))
            with pytest.raises(KeyboardInterrupt):
                again.run()
        again.run()
        assert again.record() == record


@pytest.mark.slow
def test_an_adapting_run_that_was_killed_comes_to_the_same_end(forked_runs: ForkedRuns, tmp_path: Path) -> None:
    settings = raced_run(tmp_path)
    settings["search"] |= {"racing": False, "rotate": 0.34, "noise": "adapt", "global_sigma": 0.2}
    file, more = write_run(tmp_path, settings), str(HAND_SET)
    whole, out = tmp_path / "whole" / "small", tmp_path / "killed" / "small"
    assert not killed(forked_runs, "never", 1, file, whole, more)
    with Store.read_only(whole / STORE_NAME) as store:
        assert store.get("shares") or any(size != POPULATION for size in store.get("populations").values())
    # All have answered their share and the first of them more: what decided on more is read again.
    assert killed(forked_runs, "in-part", POPULATION + 1, file, out, more)
    assert not killed(forked_runs, "never", 1, file, out, more)
    assert contents(out) == contents(whole)


@pytest.mark.parametrize(
    ("algorithm", "options", "says"),
    [("catcma", {}, "take `noise` out"), ("cma-es", {"restarts": "ipop"}, "take `restarts` out")],
)
def test_a_search_that_cannot_change_its_population_says_so(algorithm: str, options: dict[str, Any], says: str) -> None:
    stage = Stage("global", cast("Any", OneGene()), (0.5,), 0.3, 1, 6, 4, algorithm, options, adapts=True)
    with pytest.raises(ConfigError, match=says):
        stage.optimizer()
    assert replace(stage, adapts=False).optimizer().population == 6
