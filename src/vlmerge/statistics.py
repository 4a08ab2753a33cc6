"""How sure a score is: a bootstrap over questions that keeps the questions about one picture together.

Questions about the same picture succeed and fail together, so resampling them one by one would claim more evidence than there
is. Here whole picture groups are drawn with replacement (a cluster bootstrap; Davison & Hinkley 1997, section 3.8), the same
draws for every candidate, so that the difference of two candidates is a paired one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from vlmerge.task_weights import counted

LEVEL = 0.95
"""Coverage that every interval of a report aims at."""

DRAWS = 10_000
"""Resamples behind every interval."""

SEED = 1
"""Seed of the draws: the same scores give the same intervals, whatever the run's own seed was."""

CHUNK = 500
"""Draws held in memory at a time."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """A mean with its percentile interval; `low` and `high` are None where a single picture group says nothing of spread."""

    mean: float
    low: float | None
    high: float | None

    def scaled(self, factor: float) -> Interval:
        """The same in other units, e.g. points of 100."""
        return Interval(
            self.mean * factor,
            None if self.low is None else self.low * factor,
            None if self.high is None else self.high * factor,
        )


@overload
def rounded(value: float) -> float: ...
@overload
def rounded(value: float | None) -> float | None: ...
def rounded(value: float | None) -> float | None:
    """As results.json has a figure: four decimals, and no negative zero."""
    return None if value is None else round(float(value), 4) + 0.0


def task_means(scores: Floats, tasks: Integers) -> Floats:
    """Mean score of each candidate on each task.

    Args:
        scores: Candidates × questions, 0 to 1; NaN where a candidate was not asked.
        tasks: Task index of each question, 0 … tasks − 1, each at least once.

    Returns:
        Candidates × tasks; NaN where a question of the task has no score.
    """
    return np.stack([scores[:, tasks == task].mean(axis=1) for task in range(int(tasks.max()) + 1)], axis=1)


def resampled_task_means(scores: Floats, tasks: Integers, groups: Integers, *, draws: int = DRAWS, seed: int = SEED) -> Floats:
    """Task means under resampling of whole picture groups.

    Args:
        scores: Candidates × questions, 0 to 1; NaN where a candidate was not asked.
        tasks: Task index of each question.
        groups: Picture group of each question, 0 … groups − 1.
        draws: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        Draws × candidates × tasks; NaN where a draw has no question of that task.
    """
    candidates, group_count, task_count = len(scores), int(groups.max()) + 1, int(tasks.max()) + 1
    sums = np.zeros((group_count, candidates, task_count))
    counts = np.zeros((group_count, task_count))
    np.add.at(counts, (groups, tasks), 1.0)
    for task in range(task_count):
        asked = tasks == task
        np.add.at(sums[:, :, task], groups[asked], scores[:, asked].T)
    flat = sums.reshape(group_count, -1)
    missing = np.isnan(flat).any(axis=0)
    flat = np.where(missing, 0.0, flat)  # 0 × NaN would spill over into draws; those columns are set to NaN at the end

    random = np.random.default_rng(seed)
    means = np.empty((draws, candidates, task_count))
    for start in range(0, draws, CHUNK):
        size = min(CHUNK, draws - start)
        drawn = random.integers(0, group_count, (size, group_count)) + np.arange(size)[:, None] * group_count
        times = np.bincount(drawn.ravel(), minlength=size * group_count).reshape(size, group_count).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            means[start : start + size] = (times @ flat).reshape(size, candidates, task_count) / (times @ counts)[:, None, :]
    means[:, missing.reshape(candidates, task_count)] = np.nan
    return means


def weighted(means: Floats, weights: Floats) -> Floats:
    """Mean of the task means by weight; tasks of weight 0 take no part, even where they have no score.

    Of a task whose weight is below 0 the mean is taken from 1: less is better there.

    Args:
        means: … × tasks.
        weights: One per task, at least one of them not 0.

    Returns:
        The shape of `means` without its last axis.
    """
    places = np.flatnonzero(weights)
    better = np.stack([counted(means[..., place], float(weights[place])) for place in places], axis=-1)
    return better @ np.abs(weights[places]) / np.abs(weights[places]).sum()


def tail(groups: int, level: float = LEVEL) -> float:
    """Share of the draws below an expanded percentile interval (and as many above it).

    Args:
        groups: Number of picture groups, from 2.
        level: Coverage aimed at.
    """
    from scipy.special import ndtr, stdtrit  # pyright: ignore[reportMissingTypeStubs]

    quantile = float(stdtrit(groups - 1, (1 - level) / 2))
    return float(ndtr(quantile * math.sqrt(groups / (groups - 1))))


def paired_p(resampled: Floats, groups: int) -> float | None:
    """Two-sided p-value of a difference being zero, from its resampled values; None without any, and for a single group.

    The share of draws on the other side of zero, twice (Davison & Hinkley 1997, section 4.4); never 0, since one draw more
    could have been there, and never below 2 · 0.5^groups, the least that a test of as many signs can say: few pictures that
    all agree are drawn again and again on one side of zero, and prove little.

    Args:
        resampled: One value per draw.
        groups: Number of picture groups behind them.
    """
    drawn = resampled[~np.isnan(resampled)]
    if not len(drawn) or groups < 2:
        return None
    below, above = int((drawn <= 0).sum()), int((drawn >= 0).sum())
    return min(1.0, max(2 * 0.5**groups, 2 * (min(below, above) + 1) / (len(drawn) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979): rejecting those below α errs anywhere with a probability of at most α.

    Args:
        p_values: Of comparisons that are made together, whatever their dependence.

    Returns:
        One for each, in the same order, at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, most = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = most
    return adjusted


def interval(mean: float, resampled: Floats, groups: int, level: float = LEVEL) -> Interval:
    """Expanded percentile interval of resampled means (or differences of means) around the mean itself.

    Args:
        mean: The value on the questions as they are.
        resampled: One value per draw.
        groups: Number of picture groups behind it.
        level: Coverage aimed at.
    """
    drawn = resampled[~np.isnan(resampled)]
    if groups < 2 or not len(drawn):
        return Interval(mean, None, None)
    outside = tail(groups, level)
    low, high = np.quantile(drawn, [outside, 1 - outside])
    return Interval(mean, float(low), float(high))


def mean_draws(scores: Floats, groups: Integers, *, draws: int = DRAWS, seed: int = SEED) -> tuple[Floats, int]:
    """Resampled means of one list of scores (or of paired differences), and how many picture groups they have.

    Args:
        scores: One per question.
        groups: Picture group of each question, any integers.
        draws: Number of resamples.
        seed: Seed of the resampling.
    """
    names, index = np.unique(groups, return_inverse=True)
    one_task = np.zeros(len(scores), dtype=np.int64)
    drawn = resampled_task_means(scores[None, :], one_task, index.astype(np.int64), draws=draws, seed=seed)
    return drawn[:, 0, 0], len(names)


def mean_interval(scores: Floats, groups: Integers, *, level: float = LEVEL, draws: int = DRAWS, seed: int = SEED) -> Interval:
    """Mean and interval of one list of scores (or of paired differences).

    Args:
        scores: One per question.
        groups: Picture group of each question, any integers.
        level: Coverage aimed at.
        draws: Number of resamples.
        seed: Seed of the resampling.
    """
    drawn, count = mean_draws(scores, groups, draws=draws, seed=seed)
    return interval(float(scores.mean()), drawn, count, level)
