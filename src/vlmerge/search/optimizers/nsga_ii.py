"""NSGA-II: several objectives at once, and the front of candidates that no other one beats in all of them."""

from __future__ import annotations

import dataclasses
import importlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import numpy as np
from pydantic import Field

from vlmerge.aims.fronts import dominates
from vlmerge.search.optimizers.boxes import box
from vlmerge.search.optimizers.contract import Fitness, Optimizer, within
from vlmerge.search.optimizers.options import read_options
from vlmerge.search.optimizers.own_numbers import OwnNumbers
from vlmerge.search.optimizers.random_search import Draws
from vlmerge.types import Genome

TRIES = 5
"""How often children are bred anew where they are what was there already, before others are drawn."""


@dataclass(frozen=True)
class NsgaOptions:
    """What can be said about NSGA-II.

    Attributes:
        reach: Genes without a bound are searched so many standard deviations around the start.
        inject: Genomes that stand first in the first generation: baselines, the best of single objectives.
    """

    reach: Annotated[float, Field(gt=0)] = 4.0
    inject: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class FrontPoint:
    """A candidate that no other one beats.

    Attributes:
        genome: What it is.
        fitness: One number for each objective.
    """

    genome: Genome
    fitness: tuple[float, ...]


class NsgaII(Optimizer):
    """NSGA-II (Deb et al., 2002; `pymoo`, with its crossovers and mutations for real and categorical genes).

    The first generation is drawn from the start's distribution. A fitness is a tuple, one number for each objective, all of
    them maximised. `mean` is the front's point nearest to the best of every objective, each scaled to the front's width;
    `sigma` the spread of the last generation, in the genes' scales.

    Args:
        genes: Of any kind; those without a bound are searched in a box around the start.
        start: Around which the first generation is drawn.
        seed: From 1.
        population: Candidates of a generation.
        generations: How many.
        options: See `NsgaOptions`.
    """

    several = True

    def _begin(self, options: Mapping[str, object]) -> None:
        self.options = read_options(NsgaOptions, "nsga-ii", options)
        self._check_injected(self.options.inject)
        bounds = box(self.genes, self.start, self.options.reach)
        self._boxed = tuple(
            gene if gene.choices else dataclasses.replace(gene, low=low, high=high)
            for gene, (low, high) in zip(self.genes, bounds, strict=True)
        )
        self._own = OwnNumbers(self.seed)
        # Normal around the start, whatever the bounds: a search that goes on from another one begins where that ended.
        free = tuple(dataclasses.replace(gene, low=None, high=None) for gene in self.genes)
        self._draws = Draws(free, self.start, self.seed)
        self._algorithm: Any = None
        self._asked: Any = None
        self._front: tuple[FrontPoint, ...] = ()
        self._sigma = self.start.sigma

    def _fresh(self) -> Any:
        """pymoo's object, with the first generation in it."""
        first = [within(self._boxed, genome) for genome in self.options.inject][: self.population]
        first += [within(self._boxed, self._draws.one()) for _ in range(self.population - len(first))]
        elimination = _pymoo("core.mixed").MixedVariableDuplicateElimination()
        nsga = _pymoo("algorithms.moo.nsga2")
        tournament = _pymoo("operators.selection.tournament").TournamentSelection(func_comp=nsga.binary_tournament)
        mating = _pymoo("core.mixed").MixedVariableMating(tournament, eliminate_duplicates=elimination, n_max_iterations=TRIES)
        algorithm = nsga.NSGA2(
            pop_size=max(2, self.population),
            n_offsprings=self.population,
            sampling=_population([self._named(genome) for genome in first]),
            mating=mating,
            eliminate_duplicates=False,
        )
        return algorithm.setup(self._problem(1), termination=("n_gen", self.generations + 1), seed=self.seed, verbose=False)

    def _problem(self, objectives: int) -> Any:
        variable = _pymoo("core.variable")
        kinds = {
            str(place): variable.Choice(options=list(range(len(gene.choices))))
            if gene.choices
            else variable.Real(bounds=(gene.low, gene.high))
            for place, gene in enumerate(self._boxed)
        }
        return _pymoo("core.problem").Problem(vars=kinds, n_obj=objectives, n_ieq_constr=1)

    def _named(self, genome: Genome) -> dict[str, float | int]:
        return {
            str(place): int(number) if gene.choices else number
            for place, (gene, number) in enumerate(zip(self.genes, genome, strict=True))
        }

    @property
    def front(self) -> tuple[FrontPoint, ...]:
        """Every told candidate that no other one beats, in the order in which they were told."""
        return self._front

    @property
    def mean(self) -> Genome:
        """The front's most balanced point; the start before there is one."""
        if not self._front:
            return self.start.mean
        scores = np.array([point.fitness for point in self._front])
        width = np.ptp(scores, axis=0)
        lost = (scores.max(axis=0) - scores) / np.where(width > 0, width, 1.0)
        return self._front[int(np.argmin(np.square(lost).sum(axis=1)))].genome

    @property
    def sigma(self) -> float:
        """Root mean variance of the last generation's real genes, each in its scale; the start's before."""
        return self._sigma

    def _draw(self) -> list[Genome]:
        with self._own():
            if self._algorithm is None:
                self._algorithm = self._fresh()
            infills: Any = self._algorithm.ask()
            found: list[Any] = [] if infills is None else [each.X for each in infills][: self.population]
            # A space of few choices has no more that is new.
            found += [self._named(within(self._boxed, self._draws.one())) for _ in range(self.population - len(found))]
            self._asked = _population(found)
        names = [str(place) for place in range(len(self.genes))]
        return [within(self._boxed, [float(each[name]) for name in names]) for each in found]

    def _learn(self, genomes: list[Genome], fitness: list[Fitness | None]) -> None:
        scores = cast("list[tuple[float, ...] | None]", fitness)
        told = [FrontPoint(genome, score) for genome, score in zip(genomes, scores, strict=True) if score is not None]
        objectives = len((*self._front, *told)[0].fitness) if self._front or told else 1
        if any(len(point.fitness) != objectives for point in told):
            raise ValueError(f"{len(told[0].fitness)} objectives; the generations before had {objectives}")
        self._front = front((*self._front, *told))
        with self._own():
            self._asked.set("F", np.array([[0.0] * objectives if s is None else [-each for each in s] for s in scores]))
            # A violated constraint ranks behind every candidate that keeps it, in every generation.
            self._asked.set("G", np.array([[1.0 if score is None else -1.0] for score in scores]))
            for each in self._asked:
                each.evaluated.update(("F", "G"))
            self._algorithm.problem = self._problem(objectives)
            self._algorithm.tell(infills=self._asked)
        real = [place for place, gene in enumerate(self.genes) if not gene.choices]
        if real and len(genomes) > 1:
            variances = [statistics.pvariance([genome[at] / self.genes[at].scale for genome in genomes]) for at in real]
            self._sigma = max(math.sqrt(statistics.fmean(variances)), math.ulp(1.0))


def _pymoo(module: str) -> Any:
    """A module of pymoo, which has no types."""
    return importlib.import_module(f"pymoo.{module}")


def _population(genomes: Sequence[Mapping[str, float | int]]) -> Any:
    return _pymoo("core.population").Population.new(X=list(genomes))


def front(points: Sequence[FrontPoint]) -> tuple[FrontPoint, ...]:
    """Those that no other one beats: as good in every objective and better in one. Of equal genomes the first."""
    kept: list[FrontPoint] = []
    for place, point in enumerate(points):
        beaten = any(dominates(other.fitness, point.fitness) for other in points)
        if not beaten and all(other.genome != point.genome for other in points[:place]):
            kept.append(point)
    return tuple(kept)
