"""Fronts: what no other one beats in every objective, and a few of them that stand far apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the one is as good in every objective and better in one."""
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def undominated(scores: Mapping[int, Sequence[float]]) -> list[int]:
    """The trials that no other one dominates, in the order of the first objective, the best last; of equal ones the first."""
    kept = [
        trial
        for trial, own in scores.items()
        if not any(dominates(other, own) for other in scores.values())
        and not any(tuple(scores[earlier]) == tuple(own) for earlier in scores if earlier < trial)
    ]
    return sorted(kept, key=lambda trial: (tuple(scores[trial]), trial))


def spread_out(scores: Mapping[int, Sequence[float]], most: int) -> list[int]:
    """At most so many of a front's trials, far apart: the most crowded one goes first, the ends of every objective stay.

    Crowded is who has near neighbours (NSGA-II's crowding distance, Deb et al. 2002); it is measured anew after each that goes.

    Args:
        scores: Trial → its objectives; a front.
        most: How many may stay, from 1.
    """
    left = dict(scores)
    while len(left) > most:
        distance = _crowding(left)
        del left[min(left, key=lambda trial: (distance[trial], trial))]
    return list(left)


def _crowding(scores: Mapping[int, Sequence[float]]) -> dict[int, float]:
    found = dict.fromkeys(scores, 0.0)
    for axis in range(len(next(iter(scores.values())))):
        order = sorted(scores, key=lambda trial: (scores[trial][axis], trial))
        width = scores[order[-1]][axis] - scores[order[0]][axis]
        found[order[0]] = found[order[-1]] = math.inf
        for below, trial, above in zip(order, order[1:], order[2:], strict=False):
            found[trial] += (scores[above][axis] - scores[below][axis]) / width if width else 0.0
    return found
