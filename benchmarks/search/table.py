"""What the runs of a comparison scored: read out of their stores, seed by seed, with paired intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlmerge.standing import set_score
from vlmerge.statistics import Interval, mean_interval
from vlmerge.store import Split, Store

HAND_SET = ("host", "equal", "grid", "swap:ja", "swap_scaled:ja", "chat_vector:ja")


@dataclass(frozen=True)
class Scored:
    """What one row of one run scored, question by question.

    Attributes:
        scores: Question → score, 0 to 1.
        groups: Question → digest of its picture.
    """

    scores: Mapping[str, float]
    groups: Mapping[str, str]

    @property
    def mean(self) -> float:
        """In points of 100."""
        return 100 * statistics.fmean(self.scores.values())


@dataclass(frozen=True)
class Line:
    """A setting in the table, means over seeds in points of 100.

    Attributes:
        title: Of the setting and row.
        seeds: How many runs.
        genes: Of the last stage.
        asked: Questions asked in the search, candidates × search questions, baselines left out.
        search, validation, holdout: Scores of the row.
        difference: Against the reference on the holdout, paired by seed and question; its interval is over pictures.
        error: Standard error of that difference over seeds; None of one seed.
        chosen: Against the reference setting's own row on validation, where defaults are chosen: mean, and its standard error.
    """

    title: str
    seeds: int
    genes: int
    asked: float
    search: float
    validation: float
    holdout: float
    difference: Interval | None
    error: float | None
    chosen: tuple[float, float | None]


def scored(folder: Path, row: str, split: Split) -> Scored | None:
    """A finished run's row; None where it has none."""
    with Store.read_only(folder / "run.sqlite") as store:
        trial = (store.get("standing") or {}).get(row)
        if trial is None:
            return None
        groups = {one.question: "".join(one.pictures) or one.question for one in store.questions(split)}
        answers = {one.question: one.score for one in store.answers(int(trial), split)}
    return Scored(answers, groups) if answers else None


def line(
    title: str, folders: Sequence[Path], row: str, against: Sequence[Path], other: str, reported: str = "winner"
) -> Line | None:
    """One row of a setting.

    Args:
        title: For the table.
        folders: Its runs, seed by seed.
        row: Which row of them.
        against: Runs of the same seeds that hold the reference.
        other: The reference's row.
        reported: The row that the reference setting reports.
    """
    rows = {split: [scored(folder, row, split) for folder in folders] for split in ("search", "validation", "holdout")}
    found = {split: [each for each in each_split if each is not None] for split, each_split in rows.items()}
    if not folders or any(len(each) < len(folders) for each in found.values()):
        return None
    references = [scored(folder, other, "holdout") for folder in against]
    pairs = [(one, two) for one, two in zip(found["holdout"], references, strict=True) if two is not None]
    difference, error = None, None
    if len(pairs) == len(folders):
        by_seed = [one.mean - two.mean for one, two in pairs]
        error = _error(by_seed)
        difference = _paired(pairs)
    means = {split: statistics.fmean(each.mean for each in scores) for split, scores in found.items()}
    validated = [scored(folder, reported, "validation") for folder in against]
    gained = [one.mean - two.mean for one, two in zip(found["validation"], validated, strict=True) if two is not None]
    costs = [_cost(folder) for folder in folders]
    return Line(
        title,
        len(folders),
        costs[0][0],
        statistics.fmean(cost for _, cost in costs),
        **means,
        difference=difference,
        error=error,
        chosen=(statistics.fmean(gained), _error(gained)),
    )


def curve(folder: Path) -> list[tuple[int, float]]:
    """(questions asked, best score on the search questions so far in points of 100), candidate after candidate."""
    with Store.read_only(folder / "run.sqlite") as store:
        asked, best, points = 0, -math.inf, list[tuple[int, float]]()
        for trial in store.trials():
            if trial.kind != "searched":
                continue
            asked += len(store.answers(trial.trial, "search"))
            score = set_score(store, trial, "search")
            best = best if score is None else max(best, 100 * score)
            points.append((asked, best))
    return points


def markdown(lines: Sequence[Line]) -> str:
    """The table as it stands in the docs."""
    head = [
        "| search | genes | questions asked | search | validation | against the default there | unseen artist |"
        " against one weight per model |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(_cells(each) for each in lines)])


def _cells(line: Line) -> str:
    difference = "–"
    if line.difference is not None:
        span = "" if line.difference.low is None else f" [{line.difference.low:+.1f}, {line.difference.high:+.1f}]"
        error = "" if line.error is None else f" ± {line.error:.1f}"
        difference = f"{line.difference.mean:+.1f}{error}{span}"
    gained, error = line.chosen
    chosen = f"{gained:+.1f}" + ("" if error is None else f" ± {error:.1f}")
    numbers = f"{line.search:.1f} | {line.validation:.1f} | {chosen} | {line.holdout:.1f} | {difference}"
    return f"| {line.title} | {line.genes or '–'} | {line.asked:,.0f} | {numbers} |"


def _error(by_seed: Sequence[float]) -> float | None:
    return statistics.stdev(by_seed) / math.sqrt(len(by_seed)) if len(by_seed) > 1 else None


def _paired(pairs: Sequence[tuple[Scored, Scored]]) -> Interval:
    """Mean over seeds of the difference on each question; resampled by picture."""
    shared = [question for question in pairs[0][0].scores if all(question in each.scores for pair in pairs for each in pair)]
    differences = np.array(
        [statistics.fmean(one.scores[question] - two.scores[question] for one, two in pairs) for question in shared]
    )
    _, groups = np.unique([pairs[0][0].groups[question] for question in shared], return_inverse=True)
    return mean_interval(differences, groups.astype(np.int64)).scaled(100)


def _cost(folder: Path) -> tuple[int, float]:
    """Genes of the last stage, and questions that searched candidates answered."""
    with Store.read_only(folder / "run.sqlite") as store:
        searched = [trial for trial in store.trials() if trial.kind == "searched"]
        genes = len(searched[-1].genome or ()) if searched else 0
        return genes, float(sum(len(store.answers(trial.trial, "search")) for trial in searched))
