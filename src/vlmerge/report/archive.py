"""An archive of diverse good trials, after CycleQD (Kuroki et al., 2024): merges of diverse winners are good parents.

Each task is the quality once, and the others are what trials differ in: their scores are cut into equal bins, and of each cell
of bins the trial that is best at the quality is kept. From search scores that are there already: nothing is asked for it, and
nothing is claimed of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlmerge.aims import bounds, violation
from vlmerge.store import Store
from vlmerge.trial_means import task_means

BINS = {1: 5, 2: 3}
"""Bins of each task, by how many tasks trials are told apart; with more of them 2."""


@dataclass(frozen=True)
class Cell:
    """The best of one cell. Scores are points of 100, on the search questions.

    Attributes:
        task: What it is best at.
        within: Other task → ends of the bin that it lies in.
        trial: Its trial.
        label: The trial's label.
        scores: Task → score.
    """

    task: str
    within: Mapping[str, tuple[float, float]]
    trial: int
    label: str
    scores: Mapping[str, float]

    def plain(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "task": self.task,
            "within": {task: [round(end, 4) for end in ends] for task, ends in self.within.items()},
            "trial": self.trial,
            "label": self.label,
            "scores": {task: round(score, 4) for task, score in self.scores.items()},
        }


def archive(store: Store) -> tuple[Cell, ...]:
    """The archive over a run's tasks, task by task and from low bins to high ones; nothing of a run with one task.

    Trials that break a constraint are left out. Of a task whose weight is below 0 the best is the lowest.

    Args:
        store: The run's store.
    """
    listed = store.tasks("search")
    tasks = [task.task for task in listed]
    better = {task.task: -1 if task.weight < 0 else 1 for task in listed}
    if len(tasks) < 2:
        return ()
    trials = [trial for trial in store.trials() if trial.status == "scored"]
    labels = {trial.trial: trial.label for trial in trials}
    means = {
        trial.trial: {task: 100 * mean for task, mean in task_means(store, trial.trial, "search").items()} for trial in trials
    }
    held_to = bounds(store, "search")
    known = {number: own for number, own in means.items() if len(own) == len(tasks) and not violation(store, number, held_to)}
    if not known:
        return ()
    bins = BINS.get(len(tasks) - 1, 2)
    ends = {task: _ends([own[task] for own in known.values()], bins) for task in tasks}
    found: list[Cell] = []
    for quality in tasks:
        others = [task for task in tasks if task != quality]
        cells: dict[tuple[int, ...], int] = {}
        for number, own in known.items():
            cell = tuple(_bin(own[task], ends[task]) for task in others)
            best = cells.get(cell)
            if best is None or better[quality] * (own[quality] - known[best][quality]) > 0:
                cells[cell] = number
        for cell, number in sorted(cells.items()):
            within = {task: (ends[task][at], ends[task][at + 1]) for task, at in zip(others, cell, strict=True)}
            found.append(Cell(quality, within, number, labels[number], known[number]))
    return tuple(found)


def _ends(scores: list[float], bins: int) -> list[float]:
    low, high = min(scores), max(scores)
    return [low + (high - low) * at / bins for at in range(bins)] + [high]


def _bin(score: float, ends: list[float]) -> int:
    return max(at for at in range(len(ends) - 1) if at == 0 or score >= ends[at])
