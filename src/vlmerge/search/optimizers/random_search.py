"""Random search: what every other optimizer has to beat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vlmerge.search.genes import Distribution, Gene
from vlmerge.search.optimizers.contract import BestSoFar, Fitness, single, within
from vlmerge.search.optimizers.covariance import first_covariance
from vlmerge.search.optimizers.options import read_options
from vlmerge.types import Genome


@dataclass(frozen=True)
class RandomOptions:
    """Random search has no options."""


class Draws:
    """Genomes that know nothing of fitness: uniform between two bounds and over choices, else normal around the start.

    Args:
        genes: What a genome holds.
        start: Mean, step size and covariance of the genes that have not both bounds.
        seed: Of its own generator.
    """

    def __init__(self, genes: Sequence[Gene], start: Distribution, seed: int) -> None:
        self._genes, self._start = tuple(genes), start
        self._root = np.linalg.cholesky(first_covariance(genes, start))
        self._random = np.random.RandomState(seed)

    def one(self) -> Genome:
        """The next genome."""
        normal = self._root @ self._random.standard_normal(len(self._genes))
        uniform = self._random.uniform(size=len(self._genes))
        drawn: list[float] = []
        for gene, mean, step, share in zip(self._genes, self._start.mean, normal, uniform, strict=True):
            if gene.choices:
                drawn.append(math.floor(share * len(gene.choices)))
            elif gene.low is not None and gene.high is not None:
                drawn.append(gene.low + share * (gene.high - gene.low))
            else:
                drawn.append(mean + self._start.sigma * step)
        return within(self._genes, [float(number) for number in drawn])


class RandomSearch(BestSoFar):
    """Draws every candidate anew; `mean` is the best so far, the step size stays the start's.

    Args:
        genes: Of any kind.
        start: Around which genes without two bounds are drawn.
        seed: From 1.
        population: Candidates of a generation.
        generations: How many.
        options: None.
    """

    def _begin(self, options: Mapping[str, object]) -> None:
        read_options(RandomOptions, "random", options)
        self._draws = Draws(self.genes, self.start, self.seed)

    @property
    def resizes(self) -> bool:
        """It may: no candidate knows of its generation."""
        return True

    def _draw(self) -> list[Genome]:
        return [self._draws.one() for _ in range(self.population)]

    def _learn(self, genomes: list[Genome], fitness: list[Fitness | None]) -> None:
        for genome, score in zip(genomes, single(fitness), strict=True):
            self._note(genome, score)
