"""How the search went: every candidate's search score in its order, generation by generation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from vlmerge.aims import Bounds, bounds, violation
from vlmerge.fitness import outside, plain_scores
from vlmerge.standing import set_score
from vlmerge.store import Store, Trial

RECENT = 20
"""Candidates whose seconds predict the time that is left."""


@dataclass(frozen=True)
class Point:
    """One searched candidate: `number` from 1 in the order of the search; `score` in points of 100, None where it failed or a
    race stopped it (`stopped`): what it answered until then is no score beside the others'.

    `kept` is whether it keeps the run's constraints (on the search questions); True where there are none.
    """

    number: int
    stage: int
    generation: int
    score: float | None
    kept: bool = True
    stopped: bool = False


@dataclass(frozen=True)
class Spread:
    """One generation: where it ends on the axis of candidates, its best, mean and standard deviation in points of 100.

    The best is one that keeps the constraints, where there is one. Of a generation that was raced, mean and deviation are those
    of the candidates that were asked everything.
    """

    stage: int
    generation: int
    first: int
    last: int
    best: float
    mean: float
    deviation: float


@dataclass(frozen=True)
class StageMark:
    """A stage of the search, and the number of its first candidate."""

    stage: int
    name: str
    first: int


@dataclass(frozen=True)
class History:
    """What figure 1 draws, and what the progress line counts."""

    points: tuple[Point, ...]
    spreads: tuple[Spread, ...]
    stages: tuple[StageMark, ...]
    finished: bool
    budget: int | None
    seconds_left: float | None

    @property
    def best(self) -> list[tuple[int, float]]:
        """Best so far after each scored candidate that keeps the constraints."""
        found: list[tuple[int, float]] = []
        for point in self.points:
            if point.score is not None and point.kept:
                found.append((point.number, max(point.score, found[-1][1] if found else point.score)))
        return found


def read_history(store: Store) -> History:
    """Reads the search as far as it has come; empty before the first candidate."""
    searched = [trial for trial in store.trials() if trial.kind == "searched"]
    told, held_to = _told(store), bounds(store, "search")
    points: list[Point] = []
    for number, trial in enumerate(searched, start=1):
        score, keeps = told.get((trial.stage, trial.generation, trial.position)) or _from_answers(store, trial, held_to)
        whole = None if score is None else 100 * score
        points.append(Point(number, trial.stage or 0, trial.generation or 0, whole, keeps, trial.status == "stopped"))
    budget = store.get("budget")
    return History(
        points=tuple(points),
        spreads=tuple(_spreads(points)),
        stages=tuple(_stages(points, cast(Sequence[Mapping[str, Any]], store.get("stages") or []))),
        finished=bool(store.get("finished")),
        budget=None if budget is None else int(budget),
        seconds_left=None if store.get("finished") else _seconds_left(searched, budget),
    )


def _told(store: Store) -> dict[tuple[int | None, int | None, int | None], tuple[float | None, bool]]:
    """Stage, generation and place → score (0 to 1) and whether it keeps the constraints, of whom the optimizer was told."""
    return {
        (one.stage, one.generation, place): (score, not broken)
        for one in store.generations()
        if one.fitness is not None
        for place, (score, broken) in enumerate(zip(plain_scores(store, one), outside(store, one), strict=True))
    }


def _from_answers(store: Store, trial: Trial, held_to: Bounds) -> tuple[float | None, bool]:
    """The same in a generation that is still going on."""
    score = set_score(store, trial, "search")
    return score, score is None or not violation(store, trial.trial, held_to)


def _spreads(points: Sequence[Point]) -> list[Spread]:
    members: dict[tuple[int, int], list[Point]] = {}
    for point in points:
        members.setdefault((point.stage, point.generation), []).append(point)
    found: list[Spread] = []
    for (stage, generation), group in members.items():
        scores = [point.score for point in group if point.score is not None]
        if scores:
            mean, deviation = float(np.mean(scores)), float(np.std(scores))
            kept = [point.score for point in group if point.score is not None and point.kept]
            best = max(kept or scores)
            found.append(Spread(stage, generation, group[0].number, group[-1].number, best, mean, deviation))
    return found


def _stages(points: Sequence[Point], named: Sequence[Mapping[str, Any]]) -> list[StageMark]:
    """Stages in the order of the search, so that their numbers may start at 0 or at 1."""
    firsts: dict[int, int] = {}
    for point in points:
        firsts.setdefault(point.stage, point.number)
    names = [str(stage.get("name", "")) for stage in named]
    return [
        StageMark(stage, names[index] if index < len(names) else "", first)
        for index, (stage, first) in enumerate(firsts.items())
    ]


def _seconds_left(searched: Sequence[Trial], budget: object) -> float | None:
    done = [trial for trial in searched if trial.status != "racing"]
    recent = [sum(trial.seconds.values()) for trial in done[-RECENT:]]
    if not recent or not isinstance(budget, int):
        return None
    return max(0, budget - len(done)) * float(np.mean(recent))
