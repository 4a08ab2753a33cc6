"""ROUGE-L's F-measure over any tokens, by a bit-parallel longest common subsequence.

A search scores hundreds of candidates on the same questions, so the references are prepared once and each answer costs one
integer operation or so per token, where the usual table costs (reference × answer) steps. The value is the same.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """A reference, ready to be compared with many answers.

    Attributes:
        length: Its number of tokens.
        positions: For each distinct token, an integer whose bit i is set where the reference has it at position i.
    """

    length: int
    positions: dict[Hashable, int]


def profile(reference: Sequence[Hashable]) -> Profile:
    """Prepares a reference (a string is a sequence of characters)."""
    positions: dict[Hashable, int] = {}
    for index, token in enumerate(reference):
        positions[token] = positions.get(token, 0) | 1 << index
    return Profile(len(reference), positions)


def common_length(reference: Profile, answer: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, in tokens.

    Bit i of `row` is 0 where the longest common subsequence grows at the reference's position i (Crochemore, Iliopoulos,
    Pinzon and Reid, "A fast and practical bit-vector algorithm for the longest common subsequence problem", 2001).
    """
    full = (1 << reference.length) - 1
    row = full
    for token in answer:
        matches = row & reference.positions.get(token, 0)
        row = ((row + matches) | (row - matches)) & full
    return reference.length - row.bit_count()


def f_measure(reference: Profile, answer: Sequence[Hashable]) -> float:
    """ROUGE-L's F-measure, 0..1: harmonic mean of (common / answer) and (common / reference). 0 where either is empty.

    Source: Lin, "ROUGE: a package for automatic evaluation of summaries", 2004, with beta = 1.
    """
    if not reference.length or not answer:
        return 0.0
    return 2 * common_length(reference, answer) / (reference.length + len(answer))


def bootstrap_mid(scores: Sequence[float], seed: int = 1, samples: int = 1000) -> float:
    """The middle of the bootstrapped means, which is what rouge_score's BootstrapAggregator publishes instead of the mean.

    Args:
        scores: One score per question, 0..1; at least one.
        seed: Seed of the resampling. The published figures were not seeded, so they carry noise of this size.
        samples: Number of resamples; 1000 as there.

    Returns:
        The median over resamples of the mean score, 0..1. Close to the mean; for comparison with published figures only.
    """
    import numpy as np

    values = np.asarray(scores, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(values), size=(samples, len(values)))
    return float(np.median(values[drawn].mean(axis=1)))


def mean(scores: Sequence[float]) -> float:
    """Plain mean with an exact sum, so that the order of the questions cannot change it."""
    return math.fsum(scores) / len(scores)
