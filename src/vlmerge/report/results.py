"""The rows of a run: every candidate on every set and task, with its interval and its paired distance from the winner."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from vlmerge.atomic import write_text
from vlmerge.report.saved import saved
from vlmerge.score_matrix import score_matrix
from vlmerge.standing import leaders
from vlmerge.statistics import (
    DRAWS,
    LEVEL,
    Floats,
    Integers,
    holm,
    interval,
    paired_p,
    resampled_task_means,
    rounded,
    task_means,
    weighted,
)
from vlmerge.store import SPLITS, Split, Store, TaskRecord, Trial
from vlmerge.types import SCHEMA

RESULTS_NAME = "results.json"
ALL = "all"
ORDER = (
    "winner", "simple", "global", "best", "mean", "front", "merged",
    "start", "host", "swap", "swap_scaled", "equal", "grid", "chat_vector",
)  # fmt: skip
SEARCHED = frozenset({"winner", "simple", "global", "best", "mean", "front", "merged"})
"""Candidates that a search found; all others are set by hand."""


@dataclass(frozen=True)
class Difference:
    """Winner minus row on the same questions, in points of 100.

    Attributes:
        mean: The difference.
        low, high: Ends of its paired interval, for this comparison alone; None where one picture gives no idea of the spread.
        p: Two-sided p-value, adjusted by Holm for all rows that the winner is compared with on this set and task.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class Row:
    """One candidate on one set and task, as results.json has it; scores are points of 100.

    Attributes:
        candidate: `winner`, `host`, `swap:NAME`, … (design: the free baselines).
        trial: Its trial in the store.
        set: `search`, `validation` or `holdout`.
        task: Name of the task, or `all`: the mean of the task means by weight.
        metric: Metric's name.
        score: Mean over the questions.
        low: Lower end of the interval; None where one picture group gives no idea of the spread.
        high: Upper end.
        level: Coverage of the interval.
        questions: Number of questions.
        prompt: One real prompt, as an example.
        decoding: How answers were generated.
        winner_minus_row: Paired difference; None for the winner itself, and before there is one.
    """

    candidate: str
    trial: int
    set: Split
    task: str
    metric: str
    score: float
    low: float | None
    high: float | None
    level: float
    questions: int
    prompt: str
    decoding: str
    winner_minus_row: Difference | None


def standing(store: Store) -> dict[str, int]:
    """Candidate → trial, in the order of every table: the searched ones, then the baselines.

    Before the election it is worked out as far as the run has come: without a winner, and of a row that has several tries (the
    grid, a scaled swap) the one that is best on the search questions.
    """
    stored = cast(Mapping[str, int] | None, store.get("standing"))
    found = {row: trial.trial for row, (_, trial) in leaders(store, searched=False).items()} if stored is None else stored
    return {name: int(found[name]) for name in sorted(found, key=_place)}


def is_hand_set(candidate: str) -> bool:
    """Whether the candidate needed no search: a baseline."""
    return candidate.partition(":")[0] not in SEARCHED


def rows(store: Store) -> list[Row]:
    """All rows that the store can fill by now, by candidate, set and task (`all` first)."""
    places = standing(store)
    by_set = {split: _set_rows(store, split, places) for split in SPLITS}
    return [row for name in places for split in SPLITS for row in by_set[split] if row.candidate == name]


def trial_rows(store: Store, trial: int) -> list[Row]:
    """The rows of one trial, whatever it stands for, under the name `trial`; without differences.

    Args:
        store: The run's store.
        trial: Its number.
    """
    return [row for split in SPLITS for row in _set_rows(store, split, {"trial": trial})]


