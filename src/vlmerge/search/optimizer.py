"""CMA-ES behind ask and tell. It maximises, keeps numpy's global random numbers out of it, and is rebuilt by replay."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlmerge.errors import RunFolderError
from vlmerge.types import Genome

if TYPE_CHECKING:
    from vlmerge.store import Generation

COLLAPSED = frozenset({"tolx", "tolfacupx", "conditioncov", "noeffectaxis", "noeffectcoord"})
"""cma's reasons to stop where the distribution has shrunk to a point or blown up. Flat scores are common: no reason."""


class Optimizer:
    """CMA-ES (Hansen, "The CMA Evolution Strategy: A Tutorial", 2016; the `cma` package) over whole generations.

    Args:
        start: First mean; one number or more.
        sigma: First step size.
        seed: From 1 (`cma` reads 0 as the clock).
        population: Candidates of a generation. One alone is asked for but teaches nothing: CMA-ES needs two.
        generations: How many.
    """

    def __init__(self, start: Genome, sigma: float, seed: int, population: int, generations: int) -> None:
        import cma  # pyright: ignore[reportMissingTypeStubs]

        if seed < 1:
            raise ValueError("seeds start at 1")
        if population < 1 or generations < 0:
            raise ValueError(f"population {population}, generations {generations}: at least 1 and 0")
        self.population, self.generations = population, generations
        self._start: Genome = tuple(map(float, start))
        self._told, self._collapsed = 0, False
        self._pending: list[Genome] | None = None
        self._random: Any = None
        options: dict[str, Any] = {"seed": seed, "popsize": max(2, population), "verbose": -9, "verb_log": 0}
        with self._own_random_numbers():
            self._strategy: Any = cma.CMAEvolutionStrategy(list(self._start), sigma, options)

    @property
    def told(self) -> int:
        """Generations that were told."""
        return self._told

    @property
    def mean(self) -> Genome:
        """Mean of the distribution after the last tell; the start before."""
        return tuple(float(number) for number in self._strategy.mean) if self._told else self._start

    @property
    def sigma(self) -> float:
        """Step size after the last tell."""
        return float(self._strategy.sigma)

    @property
    def done(self) -> bool:
        """Whether the generations are used up, or the distribution has collapsed."""
        return self._told >= self.generations or self._collapsed

    def ask(self) -> list[Genome]:
        """The candidates of the next generation; the same ones until they are told."""
        if self.done:
            raise ValueError("the search is done: there is nothing to ask for")
        if self._pending is None:
            with self._own_random_numbers():
                asked: list[Any] = self._strategy.ask()
            genomes = [tuple(float(number) for number in genome) for genome in asked]
            self._pending = genomes[: self.population]
        return list(self._pending)

    def tell(self, genomes: Sequence[Genome], fitness: Sequence[float | None]) -> None:
        """Takes a whole generation.

        Args:
            genomes: What was asked for, in that order.
            fitness: Of each; higher is better; None: it failed and ranks behind every other.
        """
        if self._pending is None or list(genomes) != self._pending or len(fitness) != len(genomes):
            raise ValueError("tell takes exactly what ask gave, with one fitness for each")
        scores = [score for score in fitness if score is not None]
        if not all(map(math.isfinite, scores)):
            raise ValueError("a fitness is not finite; None stands for a failure")
        failed = 1.0 - min(scores, default=0.0)
        failed += abs(failed)
        if len(genomes) > 1:
            with self._own_random_numbers():
                costs = [failed if score is None else -float(score) for score in fitness]
                self._strategy.tell([np.array(genome) for genome in genomes], costs)
                self._collapsed = not COLLAPSED.isdisjoint(self._strategy.stop())
        self._told += 1
        self._pending = None

    def replay(self, generations: Sequence[Generation]) -> None:
        """Brings a fresh optimizer to where a stored run stood: asks again, compares, tells again.

        Args:
            generations: Of this stage, in order. The last may be untold: `ask` then gives it once more.

        Raises:
            RunFolderError: It asks for other genomes than are stored.
        """
        for generation in generations:
            asked = self.ask()
            if asked != [tuple(genome) for genome in generation.genomes]:
                raise RunFolderError(
                    "the search cannot be rebuilt from its record",
                    where=f"generation {generation.generation} of stage {generation.stage}",
                    expected="the stored genomes, to the last bit",
                    found="other genomes: this machine or its versions of numpy and cma are not those that began the run",
                    remedy="go on where the run began, or start anew in another folder",
                )
            if generation.fitness is not None:
                self.tell(asked, generation.fitness)

    @contextlib.contextmanager
    def _own_random_numbers(self) -> Generator[None]:
        """cma draws from numpy's global generator: inside, that has this optimizer's state; outside, nothing has happened."""
        outside = np.random.get_state()
        if self._random is not None:
            np.random.set_state(self._random)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            self._random = np.random.get_state()
            np.random.set_state(outside)


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
