"""The election: who of candidates, mean and baselines is the winner. Validation decides; the holdout is not looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmerge.aims import bounds, objectives, violation
from vlmerge.errors import RunFolderError
from vlmerge.fitness import front, require_references
from vlmerge.standing import FRONT, finalists, leaders, rank
from vlmerge.store import Split, Store, Trial

if TYPE_CHECKING:
    from vlmerge.bench import Bench
    from vlmerge.watching import Watch


@dataclass(frozen=True)
class Standing:
    """Which trial stands in which row of the tables; `winner` is a row too, and one of the others."""

    rows: Mapping[str, int]

    @property
    def winner(self) -> int:
        """The winner's trial."""
        return self.rows["winner"]


def elect(store: Store, bench: Bench, watch: Watch, searched: int) -> Standing:
    """Scores the finalists on validation and picks the best; without validation the search's own score picks.

    Finalists are the best searched candidates, each stage's mean, and of each hand-set row its best on the search questions.
    Ties go to what needs less explaining: the hand-set rows, then the means, then the candidates by their search scores. The
    best candidate has a row of its own, `best`; another one has a row, `best:2` and so on, if it is the winner. Who breaks a
    constraint on these questions wins only where everybody does: then who breaks them least.

    Of a run with objectives the front's members are finalists, too, and one of them wins: the one with the best weighted sum.

    Args:
        store: The run's store.
        bench: Asks the validation questions.
        watch: Who is told.
        searched: How many of the searched candidates stand for election.

    Raises:
        RunFolderError: Nothing of the whole run has a score; or a bound is a share of the host's, and the host has none.
    """
    stored = store.get("standing")
    if stored is not None:
        return Standing(stored)
    members = front(store) if objectives(store) else []
    standing = _standing(store, 1 if members else searched)
    standing |= _members(store, members, standing)
    split: Split = "validation" if store.tasks("validation") else "search"
    scores: dict[str, float] = {}
    with watch.step(f"election on {split}", len(standing)):
        for row, trial in standing.items():
            score = bench.score(trial, split)
            watch.tried(trial, score)
            if score is not None:
                scores[row] = score
    if not scores:
        raise RunFolderError(
            "every candidate of this run failed",
            where=str(store.path.parent),
            found="; ".join(dict.fromkeys(trial.reason or "no answers" for trial in store.trials()))[:300],
            remedy="ask `vlmerge check` about the models, and `vlmerge ask` whether the host alone answers",
        )
    require_references(store, split)
    may_win = [row for row in scores if not members or standing[row].trial in members] or list(scores)
    held_to = bounds(store, split)
    ranks = {row: rank(store, standing[row], held_to) or 0.0 for row in may_win}
    winner = max(ranks, key=lambda row: ranks[row])
    if violation(store, standing[winner].trial, held_to):
        watch.say(f"no finalist keeps every constraint on {split}: the winner is the one that breaks them least")
    shown = {row: trial.trial for row, trial in standing.items() if row == winner or _has_a_row(row, scores)}
    rows = {"winner": standing[winner].trial, **shown}
    with store.transaction():
        store.set("standing", rows)
        store.set("finalists", {row: trial.trial for row, trial in standing.items()})
        if members:
            store.set("front", members)
        store.set("elected_on", split)
    return Standing(rows)


def _has_a_row(row: str, scores: Mapping[str, float]) -> bool:
    """Whether a finalist that did not win stands in the tables: of the searched ones the best, and a front's that answered."""
    return not row.startswith("best:") and (row in scores or not row.startswith(FRONT))


def _members(store: Store, members: Sequence[int], standing: Mapping[str, Trial]) -> dict[str, Trial]:
    """A row, `front:TRIAL`, for each of a front's members that stands in none yet."""
    known = {trial.trial for trial in standing.values()}
    trials = [trial for trial in store.trials() if trial.trial in members and trial.trial not in known]
    return {f"{FRONT}{trial.trial}": trial for trial in trials}


def _standing(store: Store, searched: int) -> dict[str, Trial]:
    """Row → trial, in the order in which ties are decided."""
    best = leaders(store, searched=False)
    late = {"global": 1, "mean": 2}
    order = sorted(best, key=lambda row: (late.get(row.partition(":")[0], 0), best[row][1].trial))
    return {**{row: best[row][1] for row in order}, **finalists(store, searched)}
