"""What a task's weight says of its scores: how much they count, and whether less is better (a weight below 0)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Score = TypeVar("Score", float, "npt.NDArray[np.float64]")


def counted(score: Score, weight: float) -> Score:
    """A score (or a mean, or an array of them), 0 to 1, as it counts: higher is better. Of a weight below 0 it is 1 − score."""
    return score if weight > 0 else 1 - score


def weighted_sum(weights: Mapping[str, float], means: Mapping[str, float]) -> float:
    """The sum of task means as they count, each by its weight without its sign; of weights 0 none.

    Args:
        weights: Task → weight.
        means: Task → mean, 0 to 1; of every task whose weight is not 0.
    """
    # An exact sum: the order of tasks cannot change it.
    return math.fsum(abs(weight) * counted(means[task], weight) for task, weight in weights.items() if weight)
