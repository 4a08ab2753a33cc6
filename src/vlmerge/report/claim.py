"""What a run may claim: the winner's score on questions it never saw, against the best row that needed no search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from vlmerge.report.results import ALL, Difference, Row, is_hand_set
from vlmerge.statistics import LEVEL
from vlmerge.store import Split, Store

State = Literal[
    "running",
    "choosing",
    "choosing_on_search",
    "simplifying",
    "scoring",
    "exporting",
    "nothing",
    "no_claim",
    "contaminated",
    "claim",
]
GOING_ON: tuple[State, ...] = ("running", "choosing", "choosing_on_search", "simplifying", "scoring", "exporting")
"""States of a run that has not come to its end."""
Verdict = Literal["above", "level", "below", "unknown"]


@dataclass(frozen=True)
class Claim:
    """The headline of a run.

    Attributes:
        state: `claim`, or why there is none: the run goes on (search, election, holdout, export), nothing was elected, no
            holdout, a contaminated holdout.
        set: The set that the figures are of; None where nothing is scored yet.
        winner: The winner's row on it.
        name: The row that won: `mean`, `grid`, …; None before the election.
        baseline: The best hand-set row on the very same questions: the hardest one to beat, not the kindest.
        searched: The row of one freely searched weight per model.
    """

    state: State
    set: Split | None
    winner: Row | None
    name: str | None
    baseline: Row | None
    searched: Row | None


def read_claim(store: Store, rows: Sequence[Row], *, finished: bool) -> Claim:
    """Works out the headline from the rows.

    Args:
        store: The run's store.
        rows: All rows of it.
        finished: Whether the run has come to its end; before that there is no claim.
    """
    elected = any(row.candidate == "winner" for row in rows)
    shown = claim_set(store, rows, "winner" if elected else None)
    on_it = {row.candidate: row for row in rows if row.set == shown and row.task == ALL}
    by_hand = [row for name, row in on_it.items() if is_hand_set(name)]
    if not finished:
        state: State = _step(store)
    elif not elected:
        state = "nothing"
    elif shown != "holdout":
        state = "no_claim"
    else:
        state = "contaminated" if store.get("contaminated") else "claim"
    return Claim(
        state=state,
        set=shown,
        winner=on_it.get("winner"),
        name=_winning_row(store),
        baseline=max(by_hand, key=lambda row: row.score, default=None),
        searched=on_it.get("global"),
    )


def _step(store: Store) -> State:
    """What a run that goes on is at, from what its store holds so far."""
    if store.get("standing") is None:
        searched = sum(trial.kind == "searched" and trial.status != "racing" for trial in store.trials())
        if searched < int(store.get("budget") or searched + 1):
            return "running"
        return "choosing" if store.tasks("validation") else "choosing_on_search"
    if not (store.get("simplified") or {"done": True})["done"]:
        return "simplifying"
    trials = set(cast(Mapping[str, int], store.get("standing")).values())
    left = store.tasks("holdout") and not all(store.has_answers(trial, "holdout") for trial in trials)
    return "scoring" if left else "exporting"


def _winning_row(store: Store) -> str | None:
    """The row whose trial won; of several, the one that needs the least explaining."""
    rows = cast(Mapping[str, int], store.get("standing") or {})
    same = [row for row, trial in rows.items() if row != "winner" and trial == rows.get("winner")]
    return min(same, key=lambda row: not is_hand_set(row), default=None)


def claim_set(store: Store, rows: Sequence[Row], candidate: str | None) -> Split | None:
    """The freshest set on which `candidate` (None: anyone) has a row: holdout, then validation, then search."""
    scored = {row.set for row in rows if candidate in (None, row.candidate)}
    order: tuple[Split, ...] = ("holdout", "validation", "search")
    return next((split for split in order if split in scored and store.tasks(split)), None)


def verdict(difference: Difference | None) -> Verdict:
    """Whether the winner is told apart from a row: by the p-value that is adjusted for all comparisons beside it."""
    if difference is None or difference.p is None:
        return "unknown"
    if difference.p >= 1 - LEVEL:
        return "level"
    return "above" if difference.mean > 0 else "below"
