"""Noise: what follows from how reliable a generation's ranks are (`rotating.reliability`), questions first, candidates last.

Greedy answers are exact; what is noisy is which questions were drawn. A generation whose ranks would not be repeated by other
pictures is asked further ones, as UH-CMA-ES asks candidates again (Hansen, Niederberger, Guzzella and Koumoutsakos, "A method
for handling uncertainty in evolutionary optimization", 2009), by its factor of 1.5. Where there are no further ones,
generations grow: a mean of more candidates has less of each one's luck in it (as in PSA-CMA-ES, Nishida and Akimoto, 2018).
"""

from __future__ import annotations

import math

from vlmerge.search.rotating import NOISY, STEP

MOST = 4
"""Times the first population that a generation has at most."""


def asked_on(share: float, known: float | None, *, whole: bool) -> float | None:
    """The share of the pictures that a generation is asked in all, where what it was asked is not enough.

    Args:
        share: What it was asked.
        known: The reliability of its ranks; None: there is too little to tell.
        whole: Whether that was everything there is.

    Returns:
        None where its ranks are reliable, or nothing is left to ask.
    """
    return None if whole or known is None or known >= NOISY else min(1.0, share * STEP)


def next_population(population: int, first: int, known: float | None, *, whole: bool) -> int:
    """How many candidates the next generation has.

    Args:
        population: Candidates of this one.
        first: Of the first one; never fewer.
        known: The reliability of its ranks; None: there is too little to tell.
        whole: Whether it was asked everything there is.
    """
    if known is None:
        return population
    if known >= NOISY:
        return max(first, math.floor(population / STEP))
    return min(MOST * first, math.ceil(population * STEP)) if whole else population
