"""A box around the start, for algorithms that need two bounds of every gene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlmerge.search.genes import Distribution, Gene
from vlmerge.search.optimizers.covariance import first_covariance


def box(genes: Sequence[Gene], start: Distribution, reach: float) -> tuple[tuple[float, float], ...]:
    """Smallest and largest value of each gene.

    Args:
        genes: Their bounds stand as they are; of a categorical gene the first and the last choice.
        start: Of a gene without a bound: its mean, and `reach` standard deviations from there.
        reach: How many.
    """
    deviations = start.sigma * np.sqrt(np.diag(first_covariance(genes, start)))
    found: list[tuple[float, float]] = []
    for gene, mean, deviation in zip(genes, start.mean, deviations, strict=True):
        if gene.choices:
            found.append((0.0, float(len(gene.choices) - 1)))
        else:
            low = float(mean - reach * deviation) if gene.low is None else gene.low
            found.append((low, float(mean + reach * deviation) if gene.high is None else gene.high))
    return tuple(found)
