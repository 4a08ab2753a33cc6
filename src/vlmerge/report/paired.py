"""Two trials on the same questions of a set: their difference, and what it would be with other pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlmerge.report.statistics import LEVEL, Floats, Interval, interval, resampled_task_means, task_means, weighted
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
    place = {task.task: number for number, task in enumerate(tasks)}
    asked = [question for question in store.questions(split) if question.task in place]
    groups = {group: number for number, group in enumerate(dict.fromkeys(question.group for question in asked))}
    rows: list[list[float]] = []
    for trial in (before, after):
        given = {(answer.task, answer.question): answer.score for answer in store.answers(trial, split)}
        rows.append([given[question.task, question.question] for question in asked])
    scores = np.array(rows, dtype=np.float64)
    of_task = np.array([place[question.task] for question in asked], dtype=np.int64)
    of_group = np.array([groups[question.group] for question in asked], dtype=np.int64)
    weights = np.array([task.weight for task in tasks], dtype=np.float64)
    means = weighted(task_means(scores, of_task), weights)
    drawn = weighted(resampled_task_means(scores, of_task, of_group), weights)
    differences = drawn[:, 1] - drawn[:, 0]
    return Paired(float(means[1] - means[0]), differences[~np.isnan(differences)], len(asked), len(groups))
