"""What a trial scores on each task of a set: what every score is made of."""

from __future__ import annotations

import math

from vlmerge.store import Split, Store


def task_means(store: Store, trial: int, split: Split) -> dict[str, float]:
    """Task → mean of its scores, 0 to 1, of those that a trial was asked, in the order of its answers."""
    by_task: dict[str, list[float]] = {}
    for answer in store.answers(trial, split):
        by_task.setdefault(answer.task, []).append(answer.score)
    # Exact sums: the order of questions cannot change a score.
    return {task: math.fsum(scores) / len(scores) for task, scores in by_task.items()}
