"""What a trial scores on a set, and which row of the tables it stands in: the same for search, election and page."""

from __future__ import annotations

import math

from vlmerge.aims import Bounds, bounds, violation
from vlmerge.store import Split, Store, Trial
from vlmerge.task_weights import weighted_sum
from vlmerge.trial_means import task_means

FRONT = "front:"
"""Before the number of a trial: the row of a front's member."""


def row_of(label: str) -> str:
    """The row that a hand-set merge or a mean stands in, by its trial's label.

    `grid@0.4` and `swap_scaled:NAME@1.13` are tries of one row each; NAME may have an @ of its own.
    """
    row, at, number = label.rpartition("@")
    tried = at and row.partition(":")[0] in ("grid", "swap_scaled") and number.replace(".", "").isdigit()
    return row if tried else label


def set_score(store: Store, trial: Trial, split: Split) -> float | None:
    """A trial's score on a set, 0 to 1: the mean of its task means by weight, tasks of weight 0 left out.

    Of a task whose weight is below 0 less is better: 1 − mean counts, by the weight without its sign.

    Returns:
        None where the trial failed, has no answers on the set (or a race asked it a part of it alone), or none of the set's
        tasks counts.
    """
    if trial.status == "failed" or (split == "search" and not trial.is_whole):
        return None
    means = task_means(store, trial.trial, split)
    weights = {task.task: task.weight for task in store.tasks(split) if task.weight and task.task in means}
    return weighted_sum(weights, means) / math.fsum(map(abs, weights.values())) if weights else None


def rank(store: Store, trial: Trial, held_to: Bounds) -> float | None:
    """What orders trials on a set: the score of one that keeps the run's constraints there, minus the violation of another.

    Args:
        store: The run's store.
        trial: Who is ranked.
        held_to: The constraints on the set (`aims.bounds`).

    Returns:
        None where there is no score (see `set_score`).
    """
    score = set_score(store, trial, held_to.split)
    broken = 0.0 if score is None else violation(store, trial.trial, held_to)
    return -broken if broken else score


def estimates(store: Store) -> dict[int, float]:
    """Searched trial → what the optimizer was told of it, of those that were asked all that their generation was asked.

    In a search whose questions rotate this is an estimate of the score on all search questions, else that score.
    """
    told = {
        (one.stage, one.generation, place): score
        for one in store.generations()
        for place, score in enumerate(one.fitness or ())
        if isinstance(score, float | int)
    }
    found: dict[int, float] = {}
    for trial in store.trials():
        if trial.kind == "searched" and trial.status in ("scored", "sampled") and trial.position is not None:
            score = told.get((trial.stage or 0, trial.generation or 0, trial.position))
            if score is not None:
                found[trial.trial] = score
    return found


def leaders(store: Store, *, searched: bool) -> dict[str, tuple[float, Trial]]:
    """Row → its best trial on the search questions with its rank, in the order of the trials; ties go to the earlier one.

    Who keeps the run's constraints comes first: see `rank`.

    Args:
        store: The run's store.
        searched: Whether the best searched candidate is wanted too, as the row `best`.
    """
    found: dict[str, tuple[float, Trial]] = {}
    held_to = bounds(store, "search")
    for trial in store.trials():
        if trial.kind not in ("baseline", "mean", *(["searched"] if searched else [])):
            continue
        row = "best" if trial.kind == "searched" else row_of(trial.label)
        value = rank(store, trial, held_to)
        if value is not None and (row not in found or value > found[row][0]):
            found[row] = (value, trial)
    return found


def finalists(store: Store, count: int) -> dict[str, Trial]:
    """The best searched candidates on the search questions as rows: `best`, `best:2`, … No merge twice, ties to the earlier.

    Args:
        store: The run's store.
        count: How many at most.
    """
    scored: list[tuple[float, Trial]] = []
    held_to = bounds(store, "search")
    for trial in store.trials():
        value = rank(store, trial, held_to) if trial.kind == "searched" else None
        if value is not None:
            scored.append((value, trial))
    alone: dict[str, Trial] = {}
    for _, trial in sorted(scored, key=lambda pair: -pair[0]):
        alone.setdefault(trial.recipe, trial)
    chosen = list(alone.values())[:count]
    return {"best" if place == 1 else f"best:{place}": trial for place, trial in enumerate(chosen, start=1)}
