"""Two trials on the same questions of a set: their difference, and what it would be with other pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlmerge.score_matrix import score_matrix
from vlmerge.statistics import LEVEL, Floats, Interval, interval, resampled_task_means, task_means, weighted
from vlmerge.store import Split, Store


@dataclass(frozen=True)
class Paired:
    """Later minus earlier, by the tasks that count, in shares of 1.

    Attributes:
        difference: On the questions as they are.
        drawn: One difference for each draw of whole picture groups; draws without a question of some task are left out.
        questions: How many were asked.
        pictures: Picture groups among them.
    """

    difference: float
    drawn: Floats
    questions: int
    pictures: int

    def points(self, level: float = LEVEL) -> Interval:
        """The difference with its two-sided interval, in points of 100."""
        return interval(self.difference, self.drawn, self.pictures, level).scaled(100.0)

    @property
    def better(self) -> float:
        """Share of the draws in which the later one is better."""
        return float((self.drawn > 0).mean()) if len(self.drawn) else 0.0


def paired(store: Store, split: Split, before: int, after: int) -> Paired:
    """Compares two trials that were asked a set.

    Args:
        store: The run's store.
        split: The set; some task of it counts.
        before: Number of the earlier trial.
        after: Number of the later one.
    """
    tasks = [task for task in store.tasks(split) if task.weight]
    scores, of_task, of_group = score_matrix(store, split, tasks, (before, after))
    if np.isnan(scores).any():
        raise KeyError(f"trials {before} and {after} were not asked all questions of {split}")
    weights = np.array([task.weight for task in tasks], dtype=np.float64)
    means = weighted(task_means(scores, of_task), weights)
    drawn = weighted(resampled_task_means(scores, of_task, of_group), weights)
    differences = drawn[:, 1] - drawn[:, 0]
    return Paired(float(means[1] - means[0]), differences[~np.isnan(differences)], len(of_group), int(of_group.max()) + 1)
