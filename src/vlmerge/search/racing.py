"""Racing: a generation is asked in blocks of questions, and who will not be among its survivors is not asked the rest.

CMA-ES learns from the better half of a generation (its survivors), and from their order. After each block every candidate that
is still asked is compared with the others on the questions that all of them have answered. It is stopped if, by paired one-sided
t-tests, as many others as there are survivors are better than it.

**The error rate.** "Better" is meant on the whole question set. The blocks are a random order of its pictures, so the
score on the whole set is estimated from a sample without replacement, its variance taken over pictures (a picture's questions
stay together) and shrunk by the share that was asked. A candidate which the whole set would place among the
survivors can have at most `survivors − 1` better ones; it is stopped falsely only if one of the other `n − survivors` was
found better and is not. So each test has the level `error_rate / (n − survivors) / looks`, where looks are the blocks but the last:
alpha is spent in equal parts over them (Bonferroni over rivals and over time). For each candidate that belongs to the survivors, the probability of
being stopped, at any block, is then at most `error_rate`; a false stop is counted per survivor. t-tests of few pictures
are approximate: `Race.deal` puts at least `PICTURES` of them before the first look.

**Ranks.** Whoever is stopped ranks behind all that finish; among the stopped, those who answered more blocks stand before those who answered fewer, and
within a block the better score stands first. At least as many as there are survivors finish, so the order among survivors is that of whole scores.

Nothing here has a state: the matrix of scores says who was stopped. A race that was interrupted decides the same again.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PICTURES = 12
"""Fewest pictures before the first look."""


@dataclass(frozen=True)
class Race:
    """How a generation is asked.

    Attributes:
        blocks: Places of the questions, block after block; each question stands in one of them.
        clusters: Of each question, the number of its picture.
        weights: Of each question, its share of a score; above 0.
        survivors: How many of a generation CMA-ES learns from (its mu); their places are protected.
        error_rate: Highest probability that one of them is stopped.
    """

    blocks: tuple[tuple[int, ...], ...]
    clusters: tuple[int, ...]
    weights: tuple[float, ...]
    survivors: int
    error_rate: float

    @classmethod
    def deal(
        cls,
        pictures: Sequence[Hashable],
        *,
        survivors: int,
        error_rate: float = 0.1,
        blocks: int = 4,
        weights: Sequence[float] | None = None,
        seed: int = 1,
    ) -> Race:
        """Shuffles the pictures and deals their questions into blocks of about the same number of questions.

        Args:
            pictures: What each question is about (`Question.group`).
            survivors: From 1.
            error_rate: Between 0 and 1.
            blocks: How many at most; fewer where that would leave a first block of fewer than `PICTURES` pictures.
            weights: Of each question in the score; None: all the same.
            seed: Of the order. Another one for each generation, so that no picture comes first every time.
        """
        if survivors < 1 or not 0 < error_rate < 1 or blocks < 1 or not pictures:
            raise ValueError("a race has questions, one survivor and one block at least, and an error rate between 0 and 1")
        number = {picture: place for place, picture in enumerate(dict.fromkeys(pictures))}
        clusters = tuple(number[picture] for picture in pictures)
        share = tuple(map(float, weights)) if weights is not None else (1 / len(pictures),) * len(pictures)
        if len(share) != len(clusters) or not all(each > 0 for each in share):
            raise ValueError("each question has a weight above 0")
        blocks = max(1, min(blocks, len(number) // PICTURES))
        order = np.random.RandomState(seed).permutation(len(number))
        asked: list[list[int]] = [[] for _ in number]
        for question, cluster in enumerate(clusters):
            asked[cluster].append(question)
        dealt: list[list[int]] = [[] for _ in range(blocks)]
        done = 0
        for place, cluster in enumerate(order):
            # Every block gets its share of pictures; the questions follow.
            dealt[min(place * blocks // len(number), blocks - 1)] += asked[int(cluster)]
            done += len(asked[int(cluster)])
        return cls(tuple(tuple(sorted(block)) for block in dealt), clusters, share, survivors, error_rate)

    def to_stop(self, scores: NDArray[np.float64], block: int) -> tuple[int, ...]:
        """Who is not asked any more after a block.

        Args:
            scores: (candidates, questions), higher is better; NaN where a question was not asked. A candidate that has any NaN
                up to this block is out already: stopped before, or failed.
            block: From 0; all questions up to its end were asked.

        Returns:
            Candidates, in order. None after the last block: they have finished.
        """
        if block >= len(self.blocks) - 1:
            return ()
        asked = np.array([question for each in self.blocks[: block + 1] for question in each])
        running = [int(place) for place in np.flatnonzero(~np.isnan(scores[:, asked]).any(axis=1))]
        rivals = len(running) - self.survivors
        # Whoever has failed or was stopped before ranks behind and is no rival.
        candidates = int(np.sum(~np.isnan(scores[:, list(self.blocks[0])]).any(axis=1)))
        if rivals <= 0:
            return ()
        level = self.error_rate / (candidates - self.survivors) / (len(self.blocks) - 1)
        return tuple(
            place
            for place in running
            if sum(
                self._worse(scores[rival, asked] - scores[place, asked], asked) <= level for rival in running if rival != place
            )
            >= self.survivors
        )

    def _worse(self, differences: NDArray[np.float64], asked: NDArray[np.int64]) -> float:
        """p-value of "on the whole set these differences sum to nothing or less": clustered, without replacement."""
        from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

        weights = np.array(self.weights)[asked]
        _, cluster = np.unique(np.array(self.clusters)[asked], return_inverse=True)
        pictures = int(cluster.max()) + 1
        mean = float(np.dot(weights, differences) / weights.sum())
        if mean <= 0 or pictures < 2:
            return 1.0
        # Of a ratio estimator (Cochran, "Sampling Techniques", 1977, 6.3): pictures have different numbers of questions.
        residuals = np.bincount(cluster, weights * (differences - mean))
        left = 1 - weights.sum() / math.fsum(self.weights)
        error = math.sqrt(left * pictures / (pictures - 1) * float(residuals @ residuals)) / float(weights.sum())
        return float(stats.t.sf(mean / error, pictures - 1)) if error > 0 else 1.0
