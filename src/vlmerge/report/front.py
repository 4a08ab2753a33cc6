"""The front of a run with objectives: its points on every set, with what was tried beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from vlmerge.aims import dominates, objectives, shares
from vlmerge.fitness import aims_of, front_of
from vlmerge.score_matrix import score_matrix
from vlmerge.standing import row_of, set_score
from vlmerge.statistics import Interval, interval, resampled_task_means, rounded, task_means, weighted
from vlmerge.store import SPLITS, Split, Store, Trial


@dataclass(frozen=True)
class OnSet:
    """A point on one set, in points of 100.

    Attributes:
        scores: One for each objective, with its interval.
        score: The weighted sum of the tasks, as in every table; None where no task counts.
        undominated: Whether no other point of the front beats it in every objective on this set.
    """

    scores: tuple[Interval, ...]
    score: float | None
    undominated: bool


@dataclass(frozen=True)
class FrontMember:
    """One point.

    Attributes:
        trial: Its trial, which `vlmerge export` takes.
        label: The trial's label.
        row: The row of the tables that it is as a hand-set merge; None where no row stands for it.
        winner: Whether it won.
        on: What it scores on each set that it was asked.
    """

    trial: int
    label: str
    row: str | None
    winner: bool
    on: Mapping[Split, OnSet]


@dataclass(frozen=True)
class Front:
    """What no other candidate beats in every objective, on the search questions.

    Attributes:
        objectives: Names of the axes.
        members: In the order of the first objective.
        tried: Objectives of every trial on the search questions, in points of 100; those that break a constraint left out.
        by_hand: Trial → row, of the hand-set merges among them.
        shown: The freshest set that the members were asked.
    """

    objectives: tuple[str, ...]
    members: tuple[FrontMember, ...]
    tried: Mapping[int, tuple[float, ...]]
    by_hand: Mapping[int, str]
    shown: Split

    def plain(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "objectives": list(self.objectives),
            "points": [
                {
                    "trial": member.trial,
                    "label": member.label,
                    "winner": member.winner,
                    "sets": {
                        split: {
                            "scores": {
                                name: {"score": rounded(one.mean), "low": rounded(one.low), "high": rounded(one.high)}
                                for name, one in zip(self.objectives, found.scores, strict=True)
                            },
                            "all": rounded(found.score),
                            "undominated": found.undominated,
                        }
                        for split, found in member.on.items()
                    },
                }
                for member in self.members
            ],
        }


def _row(trial: Trial, places: Mapping[str, int]) -> str | None:
    row = row_of(trial.label)
    return row if trial.kind == "baseline" and places.get(row) == trial.trial else None


def read_front(store: Store, places: Mapping[str, int]) -> Front | None:
    """The run's front: as it was elected on, or, while the search goes on, as it is by now.

    Args:
        store: The run's store.
        places: Candidate → trial.

    Returns:
        None of a run with one score, and before anything has a score.
    """
    axes = objectives(store)
    if not axes:
        return None
    aims = aims_of(store)
    stored = cast("list[int] | None", store.get("front"))
    numbers = front_of(aims) if stored is None else stored
    if not numbers:
        return None
    trials = {trial.trial: trial for trial in store.trials()}
    on_set: dict[Split, dict[int, OnSet]] = {split: _on_set(store, split, numbers, trials) for split in SPLITS}
    members = tuple(
        FrontMember(
            trial=number,
            label=trials[number].label,
            row=_row(trials[number], places),
            winner=places.get("winner") == number,
            on={split: on_set[split][number] for split in SPLITS if number in on_set[split]},
        )
        for number in numbers
    )
    return Front(
        objectives=tuple(axis.name for axis in axes),
        members=members,
        tried={number: tuple(100 * one for one in own) for number, own in aims.items() if min(own) >= 0},
        by_hand={number: row_of(trials[number].label) for number in aims if trials[number].kind == "baseline"},
        shown=next(split for split in reversed(SPLITS) if on_set[split]),
    )


def _on_set(store: Store, split: Split, numbers: Sequence[int], trials: Mapping[int, Trial]) -> dict[int, OnSet]:
    """Trial → what it scores; nothing of a set that does not ask every objective's tasks."""
    tasks = store.tasks(split)
    place = {task.task: at for at, task in enumerate(tasks)}
    asked = [number for number in numbers if store.has_answers(number, split)]
    parts = [shares(axis) for axis in objectives(store)]
    if not asked or any(task not in place for each in parts for task in each):
        return {}
    scores, task_of, group_of = score_matrix(store, split, tasks, asked)
    means, drawn = task_means(scores, task_of), resampled_task_means(scores, task_of, group_of)
    found: dict[int, list[Interval]] = {number: [] for number in asked}
    for each in parts:
        weights = np.array([each.get(task.task, 0.0) for task in tasks], dtype=np.float64)
        groups = len(np.unique(group_of[np.isin(task_of, [place[task] for task in each])]))
        own, spread = weighted(means, weights), weighted(drawn, weights)
        for at, number in enumerate(asked):
            found[number].append(interval(float(own[at]), spread[:, at], groups).scaled(100))
    aims = {number: tuple(one.mean for one in each) for number, each in found.items()}
    sums = {number: set_score(store, trials[number], split) for number in asked}
    return {
        number: OnSet(
            scores=tuple(found[number]),
            score=None if (own := sums[number]) is None else 100 * own,
            undominated=not any(dominates(other, aims[number]) for other in aims.values()),
        )
        for number in asked
    }
