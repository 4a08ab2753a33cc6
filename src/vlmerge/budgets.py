"""Judges in a run: what each task may still ask, counted in the run's store; and what the whole run would ask."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vlmerge.store import SPLITS, Split, Store
from vlmerge.tasks.judge import Estimate, JudgedTask, Purse, estimate

if TYPE_CHECKING:
    from vlmerge.plan import Plan
    from vlmerge.tasks.sets import Asked, Sets

COUNTS = "judged"
"""Key of the store: task of a set → verdicts asked for so far."""


def with_purses(sets: Sets, store: Store) -> Sets:
    """The sets with judges whose verdicts are counted in the run's store, so that a budget holds for the whole run.

    A task that is cut into search and validation has one budget for both.
    """
    judged: dict[int, JudgedTask] = {}

    def counted(split: Split, asked: Asked) -> Asked:
        task = asked.task
        if not isinstance(task, JudgedTask):
            return asked
        if id(task) not in judged:
            judged[id(task)] = replace(task, purse=_purse(task, f"{split}: {task.name}", store))
        return replace(asked, task=judged[id(task)])

    parts = {split: tuple(counted(split, asked) for asked in sets[split]) for split in SPLITS}
    return replace(sets, **parts)


def require_keys(sets: Sets) -> None:
    """Raises EndpointError for a judge whose key is not there: at once, not after the first candidate."""
    for split in SPLITS:
        for asked in sets[split]:
            if isinstance(asked.task, JudgedTask):
                _ = asked.task.endpoint


def forecast(sets: Sets, plan: Plan) -> list[Estimate]:
    """What the judges of a run would be asked at most, set by set; verdicts on answers that were seen before cost nothing.

    Every trial is asked the search questions; validation, the hand-set rows, the means and the finalists; the holdout, the rows
    of the table, of which one may be a finalist's that was not the best in the search.
    """
    rows = len(plan.baselines) + len(plan.stages) + 1
    searched = plan.candidates + plan.baseline_merges + len(plan.stages)
    times = {"search": searched, "validation": rows + plan.finalists - 1, "holdout": rows + (plan.finalists > 1)}
    return [
        estimate(asked.task, asked.questions, times[split])
        for split in SPLITS
        for asked in sets[split]
        if isinstance(asked.task, JudgedTask)
    ]


def _purse(task: JudgedTask, key: str, store: Store) -> Purse:
    def remember(spent: int) -> None:
        store.set(COUNTS, {**store.get(COUNTS, {}), key: spent})

    return Purse(task.judge.budget, store.get(COUNTS, {}).get(key, 0), remember)
