"""The election: who of candidates, mean and baselines is the winner. Validation decides; the holdout is not looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmerge.errors import RunFolderError
from vlmerge.standing import finalists, leaders
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
    best candidate has a row of its own, `best`; another one has a row, `best:2` and so on, if it is the winner.

    Args:
        store: The run's store.
        bench: Asks the validation questions.
        watch: Who is told.
        searched: How many of the searched candidates stand for election.

    Raises:
        RunFolderError: Nothing of the whole run has a score.
    """
    stored = store.get("standing")
    if stored is not None:
        return Standing(stored)
    standing = _standing(store, searched)
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
    winner = max(scores, key=lambda row: scores[row])
    shown = {row: trial.trial for row, trial in standing.items() if row == winner or not row.startswith("best:")}
    rows = {"winner": standing[winner].trial, **shown}
    with store.transaction():
        store.set("standing", rows)
        store.set("finalists", {row: trial.trial for row, trial in standing.items()})
        store.set("elected_on", split)
    return Standing(rows)


def _standing(store: Store, searched: int) -> dict[str, Trial]:
    """Row → trial, in the order in which ties are decided."""
    best = leaders(store, searched=False)
    late = {"global": 1, "mean": 2}
    order = sorted(best, key=lambda row: (late.get(row.partition(":")[0], 0), best[row][1].trial))
    return {**{row: best[row][1] for row in order}, **finalists(store, searched)}
