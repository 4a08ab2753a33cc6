"""Racing: a generation is asked in blocks of questions, and who will not be among its survivors is not asked the rest.

CMA-ES learns most from the better half of a generation, its survivors. After each block every candidate that is still asked is
compared with the others on the questions that all of them have answered. It is stopped if as many others as there are
survivors are better than it by a paired one-sided t-test each.

**What is tested.** "Better" is meant on the whole question set. Blocks are a random order of its pictures, so the difference on
the whole set is estimated from a sample without replacement: its variance is taken over pictures (a picture's questions stay
together) and shrinks with the share that is left to ask. Such a difference, look after look, is a Brownian motion in the
information f / (1 − f), f the share that was asked; `error_rate` is spent over the looks with equal nominal levels (Pocock,
1977), found from that motion. So of two candidates that are equal on the whole set, one stops the other, at any look, with a
probability of at most `error_rate`. With few pictures t-tests are approximate: at least `PICTURES` come before the first look.

**How false stops are counted.** A false stop is a stopped candidate that the whole set would place among the survivors. The
rate is the mean share of a generation's survivors that are stopped. It takes several false comparisons at once to stop any but
the last of them. The simulations of the tests hold the rate to `error_rate` where all candidates are equal on the whole set,
where they are alike but for chance, where they differ, and where some are far ahead and the rest contest the last place.

**Ranks.** Whoever is stopped ranks behind all that finish. Among the stopped, those who answered more blocks stand first, and
of these the better score. At least as many as there are survivors finish, so their order is that of whole scores.

Nothing here has a state: the matrix of scores says who was stopped, and a race that was interrupted decides the same again.

    race = Race.deal([question.group for question in questions], survivors=population // 2, seed=generation + 1)
    scores = numpy.full((population, len(questions)), numpy.nan)
    for block, places in enumerate(race.blocks):
        ...  # ask the candidates in race.running(scores, block); write into scores[candidate, places]; a failure is all NaN
    optimizer.tell(genomes, race.fitness(scores))
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PICTURES = 12
"""Fewest pictures before the first look."""

DRAWS = 100_000
"""Of the Brownian motion; the spent error is off by less than a fiftieth of itself."""

Scores = NDArray[np.float64]
"""(candidates, questions), higher is better; NaN where a candidate was not asked. A failure's row is NaN throughout."""


