"""The contract of an optimizer: whole generations, asked for and told. It maximises, and is rebuilt by replay."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from vlmerge.errors import RunFolderError
from vlmerge.search.genes import Distribution, Gene
from vlmerge.store import Fitness
from vlmerge.types import Genome

if TYPE_CHECKING:
    from vlmerge.store import Generation


class Optimizer(ABC):
    """Asks for a generation of genomes, is told their fitness, and learns from it.

    An optimizer draws no number that does not follow from its seed, and leaves the generators of `numpy` and `random` as it
    found them. No state is stored: after a crash, `replay` asks and tells a stored run's generations again.

    Args:
        genes: What a genome holds, in order; one or more.
        start: Where the search begins. A mean out of the genes' bounds is brought to the nearest that is within.
        seed: From 1 (`cma` reads 0 as the clock).
        population: Candidates of a generation.
        generations: How many. Together at most population × generations candidates are asked for.
        options: The algorithm's own; each file has a dataclass of them.
    """

    several: ClassVar[bool] = False
    """Whether a fitness has several numbers, one for each objective."""

    def __init__(
        self,
        genes: Sequence[Gene],
        start: Distribution,
        seed: int,
        population: int,
        generations: int,
        options: Mapping[str, object] | None = None,
    ) -> None:
        if seed < 1:
            raise ValueError("seeds start at 1")
        if population < 1 or generations < 0:
            raise ValueError(f"population {population}, generations {generations}: at least 1 and 0")
        if not genes or len(start.mean) != len(genes):
            raise ValueError(f"a start of {len(start.mean)} numbers for {len(genes)} genes: one each, and at least one gene")
        if not start.sigma > 0:
            raise ValueError(f"step size {start.sigma}: above 0")
        self.genes = tuple(genes)
        self.start = Distribution(within(self.genes, start.mean), float(start.sigma), start.covariance)
        self.seed, self.generations = seed, generations
        self._population = self._size = population
        self._left = population * generations
        self._told = 0
        self._pending: list[Genome] | None = None
        self._begin(options or {})

    @abstractmethod
    def _begin(self, options: Mapping[str, object]) -> None:
        """Reads the options and makes what draws the first generation."""

    def _check_injected(self, genomes: Sequence[Sequence[float]]) -> None:
        if any(len(genome) != len(self.genes) for genome in genomes):
            raise ValueError(f"a genome to inject that has not {len(self.genes)} genes")

    @property
    def population(self) -> int:
        """Candidates of the next generation."""
        return self._size

    @property
    def told(self) -> int:
        """Generations that were told."""
        return self._told

    @property
    def left(self) -> int:
        """Candidates that may still be asked for; less than a first generation's are not."""
        return self._left

    @property
    def done(self) -> bool:
        """Whether there is nothing left to ask for."""
        return self._left < self._population

    @property
    def resizes(self) -> bool:
        """Whether a generation may have more candidates than the one before: see `resize`."""
        return False

    def resize(self, population: int) -> None:
        """Says how many candidates the generations have that are asked for from now on.

        Args:
            population: From the first generation's on; where fewer candidates are left, it is those.

        Raises:
            ValueError: This optimizer cannot, or a generation was asked for and is not told yet.
        """
        size = min(population, self._left)
        if size == self.population:
            return
        if not self.resizes or size < self._population:
            raise ValueError(f"generations of {population} candidates: {type(self).__name__} began with {self._population}")
        if self._pending is not None:
            raise ValueError("a generation was asked for, and is to be told first")
        self._resize(size)

    def _resize(self, size: int) -> None:
        """Generations have so many candidates from now on."""
        self._size = size

    @property
    @abstractmethod
    def mean(self) -> Genome:
        """The genome that stands for what was learnt, within the bounds: the distribution's mean where there is one."""

    @property
    @abstractmethod
    def sigma(self) -> float:
        """Step size after the last tell."""

    @property
    def distribution(self) -> Distribution:
        """What a next stage may begin from."""
        return Distribution(self.mean, self.sigma, self.start.covariance)

    @abstractmethod
    def _draw(self) -> list[Genome]:
        """The candidates of a new generation."""

    @abstractmethod
    def _learn(self, genomes: list[Genome], fitness: list[Fitness | None]) -> None:
        """Takes a generation's fitness; it was checked."""

    def ask(self) -> list[Genome]:
        """The candidates of the next generation; the same ones until they are told."""
        if self.done:
            raise ValueError("the search is done: there is nothing to ask for")
        if self._pending is None:
            self._pending = self._draw()
        return list(self._pending)

    def tell(self, genomes: Sequence[Genome], fitness: Sequence[Fitness | None]) -> None:
        """Takes a whole generation.

        Args:
            genomes: What was asked for, in that order.
            fitness: Of each; higher is better; None: it failed and ranks behind every other.

        Raises:
            ValueError: Anything else; nothing was learnt then.
        """
        if self._pending is None or list(genomes) != self._pending or len(fitness) != len(genomes):
            raise ValueError("tell takes exactly what ask gave, with one fitness for each")
        self._check(fitness)
        self._left -= len(self._pending)
        self._learn(self._pending, list(fitness))
        self._told += 1
        self._pending = None

    def _check(self, fitness: Sequence[Fitness | None]) -> None:
        numbers = [score if isinstance(score, tuple) else (score,) for score in fitness if score is not None]
        if any(isinstance(score, tuple) != self.several for score in fitness if score is not None):
            raise ValueError(f"a fitness is {'a tuple, one number for each objective' if self.several else 'one number'}")
        if len({len(each) for each in numbers}) > 1:
            raise ValueError("the candidates have different numbers of objectives")
        if not all(math.isfinite(number) for each in numbers for number in each):
            raise ValueError("a fitness is not finite; None stands for a failure")

    def replay(self, generations: Sequence[Generation]) -> None:
        """Brings a fresh optimizer to where a stored run stood: asks again, compares, tells again.

        Args:
            generations: Of this stage, in order. The last may be untold: `ask` then gives it once more.

        Raises:
            RunFolderError: It asks for other genomes than are stored.
        """
        for generation in generations:
            if self.resizes and not self.done and len(generation.genomes) >= self._population:
                self.resize(len(generation.genomes))
            asked = [] if self.done else self.ask()
            if asked != [tuple(genome) for genome in generation.genomes]:
                raise RunFolderError(
                    "the search cannot be rebuilt from its record",
                    where=f"generation {generation.generation} of stage {generation.stage}",
                    expected="the stored genomes, to the last bit",
                    found="other genomes: this machine or its versions of numpy and of the optimizer are not "
                    "those that began the run",
                    remedy="go on where the run began, or start anew in another folder",
                )
            if generation.fitness is not None:
                self.tell(asked, generation.fitness)


