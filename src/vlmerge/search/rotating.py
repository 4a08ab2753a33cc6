"""Rotation: a generation is asked a share of the pictures, the next one others. How large the share has to be, its ranks say.

All candidates of a generation are asked the same questions, so that with greedy answers their ranks have no noise but the
choice of questions. How much of that there is, the answers tell without a further question: pictures are halved by lot,
candidates are ranked by each half, and the correlation of the two rankings says how far one half foretells the other; Spearman
and Brown's formula (1910) makes of it the reliability of both together. (Hansen et al., 2009, "A method for handling
uncertainty in evolutionary optimization", measure the same by asking candidates twice; here a picture's score is there once
and for all.)
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

from vlmerge.search.racing import PICTURES, Scores

Picture = TypeVar("Picture", bound=Hashable)

FIRST_SHARE, LEAST_SHARE, STEP = 0.5, 0.25, 1.5
"""Where `auto` begins, where it ends, and by what it goes up and down."""
NOISY, CLEAR = 0.7, 0.9
"""Reliabilities below which a generation is asked more, and above which the next one may be asked less."""
SPLITS = 50


def chosen(pictures: Sequence[Picture], shares: Sequence[float], seed: int, least: int = PICTURES) -> frozenset[Picture]:
    """The pictures of a generation: the next ones of an order that is shuffled anew each time it has been gone through.

    Args:
        pictures: Of the search questions; they may stand there several times.
        shares: Of them, of each generation from the first to this one: what those before took is not taken again before all
            others.
        seed: Of the order.
        least: Pictures at least, where there are so many.
    """
    distinct = list(dict.fromkeys(pictures))
    taken: dict[int, None] = {}
    waiting: list[int] = []
    turn = 0
    for share in shares:
        count = min(len(distinct), max(least, math.ceil(share * len(distinct))))
        taken, left = {}, list[int]()
        while True:
            for number in waiting:
                if number in taken or len(taken) == count:
                    left.append(number)
                else:
                    taken[number] = None
            if len(taken) == count:
                break
            waiting = [int(number) for number in np.random.RandomState((seed + turn) % 2**32).permutation(len(distinct))]
            turn += 1
        waiting = left
    return frozenset(distinct[number] for number in taken)


def reliability(scores: Scores, pictures: Sequence[Hashable], weights: Sequence[float]) -> float | None:
    """How well a ranking by these pictures would be repeated by as many others; from 0 (noise) to 1.

    Args:
        scores: (candidates, questions), all of them asked.
        pictures: Of each question.
        weights: Of each question.

    Returns:
        None where there are too few candidates or pictures to tell.
    """
    number = {picture: at for at, picture in enumerate(dict.fromkeys(pictures))}
    if len(scores) < 3 or len(number) < 4:
        return None
    of_picture = np.array([number[picture] for picture in pictures])
    weighed = np.array(weights)
    sums = np.stack([np.bincount(of_picture, weighed * row, len(number)) for row in scores])
    whole = np.bincount(of_picture, weighed, len(number))
    lot = np.random.RandomState(1)
    found: list[float] = []
    for _ in range(SPLITS):
        order = lot.permutation(len(number))
        halves = order[: len(number) // 2], order[len(number) // 2 :]
        one, other = (_ranks(sums[:, half].sum(axis=1) / whole[half].sum()) for half in halves)
        spread = float(one.std() * other.std())
        found.append(float(((one - one.mean()) * (other - other.mean())).mean()) / spread if spread else 0.0)
    return lengthened(max(0.0, float(np.mean(found))), 2)


def lengthened(known: float, times: float) -> float:
    """The reliability of so many times as many pictures (Spearman and Brown's formula).

    Args:
        known: That of the pictures that were asked, from 0 to 1.
        times: Above 0.
    """
    return times * known / (1 + (times - 1) * known)


def next_share(share: float, known: float | None) -> float:
    """The share that the next generation is asked.

    Args:
        share: What this one was asked.
        known: Its reliability.
    """
    if known is None:
        return share
    wanted = share * STEP if known < NOISY else share / STEP if known > CLEAR else share
    return min(1.0, max(LEAST_SHARE, wanted))


def _ranks(values: Scores) -> Scores:
    """Ranks, equal ones in the middle."""
    below = (values[:, None] > values[None]).sum(axis=1)
    return below + ((values[:, None] == values[None]).sum(axis=1) - 1) / 2
