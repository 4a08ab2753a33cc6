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


def chosen(pictures: Sequence[Picture], share: float, seed: int, generation: int) -> frozenset[Picture]:
    """The pictures of a generation: the next ones of an order that is shuffled anew each time it has been gone through.

    Args:
        pictures: Of the search questions; they may stand there several times.
        share: Of them; at least `PICTURES` are asked, where there are so many.
        seed: Of the order.
        generation: From 0.
    """
    distinct = list(dict.fromkeys(pictures))
    count = min(len(distinct), max(PICTURES, math.ceil(share * len(distinct))))
    found: dict[Picture, None] = {}
    at = generation * count
    while len(found) < count:
        turn, place = divmod(at, len(distinct))
        order = np.random.RandomState((seed + turn) % 2**32).permutation(len(distinct))
        for number in order[place:]:
            found.setdefault(distinct[int(number)])
            at += 1
            if len(found) == count:
                break
    return frozenset(found)


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
    half = max(0.0, float(np.mean(found)))
    return 2 * half / (1 + half)


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
