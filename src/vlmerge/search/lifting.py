"""From a coarse distribution to a finer one: every gene of the finer space inherits from the coarse genes that it refines."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vlmerge.search.genes import Distribution, Gene

KEPT = 0.25
"""Share of a correlation that is inherited. Genes that were one number would be fully correlated; but their common direction is
what the coarse stage has searched already, and the differences between them are what the finer one is for.

In a simulation (`benchmarks/search/staging.py kept`, 100 seeds, fresh pictures) 0 is 0.3 ± 0.2 points of 100 worse; 0.5, 0.75
and 0.9 are 0.2, 0.1 and 0.3 better, each ± 0.2: no share stands out by two standard errors.
"""

Row = tuple[tuple[int, float], ...]
"""(coarse gene, share): where a gene's number comes from; empty: from nowhere."""


def inherited(rows: Sequence[Row], coarse: Distribution, genes: Sequence[Gene]) -> tuple[tuple[float, ...], ...] | None:
    """The covariance that the finer genes begin with, before multiplication with the square of a step size.

    With A the shares, C the coarse covariance and Λ the diagonal of A C Aᵀ it is KEPT · A C Aᵀ + (1 − KEPT) · Λ: every variance
    stays, every correlation is softened. A C Aᵀ is positive semidefinite and Λ a positive diagonal, so that the sum is positive
    definite. It is scaled so that the genes' variances, in units of their scales, are 1 on average: a step size keeps its
    meaning. Genes that come from nowhere, and categorical ones, have the variance of their scale and no correlation.

    Args:
        rows: One for each finer gene.
        coarse: The distribution to inherit from.
        genes: The finer genes.

    Returns:
        Rows of the matrix; None where the coarse distribution says nothing but its genes' scales.
    """
    old = coarse.covariance
    if old is None:
        return None

    def covariance(one: Row, other: Row) -> float:
        return math.fsum(a * b * old[i][j] for i, a in one for j, b in other)

    own = [0.0 if gene.choices else covariance(row, row) for row, gene in zip(rows, genes, strict=True)]
    heirs = [place for place, variance in enumerate(own) if variance > 0]
    if not heirs:
        return None
    unit = math.fsum(own[place] / genes[place].scale ** 2 for place in heirs) / len(heirs)
    found = [[0.0] * len(genes) for _ in genes]
    for place, gene in enumerate(genes):
        found[place][place] = gene.scale**2 if own[place] <= 0 else own[place] / unit
    for index, place in enumerate(heirs):
        for other in heirs[:index]:
            found[place][other] = found[other][place] = KEPT * covariance(rows[place], rows[other]) / unit
    return tuple(map(tuple, found))