class BestSoFar(Optimizer):
    """One that has no distribution: the best candidate stands for what was learnt, and the step size stays the start's."""

    _best: tuple[float, Genome] | None = None

    @property
    def mean(self) -> Genome:
        """The best candidate that was told, of equals the first; the start before."""
        return self.start.mean if self._best is None else self._best[1]

    @property
    def sigma(self) -> float:
        """The start's."""
        return self.start.sigma

    def _note(self, genome: Genome, score: float | None) -> None:
        if score is not None and (self._best is None or score > self._best[0]):
            self._best = (score, genome)


def within(genes: Sequence[Gene], genome: Sequence[float]) -> Genome:
    """The nearest genome that is within the genes' bounds; of a categorical gene the nearest choice."""
    return tuple(map(_into, genes, genome))


def _into(gene: Gene, number: float) -> float:
    if gene.choices:
        return float(min(max(round(number), 0), len(gene.choices) - 1))
    low, high = -math.inf if gene.low is None else gene.low, math.inf if gene.high is None else gene.high
    return min(max(float(number), low), high)


def single(fitness: Sequence[Fitness | None]) -> list[float | None]:
    """The same, of an optimizer with one objective, as its type says."""
    return cast("list[float | None]", list(fitness))


def costs(fitness: Sequence[float | None]) -> list[float]:
    """To be minimised; a failure costs clearly more than any other candidate of the generation."""
    failed = 1.0 - min((score for score in fitness if score is not None), default=0.0)
    failed += abs(failed)
    return [failed if score is None else -float(score) for score in fitness]
