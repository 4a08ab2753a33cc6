"""Whether a trial keeps a run's constraints on a set, and by how much it breaks them.

A constraint bounds the mean score of a task, or the share of answers in a language's writing system. `of: host` makes the bound
a share of what the host itself has on the very same questions, so that a harder set asks for less; `of: start`, of what the
recipe has that the search begins at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmerge.aims.wanted import constraints
from vlmerge.writing import is_written_in

if TYPE_CHECKING:
    from vlmerge.config.aim_blocks import ConstraintSpec
    from vlmerge.store import AnswerRecord, Split, Store


@dataclass(frozen=True)
class Kept:
    """One constraint, of one trial on one set. Figures are 0 to 1.

    Attributes:
        constraint: As the run says it.
        value: What the trial has: a task's mean score, or the share of answers in the language.
        bound: What it has to have: with `of` the share of the score that the host, or the start, has.
        shortfall: 0 where it is kept; else how far the value is from the bound, as a share of the way (0 to 1).
    """

    constraint: ConstraintSpec
    value: float
    bound: float
    shortfall: float


@dataclass(frozen=True)
class Bounds:
    """A run's constraints with their bounds on a set: read once where many trials are held to them.

    Attributes:
        split: The set.
        counted: Its tasks that count in the score.
        pairs: Each constraint with its bound there; those without one are left out.
    """

    split: Split
    counted: tuple[str, ...]
    pairs: tuple[tuple[ConstraintSpec, float], ...]


def bounds(store: Store, split: Split) -> Bounds:
    """Reads what the host, and the start, have answered on a set, where bounds are shares of their scores.

    Args:
        store: The run's store.
        split: The set.
    """
    wanted = constraints(store)
    if not wanted:
        return Bounds(split, (), ())
    references = {of: store.trial(of) for of in references_needed(store)}
    theirs = {of: [] if trial is None else store.answers(trial.trial, split) for of, trial in references.items()}
    counted = tuple(task.task for task in store.tasks(split) if task.weight)
    found = [(each, bound_of(each, theirs.get(each.of or "", ()), counted)) for each in wanted]
    return Bounds(split, counted, tuple((each, bound) for each, bound in found if bound is not None))


def kept(store: Store, trial: int, held_to: Bounds) -> list[Kept]:
    """Every constraint whose questions a trial was asked on a set, with its bound.

    Args:
        store: The run's store.
        trial: Number of the trial.
        held_to: The constraints on the set.
    """
    own = store.answers(trial, held_to.split) if held_to.pairs else []
    values = [(each, measured(each, own, held_to.counted), bound) for each, bound in held_to.pairs]
    return [Kept(each, value, bound, shortfall(each, value, bound)) for each, value, bound in values if value is not None]


def violation(store: Store, trial: int, held_to: Bounds) -> float:
    """The sum of a trial's shortfalls on a set; 0: it is feasible there."""
    return math.fsum(each.shortfall for each in kept(store, trial, held_to))


def references_needed(store: Store) -> tuple[str, ...]:
    """The rows of whose scores bounds are shares (`host`, `start`), so that a run cannot go on without them."""
    return tuple(dict.fromkeys(each.of for each in constraints(store) if each.of))


def judged(constraint: ConstraintSpec, answer: AnswerRecord) -> float:
    """What one answer adds to the mean that is bounded: its score, or whether it is in the language."""
    return answer.score if constraint.language is None else float(is_written_in(answer.text, constraint.language))


def asks(constraint: ConstraintSpec, counted: Sequence[str]) -> Sequence[str]:
    """The tasks whose questions a constraint is about; `counted` are those that count in the score."""
    return counted if constraint.task is None else (constraint.task,)


def measured(constraint: ConstraintSpec, answers: Sequence[AnswerRecord], counted: Sequence[str]) -> float | None:
    """The mean that is bounded; None where none of its questions was asked."""
    tasks = asks(constraint, counted)
    values = [judged(constraint, answer) for answer in answers if answer.task in tasks]
    return math.fsum(values) / len(values) if values else None


def bound_of(constraint: ConstraintSpec, reference: Sequence[AnswerRecord], counted: Sequence[str]) -> float | None:
    """The bound on a set; None where it is a share of the host's score, or the start's, which has none there."""
    if constraint.of is None:
        return constraint.bound
    score = measured(constraint, reference, counted)
    return None if score is None else constraint.bound * score


def shortfall(constraint: ConstraintSpec, value: float, bound: float) -> float:
    """How far a value is from its bound, as a share of the way from there to the worst there is."""
    if constraint.at_most is None:
        return max(0.0, (bound - value) / bound) if bound > 0 else 0.0
    return max(0.0, (value - bound) / (1 - bound)) if bound < 1 else 0.0
