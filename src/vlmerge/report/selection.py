"""How much of the best candidate's search score is selection: what it loses on fresh questions beyond what hand-set rows lose.

The best of many noisy scores is too high on the questions that chose it, and only there. Fresh questions may also be harder or
easier as a whole; rows that nothing chose show by how much, so that the difference of the two losses is what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlmerge.report.results import ALL, Row, is_hand_set
from vlmerge.store import Split


@dataclass(frozen=True)
class Selection:
    """Of the searched candidate with the best search score, in points of 100.

    Attributes:
        trial: Its trial.
        search: Its score on the questions that were searched.
        set: Where it was asked fresh questions.
        fresh: Its score there.
        by_hand: What hand-set rows lose from the one set to the other, on average; None where there is no such row. Rows that
            are the best of several tries were chosen too, and do not count.
        bias: search − fresh − by_hand: the part that selection explains; None without `by_hand`.
    """

    trial: int
    search: float
    set: Split
    fresh: float
    by_hand: float | None
    bias: float | None


CHOSEN = ("grid", "swap_scaled")
"""Hand-set rows that are the best of several tries on the search questions."""


def selection(rows: Sequence[Row], fresh: Split | None) -> Selection | None:
    """Works it out from the rows of a run.

    Args:
        rows: All rows of it.
        fresh: The freshest set that was scored; None or `search`: there is nothing to compare with.

    Returns:
        None where the best candidate was asked no fresh questions.
    """
    if fresh is None or fresh == "search":
        return None
    by_set = {(row.candidate, row.set): row for row in rows if row.task == ALL}
    searched, seen = by_set.get(("best", "search")), by_set.get(("best", fresh))
    if searched is None or seen is None:
        return None
    unchosen = [row for row in by_set.values() if is_hand_set(row.candidate) and row.candidate.partition(":")[0] not in CHOSEN]
    lost = [
        row.score - other.score
        for row in unchosen
        if row.set == "search" and (other := by_set.get((row.candidate, fresh))) is not None
    ]
    by_hand = round(float(np.mean(lost)), 4) + 0.0 if lost else None
    bias = None if by_hand is None else round(searched.score - seen.score - by_hand, 4) + 0.0
    return Selection(searched.trial, searched.score, fresh, seen.score, by_hand, bias)
