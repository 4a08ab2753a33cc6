"""The covariance that a search begins with: genes' scales, or what an earlier stage has learnt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vlmerge.search.genes import Distribution, Gene

SMALLEST = 1e-6
"""Smallest eigenvalue of the correlation matrix: genes that moved as one may part, first by a thousandth of their step."""


def first_covariance(genes: Sequence[Gene], start: Distribution) -> NDArray[np.float64]:
    """Covariance before multiplication with sigma²: (genes, genes), float64, symmetric and positive definite.

    Args:
        genes: Their scales are the standard deviations where the start has no covariance.
        start: A search's start.

    Eigenvalues of the correlation matrix below `SMALLEST` are brought to it.

    Raises:
        ValueError: A covariance of another size, or one that is none: not symmetric, a variance that is not above 0, or
            correlations that no numbers have.
    """
    if start.covariance is None:
        return np.diag([float(gene.scale) ** 2 for gene in genes])
    found = np.array(start.covariance, dtype=np.float64)
    if found.shape != (len(genes), len(genes)) or not np.allclose(found, found.T, rtol=1e-8, atol=0):
        raise ValueError(f"a covariance of {len(genes)} genes has as many rows and columns, and is symmetric")
    if not np.all(np.isfinite(found)) or not np.all(np.diag(found) > 0):
        raise ValueError("a gene's variance is finite and above 0")
    deviations = np.sqrt(np.diag(found))
    values, vectors = np.linalg.eigh((found + found.T) / 2 / np.outer(deviations, deviations))
    if values[0] < -1e-8 * values[-1]:
        raise ValueError("a covariance has no negative eigenvalue")
    if values[0] >= SMALLEST:
        return (found + found.T) / 2
    return np.outer(deviations, deviations) * ((vectors * np.maximum(values, SMALLEST)) @ vectors.T)


def rows(matrix: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    """A matrix as a `Distribution` holds it."""
    return tuple(tuple(float(number) for number in row) for row in matrix)
