"""Tries recipes: merge, answer, score, record. Whatever the store already holds is never done again.

That holds for recipes, whatever their genomes: genomes that are rounded (indicators of paths, choices) often decode to a recipe
that was tried before. Such a trial is recorded like any other, with the answers that its recipe gave then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol

from vlmerge.config.recipe import Recipe, dump_recipe, read_recipe
from vlmerge.errors import CandidateFailure
from vlmerge.evaluate import evaluate
from vlmerge.fitness import Whatever, best_first, require_references
from vlmerge.recording import remember_batch_size
from vlmerge.standing import set_score
from vlmerge.store import AnswerRecord, Kind, Split, Status, Store, Trial
from vlmerge.tasks.sets import Asked, Sets, narrowed
from vlmerge.types import Genome

if TYPE_CHECKING:
    from vlmerge.runtime.live import LiveModel


class Observer(Protocol):
    """Who watches a run: a terminal, a notebook, nobody."""

    def say(self, line: str) -> None:
        """Something happened that is worth a line."""
        ...

    def begin(self, what: str, total: int | None) -> None:
        """A long step begins; `total` counts whatever `advance` counts."""
        ...

    def advance(self, by: int = 1, note: str | None = None) -> None:
        """The step went on."""
        ...

    def end(self) -> None:
        """The step is over."""
        ...


@dataclass(frozen=True)
class Candidate:
    """A recipe that a search asks for.

    Attributes:
        label: Unique name of its trial.
        recipe: What to merge.
        genome: Its genes.
        place: Stage, generation and position.
    """

    label: str
    recipe: Recipe
    genome: Genome
    place: tuple[int, int, int]


class Bench:
    """A live model, a run's questions, and the store: where recipes are tried."""

    def __init__(self, store: Store, live: LiveModel, sets: Sets) -> None:
        self._store = store
        self._live = live
        self._sets = sets
        self._merged: str | None = None
        self._batch_size = live.batch_size
        questions = [question for asked in sets.search for question in asked.questions]
        self._places = {(question.task, question.id): place for place, question in enumerate(questions)}

    @property
    def sets(self) -> Sets:
        """The run's questions."""
        return self._sets

    def try_recipe(
        self,
        label: str,
        kind: Literal["searched", "baseline", "mean"],
        recipe: Recipe,
        *,
        genome: Genome | None = None,
        place: tuple[int, int, int] | None = None,
    ) -> Trial:
        """Scores a recipe on the search questions, once.

        Args:
            label: Unique name of the trial.
            kind: What it is.
            recipe: What to merge.
            genome: Its genes, if any.
            place: Stage, generation and position of a searched candidate.

        Returns:
            Its record; `failed`, with the reason, if it has no result.
        """
        known = self._store.trial(label)
        if known is not None:
            return known
        trial = self._unasked(label, kind, recipe, genome, place)
        trial, answers = self._asked(trial, recipe, self._sets.search)
        with self._store.transaction():
            self._store.record_trial(trial, answers)
            self._remember_batch_size()
        return trial

    def enter(self, label: str, kind: Literal["simple", "ablation"], recipe: Recipe, genome: Genome) -> Trial:
        """Writes a recipe down of which nothing is asked yet, once; `score` asks.

        Args:
            label: Unique name of the trial.
            kind: What it is.
            recipe: What to merge.
            genome: Its genes.
        """
        known = self._store.trial(label)
        if known is not None:
            return known
        now = datetime.now(UTC).isoformat(timespec="seconds")
        trial = replace(self._unasked(label, kind, recipe, genome, None), status="scored", finished_at=now)
        self._store.record_trial(trial)
        return trial

    def try_part(self, candidate: Candidate, asked: Sequence[Asked], then: Status) -> Trial:
        """Scores a searched candidate on a part of the search questions, and writes down what it has answered so far.

        Args:
            candidate: Who is asked.
            asked: Questions that it has not answered yet.
            then: Its status after these, if it has not failed.

        Returns:
            Its record.
        """
        known = self._store.trial(candidate.label)
        trial = known or self._unasked(candidate.label, "searched", candidate.recipe, candidate.genome, candidate.place)
        # Nothing said to the first questions is a failure; nothing said to some later ones is what it has to say of them.
        trial, answers = self._asked(trial, candidate.recipe, asked, allow_empty=known is not None)
        if trial.status == "scored":
            trial = replace(trial, status=then)
        with self._store.transaction():
            record = self._store.record_trial if known is None else self._store.update_trial
            record(trial, answers, self._places_of(answers))
            self._remember_batch_size()
        return trial

    def ask_the_rest(self, trial: Trial) -> Trial:
        """Asks a searched candidate what it was not asked yet of the search questions; then it is `scored`, or has failed."""
        answered = {(answer.task, answer.question) for answer in self._store.answers(trial.trial, "search")}
        asked = narrowed(self._sets.search, lambda _, question: (question.task, question.id) not in answered)
        trial, answers = self._asked(trial, read_recipe(trial.recipe, trial.label), asked, allow_empty=True)
        with self._store.transaction():
            self._store.update_trial(trial, answers, self._places_of(answers))
            self._remember_batch_size()
        return trial

    def _places_of(self, answers: Sequence[AnswerRecord]) -> list[int]:
        return [self._places[answer.task, answer.question] for answer in answers]

    def stop(self, label: str, reason: str) -> Trial:
        """Writes down that a candidate is asked no more."""
        known = self._store.trial(label)
        assert known is not None
        if known.status == "racing":
            known = replace(known, status="stopped", reason=reason)
            self._store.update_trial(known)
        return known

    def _unasked(
        self,
        label: str,
        kind: Kind,
        recipe: Recipe,
        genome: Genome | None,
        place: tuple[int, int, int] | None,
    ) -> Trial:
        stage, generation, position = place or (None, None, None)
        number, text = self._store.next_trial(), dump_recipe(recipe)
        return Trial(number, label, kind, stage, generation, position, genome, text, "racing", None, {}, "")

    def _asked(
        self, trial: Trial, recipe: Recipe, asked: Sequence[Asked], *, allow_empty: bool = False
    ) -> tuple[Trial, list[AnswerRecord]]:
        """The trial after it was asked, `scored` or `failed`, with its answers."""
        seconds, reason = dict(trial.seconds), None
        answers: list[AnswerRecord] = []
        try:
            answers = self._answered(trial.recipe, recipe, asked, "search", seconds, allow_empty=allow_empty)
        except CandidateFailure as failure:
            reason = failure.reason
        status = "scored" if reason is None else "failed"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return replace(trial, status=status, reason=reason, seconds=seconds, finished_at=now), answers

    def _answered(
        self,
        text: str,
        recipe: Recipe,
        asked: Sequence[Asked],
        split: Split,
        seconds: dict[str, float],
        *,
        allow_empty: bool = False,
    ) -> list[AnswerRecord]:
        """A recipe's answers, as `evaluate` gives them; only what no trial of the same recipe was asked is asked."""
        found = {(answer.task, answer.question): answer for answer in self._store.answers_of_recipe(text, split)}
        lacking = narrowed(asked, lambda _, question: (question.task, question.id) not in found)
        if lacking:
            self._merge(text, recipe, seconds)
            started = time.perf_counter()
            spoken = any(answer.text.strip() for answer in found.values())
            new = evaluate(self._live, lacking, split, allow_empty=allow_empty or spoken)
            seconds["answer"] = seconds.get("answer", 0.0) + time.perf_counter() - started
            found |= {(answer.task, answer.question): answer for answer in new}
        return [found[question.task, question.id] for one in asked for question in one.questions]

    def score(self, trial: Trial, split: Split) -> float | None:
        """The trial's score on a set (see `standing.set_score`), asking the questions if that was not done yet.

        Returns:
            None if the trial failed, or fails on these questions; on the search questions also if it was asked only a part of
            them.
        """
        if trial.status == "failed" or not self._sets[split] or (split == "search" and not trial.is_whole):
            return None
        if not self._store.has_answers(trial.trial, split):
            failures: Mapping[str, str] = self._store.get("failures", {})
            key = f"{trial.label} on {split}"
            if key in failures:
                return None
            try:
                recipe = read_recipe(trial.recipe, trial.label)
                answers = self._answered(trial.recipe, recipe, self._sets[split], split, {})
                with self._store.transaction():
                    self._store.record_answers(trial.trial, answers)
                    self._remember_batch_size()
            except CandidateFailure as failure:
                with self._store.transaction():
                    self._store.set("failures", {**failures, key: failure.reason})
                    self._remember_batch_size()
                return None
        return set_score(self._store, trial, split)

    def best_first(self, tried: Mapping[int, Whatever]) -> list[Whatever]:
        """What belongs to trials (by their numbers), the best on the search questions first; see `fitness.best_first`.

        Raises:
            RunFolderError: A constraint is a share of the host's score, and the host has none.
        """
        require_references(self._store, "search")
        return best_first(self._store, tried)

    def leave_out(self, rows: Mapping[str, str]) -> None:
        """Writes down which rows of the tables cannot be, with the reasons."""
        if self._store.get("left_out") is None:
            self._store.set("left_out", dict(rows))

    def _remember_batch_size(self) -> None:
        if self._live.batch_size != self._batch_size:
            remember_batch_size(self._store, self._live.batch_size)
            self._batch_size = self._live.batch_size

    def _merge(self, text: str, recipe: Recipe, seconds: dict[str, float]) -> None:
        if self._merged == text:
            return
        self._merged = None
        started = time.perf_counter()
        self._live.merge(recipe)
        seconds["merge"] = seconds.get("merge", 0.0) + time.perf_counter() - started
        self._merged = text