def write_results(
    store: Store, folder: Path, found: Sequence[Row] | None = None, more: Mapping[str, Any] | None = None
) -> Path:
    """Writes results.json (schema 1) into a run folder, beside and renamed.

    Args:
        store: The run's store.
        folder: Where it goes.
        found: Rows, where they were computed before.
        more: What else is said of the run, by key.
    """
    searched = [trial for trial in store.trials() if trial.kind == "searched"]
    contaminated = list(store.get("contaminated") or [])
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "rows": [asdict(row) for row in (rows(store) if found is None else found)],
        "trials": len(searched),
        "holdout_views": int(store.get("holdout_views") or 0),
        "seconds_per_trial": seconds_per_trial(searched),
        **(more or {}),
    }
    spared = saved(store)
    if spared is not None:
        document |= {"stopped": spared.stopped, "questions_saved": spared.questions}
    if contaminated:
        document["contaminated"] = contaminated
    return write_text(folder / RESULTS_NAME, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def seconds_per_trial(trials: Sequence[Trial]) -> float | None:
    """Mean seconds of a candidate that was asked and did not fail, merge to score; None before the first."""
    spent = [
        sum(trial.seconds.values()) for trial in trials if trial.status in ("scored", "stopped", "sampled") and trial.seconds
    ]
    return round(float(np.mean(spent)), 3) if spent else None


# ── one set ──


def _set_rows(store: Store, split: Split, places: Mapping[str, int]) -> list[Row]:
    tasks = store.tasks(split)
    trials = sorted({trial for trial in places.values() if store.has_answers(trial, split)})
    if not tasks or not trials:
        return []
    scores, task_of, group_of = score_matrix(store, split, tasks, trials)
    means, drawn = task_means(scores, task_of), resampled_task_means(scores, task_of, group_of, draws=DRAWS)
    weights = np.array([task.weight for task in tasks])
    if weights.any():
        means = np.concatenate([weighted(means, weights)[:, None], means], axis=1)
        drawn = np.concatenate([weighted(drawn, weights)[:, :, None], drawn], axis=2)
        columns = [[task for task in tasks if task.weight], *([task] for task in tasks)]
        names = [ALL, *(task.task for task in tasks)]
    else:
        columns, names = [[task] for task in tasks], [task.task for task in tasks]

    winner = trials.index(places["winner"]) if places.get("winner") in trials else None
    apart = {} if winner is None else _differences(means, drawn, winner, _pictures(columns, tasks, task_of, group_of))
    found: list[Row] = []
    for candidate, trial in places.items():
        for column, (name, members) in enumerate(zip(names, columns, strict=True)):
            at = trials.index(trial) if trial in trials else None
            if at is None or np.isnan(means[at, column]):
                continue
            chosen = np.isin(task_of, [tasks.index(member) for member in members])
            groups = len(np.unique(group_of[chosen]))
            own = interval(float(means[at, column]), drawn[:, at, column], groups).scaled(100)
            found.append(
                Row(
                    candidate=candidate,
                    trial=trial,
                    set=split,
                    task=name,
                    metric=_joined(member.metric for member in members),
                    score=rounded(own.mean),
                    low=rounded(own.low),
                    high=rounded(own.high),
                    level=LEVEL,
                    questions=int(chosen.sum()),
                    prompt=_joined(member.prompt for member in members),
                    decoding=_joined(member.decoding for member in members),
                    winner_minus_row=None if candidate == "winner" else apart.get((at, column)),
                )
            )
    return found


def _pictures(
    columns: Sequence[Sequence[TaskRecord]], tasks: Sequence[TaskRecord], task_of: Integers, group_of: Integers
) -> list[int]:
    """Picture groups behind each column."""
    places = [[tasks.index(member) for member in members] for members in columns]
    return [len(np.unique(group_of[np.isin(task_of, each)])) for each in places]


def _differences(means: Floats, drawn: Floats, winner: int, groups: Sequence[int]) -> dict[tuple[int, int], Difference]:
    """(Trial's place, column) → the winner minus that trial; p-values of a column are adjusted together.

    Args:
        means: Trials × columns.
        drawn: Draws × trials × columns.
        winner: The winner's place among the trials.
        groups: Picture groups behind each column.
    """
    found: dict[tuple[int, int], Difference] = {}
    for column in range(means.shape[1]):
        if np.isnan(means[winner, column]):
            continue
        there = [at for at in range(len(means)) if not np.isnan(means[at, column])]
        others = [at for at in there if at != winner]
        paired = {at: drawn[:, winner, column] - drawn[:, at, column] for at in there}
        alone = [paired_p(paired[at], groups[column]) for at in others]
        known = [p for p in alone if p is not None]
        adjusted = dict(zip(others, holm(known), strict=True)) if len(known) == len(others) else {}
        for at in there:
            apart = interval(float(means[winner, column] - means[at, column]), paired[at], groups[column]).scaled(100)
            p = 1.0 if at == winner else adjusted.get(at)
            found[at, column] = Difference(rounded(apart.mean), rounded(apart.low), rounded(apart.high), rounded(p))
    return found


def _place(candidate: str) -> tuple[int, str]:
    kind = candidate.partition(":")[0]
    return (ORDER.index(kind) if kind in ORDER else len(ORDER), candidate)


def _joined(values: Any) -> str:
    return " | ".join(dict.fromkeys(str(value) for value in values))
