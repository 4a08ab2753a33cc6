"""Judges in a run: what each may still be asked, counted in the run's store; and what the whole run would ask."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vlmerge.config.judge_block import budgets_of
from vlmerge.store import SPLITS, Store
from vlmerge.tasks.judge import Estimate, JudgedTask, estimate, together
from vlmerge.tasks.purse import Purse

if TYPE_CHECKING:
    from vlmerge.plan import Plan
    from vlmerge.tasks.sets import Asked, Sets

COUNTS = "judged"
"""Key of the store: judge → verdicts asked for so far."""


def with_purses(sets: Sets, store: Store) -> Sets:
    """The sets with judges whose verdicts are counted in the run's store: a budget holds for the whole run.

    One judge has one budget, whatever tasks of whatever sets it judges.
    """
    budgets = budgets_of(asked.task.judge for split in SPLITS for asked in sets[split] if isinstance(asked.task, JudgedTask))
    purses = {who: _purse(who, budget, store) for who, budget in budgets.items()}

    def counted(asked: Asked) -> Asked:
        task = asked.task
        return replace(asked, task=replace(task, purse=purses[task.judge.who])) if isinstance(task, JudgedTask) else asked

    return replace(sets, **{split: tuple(map(counted, sets[split])) for split in SPLITS})


def require_keys(sets: Sets) -> None:
    """Raises EndpointError for a judge whose key is not there: at once, not after the first candidate."""
    for split in SPLITS:
        for asked in sets[split]:
            if isinstance(asked.task, JudgedTask):
                _ = asked.task.endpoint


def forecast(sets: Sets, plan: Plan) -> list[Estimate]:
    """What each judge of a run would be asked at most, in all sets; verdicts on answers that were seen before cost nothing.

    Every trial is asked the search questions; validation, the hand-set rows, the means and the finalists; the holdout, the rows
    of the table, of which one may be a finalist's that was not the best in the search. With objectives all members of the front
    are asked both.
    """
    rows = len(plan.baselines) + len(plan.stages) + 1
    times = {
        "search": plan.candidates + plan.baseline_merges + len(plan.stages),
        "validation": rows + (plan.front or plan.finalists - 1) + plan.simpler,
        "holdout": rows + (plan.front or plan.finalists > 1) + bool(plan.simpler),
    }
    return together(
        estimate(asked.task, asked.questions, times[split])
        for split in SPLITS
        for asked in sets[split]
        if isinstance(asked.task, JudgedTask)
    )


def _purse(who: str, budget: int | None, store: Store) -> Purse:
    def remember(spent: int) -> None:
        store.set(COUNTS, {**store.get(COUNTS, {}), who: spent})

    return Purse(budget, store.get(COUNTS, {}).get(who, 0), remember)
