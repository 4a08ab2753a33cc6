"""What became of a run's constraints: of each, the bound, what the winner has on every set, and whether that holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vlmerge.aims import bounds, constraints, kept, references_needed, violation
from vlmerge.aims.constraints import asks, judged
from vlmerge.statistics import Floats, Integers, interval, resampled_task_means
from vlmerge.store import SPLITS, Split, Store

if TYPE_CHECKING:
    from vlmerge.config.aim_blocks import ConstraintSpec


@dataclass(frozen=True)
class Keeping:
    """One constraint of the winner on one set. Figures are points of 100, or per cent.

    Attributes:
        task: Whose questions; None: all tasks that count.
        language: Whose writing system, where answers are bounded; None: a score is.
        of: `host` or `start` where the figures are shares of its score on the same questions.
        side: `at_least` or `at_most`.
        bound: The figure that bounds.
        set: The set.
        value: What the winner has; None where that one scores nothing, so that there is no share of it.
        low, high: Ends of its interval (paired with that one's draws where `of` is); None where one picture gives no spread.
        score: The winner's score (or share of answers) itself.
        held: Whether the value is within the bound.
    """

    task: str | None
    language: str | None
    of: str | None
    side: str
    bound: float
    set: Split
    value: float | None
    low: float | None
    high: float | None
    score: float
    held: bool


def keeping(store: Store, places: Mapping[str, int]) -> tuple[Keeping, ...]:
    """Every constraint on every set that the winner was asked, in the run file's order, the freshest set first; none before the
    election.

    Args:
        store: The run's store.
        places: Candidate → trial.
    """
    winner = places.get("winner")
    if winner is None or not constraints(store):
        return ()
    references = {trial.label: trial.trial for of in references_needed(store) if (trial := store.trial(of)) is not None}
    on_set = {split: kept(store, winner, bounds(store, split)) for split in SPLITS}
    return tuple(
        _one(store, one.constraint, split, winner, references.get(constraint.of or ""), held=not one.shortfall)
        for constraint in constraints(store)
        for split in reversed(SPLITS)
        for one in on_set[split]
        if one.constraint == constraint
    )


def outside(store: Store, places: Mapping[str, int], split: Split | None) -> frozenset[str]:
    """The candidates that break a constraint on a set."""
    if split is None or not constraints(store):
        return frozenset()
    held_to = bounds(store, split)
    return frozenset(name for name, trial in places.items() if violation(store, trial, held_to))


def _one(store: Store, constraint: ConstraintSpec, split: Split, winner: int, reference: int | None, *, held: bool) -> Keeping:
    counted = [task.task for task in store.tasks(split) if task.weight]
    questions = [one for one in store.questions(split) if one.task in asks(constraint, counted)]
    names = {group: at for at, group in enumerate(dict.fromkeys(one.group for one in questions))}
    groups = np.array([names[one.group] for one in questions], dtype=np.int64)
    values = np.stack([_values(store, constraint, split, trial, counted) for trial in (winner, reference) if trial is not None])
    means, drawn = values.mean(axis=1), _drawn(values, groups)
    if constraint.of is None:
        span = interval(float(means[0]), drawn[:, 0], len(names)).scaled(100)
        value: float | None = span.mean
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = drawn[:, 0] / drawn[:, 1]
        ratio[~np.isfinite(ratio)] = np.nan
        value = 100 * float(means[0] / means[1]) if means[1] > 0 else None
        span = interval(0.0 if value is None else value / 100, ratio, len(names)).scaled(100)
    known = value is not None
    return Keeping(
        task=constraint.task,
        language=constraint.language,
        of=constraint.of,
        side="at_least" if constraint.at_most is None else "at_most",
        bound=100 * constraint.bound,
        set=split,
        value=None if value is None else round(value, 4),
        low=round(span.low, 4) if known and span.low is not None else None,
        high=round(span.high, 4) if known and span.high is not None else None,
        score=round(100 * float(means[0]), 4),
        held=held,
    )


def _values(store: Store, constraint: ConstraintSpec, split: Split, trial: int, counted: list[str]) -> Floats:
    given = {(answer.task, answer.question): judged(constraint, answer) for answer in store.answers(trial, split)}
    asked = [one for one in store.questions(split) if one.task in asks(constraint, counted)]
    return np.array([given.get((one.task, one.question), np.nan) for one in asked], dtype=np.float64)


def _drawn(values: Floats, groups: Integers) -> Floats:
    """Draws × candidates: means of whole picture groups drawn with replacement."""
    one_task: Integers = np.zeros(len(groups), dtype=np.int64)
    return resampled_task_means(values, one_task, groups)[:, :, 0]
