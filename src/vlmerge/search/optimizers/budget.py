"""How many candidates a generation has, and how many generations fit a budget."""

from __future__ import annotations

import math


def default_population(genes: int) -> int:
    """CMA-ES' own: 4 + ⌊3 ln n⌋."""
    return 4 + math.floor(3 * math.log(genes))


def plan(budget: int, genes: int, population: int | None = None, *, enlarge: bool = True) -> tuple[int, int]:
    """Whole generations that fit a budget.

    Args:
        budget: Candidates at most, from 1.
        genes: Size of the space.
        population: Candidates of a generation; None: `default_population`.
        enlarge: Whether a default population may grow by up to a quarter where that spends more of the budget (40 candidates
            of 3 genes: 5 × 8 instead of 5 × 7).

    Returns:
        Population and number of generations. What is left of the budget is less than one generation, and is not spent:
        candidates of a part of a generation could not be told.
    """
    size = min(population or default_population(genes), budget)
    if population is None and enlarge:
        sizes = range(size, min(size + size // 4, budget) + 1)
        size = max(sizes, key=lambda each: (budget // each * each, -each))
    return size, budget // size
