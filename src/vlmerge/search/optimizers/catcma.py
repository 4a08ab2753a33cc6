"""CatCMA with margin: real and categorical genes together, say a method and its parameters."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from vlmerge.search.genes import Distribution
from vlmerge.search.optimizers.contract import Fitness, Optimizer, costs, single, within
from vlmerge.search.optimizers.covariance import first_covariance, rows
from vlmerge.search.optimizers.options import read_options
from vlmerge.types import Genome


@dataclass(frozen=True)
class CatCmaOptions:
    """What can be said about CatCMA.

    Attributes:
        hold: Share of the first probabilities that the start's choices keep for themselves; the rest is divided equally.
            0: every choice is equally probable, as published; above 0 for a search that goes on from an earlier one.
    """

    hold: Annotated[float, Field(ge=0, lt=1)] = 0.0


class CatCma(Optimizer):
    """CatCMA with Margin (Hamano et al., 2025, arXiv:2504.07884; the `cmaes` package).

    A normal distribution over the real genes and a probability for each choice of the categorical ones, learnt together from
    ranks. The margin keeps every choice possible: with k categorical genes, the choices of each but the most probable one keep
    at least 1 − 0.73^(1/k) together; 27 % of the candidates where there is one such gene, 10 % where there are three. A
    generation of one candidate is asked for but teaches nothing.

    Args:
        genes: Real ones, with bounds or without, and categorical ones; either alone will do.
        start: First mean, step size and covariance of the real genes; of categorical ones see `CatCmaOptions.hold`.
        seed: From 1.
        population: Candidates of a generation.
        generations: How many.
        options: See `CatCmaOptions`.
    """

    def _begin(self, options: Mapping[str, object]) -> None:
        from cmaes import CatCMAwM  # pyright: ignore[reportMissingTypeStubs]

        self.options = read_options(CatCmaOptions, "catcma", options)
        self._real = [place for place, gene in enumerate(self.genes) if not gene.choices]
        # What offers one choice is none: the genome holds 0.
        self._chosen = [place for place, gene in enumerate(self.genes) if len(gene.choices) > 1]
        covariance = first_covariance(self.genes, self.start)[np.ix_(self._real, self._real)]
        bounds = [
            [-math.inf if gene.low is None else gene.low, math.inf if gene.high is None else gene.high]
            for gene in (self.genes[place] for place in self._real)
        ]
        self._pairs: list[Any] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._strategy: Any = CatCMAwM(
                x_space=bounds or None,
                c_space=[len(self.genes[place].choices) for place in self._chosen] or None,
                population_size=max(2, self._population),
                mean=np.array([self.start.mean[place] for place in self._real]) if self._real else None,
                sigma=self.start.sigma,
                cov=covariance if self._real else None,
                cat_param=self._probabilities() if self._chosen else None,
                seed=self.seed,
            )

    def _probabilities(self) -> Any:
        """First probabilities: (categorical genes, most choices), 0 where a gene has fewer."""
        sizes = [len(self.genes[place].choices) for place in self._chosen]
        first = np.zeros((len(sizes), max(sizes)))
        for row, (place, size) in enumerate(zip(self._chosen, sizes, strict=True)):
            first[row, :size] = (1 - self.options.hold) / size
            first[row, int(self.start.mean[place])] += self.options.hold
        return first

    @property
    def probabilities(self) -> dict[str, tuple[float, ...]]:
        """Categorical gene → the probability of each of its choices."""
        return {
            self.genes[place].name: tuple(map(float, self._strategy._q[row, : len(self.genes[place].choices)]))
            for row, place in enumerate(self._chosen)
        }

    @property
    def mean(self) -> Genome:
        """Mean of the real genes, the most probable choice of the others; the start before the first tell."""
        if not self._told:
            return self.start.mean
        return self._genome(self._strategy._mean if self._real else (), [each.argmax() for each in self._choices()])

    def _choices(self) -> list[Any]:
        return list(self._strategy._q) if self._chosen else []

    @property
    def sigma(self) -> float:
        """Step size of the real genes after the last tell; the start's where there are none."""
        return float(self._strategy._sigma) if self._real else self.start.sigma

    @property
    def distribution(self) -> Distribution:
        """Mean and step size, and the real genes' covariance; a categorical gene has variance 1 there and no correlation."""
        if not self._told or not self._real:
            return Distribution(self.mean, self.sigma, self.start.covariance)
        matrix = np.eye(len(self.genes))
        matrix[np.ix_(self._real, self._real)] = self._strategy._C
        return Distribution(self.mean, self.sigma, rows(matrix))

    def _genome(self, real: Sequence[float], choices: Sequence[int]) -> Genome:
        genome = [0.0] * len(self.genes)
        for place, number in [*zip(self._real, real, strict=True), *zip(self._chosen, choices, strict=True)]:
            genome[place] = float(number)
        return within(self.genes, genome)

    def _draw(self) -> list[Genome]:
        self._pairs = [self._strategy.ask() for _ in range(self.population)]
        return [
            self._genome(each.x if self._real else (), [choice.argmax() for choice in each.c] if self._chosen else ())
            for each in self._pairs
        ]

    def _learn(self, genomes: list[Genome], fitness: list[Fitness | None]) -> None:
        if len(genomes) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._strategy.tell(list(zip(self._pairs, costs(single(fitness)), strict=True)))