@dataclass(frozen=True)
class Race:
    """How a generation is asked.

    Attributes:
        blocks: Places of the questions, block after block; each question stands in one of them.
        pictures: Of each question, the number of its picture.
        weights: Of each question in a score; above 0.
        survivors: How many of a generation are to be known for certain: CMA-ES' mu, half the population.
        error_rate: See the module.
    """

    blocks: tuple[tuple[int, ...], ...]
    pictures: tuple[int, ...]
    weights: tuple[float, ...]
    survivors: int
    error_rate: float

    @classmethod
    def deal(
        cls,
        pictures: Sequence[Hashable],
        *,
        survivors: int,
        error_rate: float = 0.2,
        blocks: int = 4,
        weights: Sequence[float] | None = None,
        seed: int = 1,
    ) -> Race:
        """Shuffles the pictures and deals them, with all of their questions, into blocks of the same number of pictures.

        Args:
            pictures: What each question is about (`Question.group`).
            survivors: From 1.
            error_rate: Between 0 and 1.
            blocks: How many at most; fewer where the first would have fewer than `PICTURES` pictures. One block is no race.
            weights: Of each question in the score: its task's weight over the task's number of questions; None: all the same.
            seed: Of the order. Another one for each generation, so that no picture comes first every time.

        Raises:
            ValueError: Numbers that are no race.
        """
        if survivors < 1 or not 0 < error_rate < 1 or blocks < 1 or not pictures:
            raise ValueError("a race has questions, one survivor and one block at least, and an error rate between 0 and 1")
        shares = (1.0,) * len(pictures) if weights is None else tuple(map(float, weights))
        if len(shares) != len(pictures) or not all(0 < share < math.inf for share in shares):
            raise ValueError("each question has a weight above 0")
        number = {picture: place for place, picture in enumerate(dict.fromkeys(pictures))}
        numbers = tuple(number[picture] for picture in pictures)
        blocks = max(1, min(blocks, len(number) // PICTURES))
        order = np.random.RandomState(seed).permutation(len(number))
        block_of = {int(picture): place * blocks // len(number) for place, picture in enumerate(order)}
        dealt = tuple(
            tuple(question for question, picture in enumerate(numbers) if block_of[picture] == block) for block in range(blocks)
        )
        return cls(dealt, numbers, shares, survivors, error_rate)

    def running(self, scores: Scores, block: int) -> tuple[int, ...]:
        """Who is asked a block: all in the first, then those that answered the one before and are not stopped after it."""
        if block == 0:
            return tuple(range(len(scores)))
        out = self.to_stop(scores, block - 1)
        return tuple(place for place in self._answered(scores, block - 1) if place not in out)

    def to_stop(self, scores: Scores, block: int) -> tuple[int, ...]:
        """Who, of those that answered a block and all before it, is asked no more.

        Args:
            scores: What is known. Rows with a NaN up to this block are out of the race already.
            block: From 0; nobody is stopped after the last.
        """
        running = self._answered(scores, block)
        if block >= len(self.blocks) - 1 or len(running) <= self.survivors:
            return ()
        asked = self._asked(block)
        share = math.fsum(self.weights[question] for question in asked) / math.fsum(self.weights)
        weights = np.array([self.weights[question] for question in asked])
        _, picture = np.unique([self.pictures[question] for question in asked], return_inverse=True)
        count = int(picture.max()) + 1
        found = scores[np.ix_(running, asked)]
        means = found @ weights / weights.sum()
        # Of a ratio estimator (Cochran, "Sampling Techniques", 1977, 6.3): pictures have different numbers of questions.
        residuals = np.array(
            [np.bincount(picture, weights * (row - mean), count) for row, mean in zip(found, means, strict=True)]
        )
        scale = math.sqrt((1 - share) * count / (count - 1)) / float(weights.sum())
        bar = self._bar(count - 1)
        stopped: list[int] = []
        for place, mean, residual in zip(running, means, residuals, strict=True):
            errors = scale * np.sqrt(np.square(residuals - residual).sum(axis=1))
            better = int(np.count_nonzero((means > mean) & (means - mean > bar * errors)))
            if better >= self.survivors:
                stopped.append(place)
        return tuple(stopped)

    def fitness(self, scores: Scores) -> list[float | None]:
        """What an optimizer is told of a generation.

        Returns:
            For each candidate its score: of all questions, or if it was stopped of those that it answered, but lowered, as
            little as floats allow, where that would not stand behind those it has to rank behind. None: it failed.
        """
        blocks, own = [0] * len(scores), [0.0] * len(scores)
        for block in range(len(self.blocks)):
            asked = self._asked(block)
            weights = np.array([self.weights[question] for question in asked])
            for place in self._answered(scores, block):
                blocks[place], own[place] = block + 1, float(np.dot(weights, scores[place, asked]) / weights.sum())
        told: list[float | None] = [None] * len(scores)
        finished = [place for place, count in enumerate(blocks) if count == len(self.blocks)]
        last = math.inf
        for place in finished:
            told[place] = own[place]
            last = min(last, own[place])
        stopped = [place for place, count in enumerate(blocks) if 0 < count < len(self.blocks)]
        for count in range(len(self.blocks) - 1, 0, -1):
            scored = sorted({own[place] for place in stopped if blocks[place] == count}, reverse=True)
            for score in scored:
                last = min(score, math.nextafter(last, -math.inf))
                for place in stopped:
                    if blocks[place] == count and own[place] == score:
                        told[place] = last
        return told

    def saved(self, scores: Scores) -> float:
        """Share of the questions that were not asked, of the candidates that did not fail."""
        raced = scores[~np.isnan(scores).all(axis=1)]
        return float(np.isnan(raced).mean()) if raced.size else 0.0

    def _asked(self, block: int) -> list[int]:
        return [question for each in self.blocks[: block + 1] for question in each]

    def _answered(self, scores: Scores, block: int) -> list[int]:
        return [int(place) for place in np.flatnonzero(~np.isnan(scores[:, self._asked(block)]).any(axis=1))]

    def _bar(self, freedom: int) -> float:
        """What a t statistic of so many degrees of freedom has to exceed."""

        total = math.fsum(self.weights)
        looks = [math.fsum(self.weights[each] for each in self._asked(at)) / total for at in range(len(self.blocks) - 1)]
        level = nominal_level(self.error_rate, tuple(looks))
        return float(_statistics().t.isf(level, freedom))


@functools.lru_cache(maxsize=256)
def nominal_level(error_rate: float, shares: tuple[float, ...]) -> float:
    """The level of each look at which all of them together err with the stated rate.

    Args:
        error_rate: Of all looks together.
        shares: Of the questions, asked at each look: growing, above 0 and below 1.

    Returns:
        Between error_rate / looks (what independent looks would need) and error_rate (one look).
    """
    if len(shares) < 2:
        return error_rate
    information = np.array(shares) / (1 - np.array(shares))
    steps = np.sqrt(np.diff(information, prepend=0.0))
    motion = np.cumsum(np.random.RandomState(1).standard_normal((DRAWS, len(shares))) * steps, axis=1)
    highest = (motion / np.sqrt(information)).max(axis=1)
    return float(_statistics().norm.sf(np.quantile(highest, 1 - error_rate)))


def _statistics() -> Any:
    """scipy's, which has no types and takes a while to load."""
    return importlib.import_module("scipy.stats")
