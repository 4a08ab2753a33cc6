"""What a trial scores on each of a run's objectives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from vlmerge.aims.wanted import objectives
from vlmerge.task_weights import weighted_sum
from vlmerge.trial_means import task_means

if TYPE_CHECKING:
    from vlmerge.config.aim_blocks import ObjectiveSpec
    from vlmerge.store import Split, Store

__all__ = ["objective_scores", "objectives", "shares"]


def shares(objective: ObjectiveSpec) -> dict[str, float]:
    """Task → its part of the objective; the parts without their signs sum to 1."""
    whole = math.fsum(abs(weight) for weight in objective.tasks.values())
    return {task: weight / whole for task, weight in objective.tasks.items() if weight}


def objective_scores(store: Store, trial: int, split: Split) -> tuple[float, ...] | None:
    """One number for each objective, 0 to 1, higher is better; None where a task of one was not asked.

    Args:
        store: The run's store.
        trial: Number of the trial.
        split: The set.
    """
    means = task_means(store, trial, split)
    found: list[float] = []
    for objective in objectives(store):
        parts = shares(objective)
        if any(task not in means for task in parts):
            return None
        found.append(weighted_sum(parts, means))
    return tuple(found)
