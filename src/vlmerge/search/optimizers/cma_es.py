"""CMA-ES, the default: a normal distribution that learns its mean, step size and covariance from the ranks of a generation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from vlmerge.search.genes import Distribution
from vlmerge.search.optimizers.contract import Fitness, Optimizer, costs, single, within
from vlmerge.search.optimizers.covariance import first_covariance, rows
from vlmerge.search.optimizers.options import read_options
from vlmerge.search.optimizers.own_numbers import OwnNumbers
from vlmerge.types import Genome

COLLAPSED = frozenset({"tolx", "tolfacupx", "conditioncov", "noeffectaxis", "noeffectcoord"})
"""cma's reasons to stop where the distribution has shrunk to a point or blown up. Flat scores are common: no reason."""


@dataclass(frozen=True)
class CmaEsOptions:
    """What can be said about CMA-ES.

    Attributes:
        active: Whether bad candidates teach too, by negative weights (Jastrebski and Arnold, 2006).
        diagonal: Whether the covariance is kept diagonal (sep-CMA-ES, Ros and Hansen, 2008): for a hundred genes and more.
        restarts: Whether a distribution that has collapsed begins anew while candidates are left: `none` (the search ends),
            `ipop` (each time with a larger population; Auger and Hansen, 2005), or `bipop` (in turn with a larger one, and
            with a small one and a small step; Hansen, 2009).
        growth: Factor of the population from one restart to the next.
        tolx: A distribution has collapsed when every standard deviation is below this.
        inject: Genomes that stand first in the first generation: baselines, winners of other runs. What they teach is cut to
            the length of a usual step (Hansen, 2011).
    """

    active: bool = True
    diagonal: bool = False
    restarts: Literal["none", "ipop", "bipop"] = "none"
    growth: Annotated[float, Field(ge=1, le=10)] = 2.0
    tolx: Annotated[float, Field(gt=0)] = 1e-11
    inject: tuple[tuple[float, ...], ...] = ()


@dataclass
class _Descent:
    """One distribution from its start to its collapse.

    Attributes:
        strategy: cma's object.
        population: Candidates of a generation.
        small: Whether it is one of BIPOP's small ones.
        limit: Candidates that it may ask for at most; None: whatever is left.
        spent: Candidates that it has asked for.
        middle: Median fitness of its last generation; minus infinity before the first, or where all failed.
    """

    strategy: Any
    population: int
    small: bool = False
    limit: int | None = None
    spent: int = 0
    middle: float = -math.inf


class CmaEs(Optimizer):
    """CMA-ES (Hansen, "The CMA Evolution Strategy: A Tutorial", 2016; the `cma` package).

    A generation of one candidate is asked for but teaches nothing: CMA-ES needs two. The search ends before its generations are
    used up if the distribution collapses; with restarts it begins anew, at a point that is drawn from the start, as long as
    candidates for two generations are left. `mean`, `sigma`
    and `distribution` are then those of the descent whose last generation had the best median.

    Args:
        genes: Real numbers, with bounds or without (`cma`'s BoundTransform: a smooth map, the identity except near a bound).
        start: First mean, step size and covariance.
        seed: From 1.
        population: Candidates of a generation, up to the first restart.
        generations: How many; restarts with another population share their candidates.
        options: See `CmaEsOptions`.
    """

    def _begin(self, options: Mapping[str, object]) -> None:
        if any(gene.choices for gene in self.genes):
            raise ValueError("cma-es has no categorical genes; catcma has")
        self.options = read_options(CmaEsOptions, "cma-es", options)
        self._check_injected(self.options.inject)
        self._own = OwnNumbers()
        self._bounded = any(gene.low is not None or gene.high is not None for gene in self.genes)
        self._restarts = self._large = 0
        self._collapsed = False
        self._covariance = first_covariance(self.genes, self.start)
        strategy = self._strategy(self.start.mean, self.start.sigma, self._population, self.seed)
        self._descent = _Descent(strategy, self._population)
        self._inject(self.options.inject[: self._population])
        self._kept: tuple[float, Distribution] | None = None
        self._spent = {"large": 0, "small": 0}

    def _strategy(self, mean: Genome, sigma: float, population: int, seed: int) -> Any:
        """A fresh distribution. Where options and genes are the defaults, cma gets nothing but seed and population."""
        import cma  # pyright: ignore[reportMissingTypeStubs]

        said: dict[str, Any] = {"seed": seed, "popsize": max(2, population), "verbose": -9, "verb_log": 0}
        deviations = np.sqrt(np.diag(self._covariance))
        if any(deviations != 1):
            said["CMA_stds"] = deviations
        if self._bounded:
            said["bounds"] = [[gene.low for gene in self.genes], [gene.high for gene in self.genes]]
            if len(self.genes) == 1:  # cma cannot hold the deviation of a single gene below a third of its range, and raises.
                said["maxstd_boundrange"] = math.inf
        if not self.options.active:
            said["CMA_active"] = False
        if self.options.diagonal:
            said["CMA_diagonal"] = True
        if self.options.tolx != CmaEsOptions.tolx:
            said["tolx"] = self.options.tolx
        with self._own():
            strategy: Any = cma.CMAEvolutionStrategy(list(mean), sigma, said)
            correlation = self._covariance / np.outer(deviations, deviations)
            if not self.options.diagonal and np.any(correlation != np.eye(len(self.genes))):
                strategy.sm.C = correlation
                strategy.sm.update_now(-1)  # Decomposes it for sampling and for the step size's path.
        return strategy

    def _inject(self, genomes: Sequence[Genome]) -> None:
        strategy = self._descent.strategy
        with self._own():
            for genome in genomes:
                inner = strategy.gp.geno(np.array(within(self.genes, genome)), from_bounds=strategy.boundary_handler.inverse)
                strategy.inject([inner], force=True)

    @property
    def population(self) -> int:
        """Candidates of the next generation."""
        return self._descent.population

    @property
    def resizes(self) -> bool:
        """It may, unless restarts say themselves how many candidates a generation has."""
        return self.options.restarts == "none"

    def _resize(self, size: int) -> None:
        """Weights and rates become those of a search that began with the size; mean, step size, covariance and paths stay.

        So does PSA-CMA-ES (Nishida and Akimoto, 2018), which corrects the step size as well; here it follows by itself.
        """
        strategy = self._descent.strategy
        strategy.opts["CMA_mirrors"] = size < 6  # cma's default, which it works out once.
        with self._own():
            strategy.sp.set(strategy.opts, size)
            if self.options.active:
                rates = {"c1": strategy.sp.c1_sep, "cmu": strategy.sp.cmu_sep}
                if not self.options.diagonal:
                    rates = strategy.sm.parameters(mueff=strategy.sp.weights.mueff, lam=size)
                strategy.sp.weights.finalize_negative_weights(
                    len(self.genes), rates["c1"], rates["cmu"], pos_def=not self.options.diagonal
                )
            if strategy.adapt_sigma.is_initialized:
                strategy.adapt_sigma.initialize_settings(strategy, reset=True)
        self._descent.population = size

    @property
    def restarts(self) -> int:
        """How often the search has begun anew."""
        return self._restarts

    @property
    def done(self) -> bool:
        """Whether the candidates are used up, or the distribution has collapsed for good."""
        return self._collapsed or self._left < (self.population if self._restarts else self._population)

    @property
    def mean(self) -> Genome:
        """Mean of the distribution after the last tell; the start before."""
        kept = self._before()
        return self._mean() if kept is None else kept.mean

    @property
    def sigma(self) -> float:
        """Step size after the last tell."""
        kept = self._before()
        return float(self._descent.strategy.sigma) if kept is None else kept.sigma

    @property
    def distribution(self) -> Distribution:
        """Mean, step size and covariance of the best descent."""
        kept = self._before()
        return self._standing() if kept is None else kept

    def _before(self) -> Distribution | None:
        """The best of the descents that have ended, where the present one is not better."""
        if self._kept is not None and (self._descent.spent == 0 or self._kept[0] > self._descent.middle):
            return self._kept[1]
        return None

    def _mean(self) -> Genome:
        """The present descent's."""
        strategy = self._descent.strategy
        if self._descent.spent == 0:
            return self.start.mean
        mean = strategy.mean
        if self._bounded or not strategy.gp.isidentity:
            mean = strategy.gp.pheno(mean, into_bounds=strategy.boundary_handler.repair)
        return tuple(float(number) for number in mean)

    def _standing(self) -> Distribution:
        """The present descent's distribution."""
        strategy = self._descent.strategy
        if self._descent.spent == 0:
            return Distribution(self.start.mean, float(strategy.sigma), self.start.covariance)
        matrix: Any = strategy.sm.covariance_matrix
        deviations = np.ones(len(self.genes)) * strategy.sigma_vec.scaling
        learnt = np.outer(deviations, deviations) * (np.eye(len(self.genes)) if matrix is None else matrix)
        if not strategy.gp.isidentity:  # cma has passed a covariance's condition beyond 1e12 on to a linear map of its own.
            learnt = strategy.gp._tf_matrix @ learnt @ strategy.gp._tf_matrix.T
        return Distribution(self._mean(), float(strategy.sigma), rows(learnt))

    def _draw(self) -> list[Genome]:
        with self._own():
            asked: list[Any] = self._descent.strategy.ask()
        return [tuple(float(number) for number in genome) for genome in asked][: self.population]

    def _learn(self, genomes: list[Genome], fitness: list[Fitness | None]) -> None:
        scores = single(fitness)
        collapsed = False
        if len(genomes) > 1:
            strategy = self._descent.strategy
            with self._own():
                strategy.tell([np.array(genome) for genome in genomes], costs(scores))
                collapsed = not COLLAPSED.isdisjoint(strategy.stop())
        self._descent.spent += len(genomes)
        self._descent.middle = statistics.median(-math.inf if score is None else score for score in scores)
        if collapsed:
            self._collapsed = self.options.restarts == "none" or self._left < 2 * self._population
        full = self._descent.limit is not None and self._descent.spent + self.population > self._descent.limit
        if (collapsed or full) and not self._collapsed:
            self._restart()

    def _restart(self) -> None:
        """Begins anew, at a point drawn from the start."""
        ended, first = self._descent, self._population
        if self._kept is None or ended.middle > self._kept[0]:
            self._kept = (ended.middle, self._standing())
        self._spent["small" if ended.small else "large"] += ended.spent
        self._restarts += 1
        drawn = np.random.RandomState(np.random.SeedSequence([self.seed, self._restarts]).generate_state(4))
        sigma, limit = self.start.sigma, None
        small = self.options.restarts == "bipop" and self._large > 0 and self._spent["small"] < self._spent["large"]
        if small:
            ratio = 0.5 * self.options.growth**self._large
            size, limit = first * ratio ** (drawn.uniform() ** 2), self._spent["large"] // 2
            sigma *= 10 ** (-2 * drawn.uniform())
        else:
            self._large += 1
            size = first * self.options.growth**self._large
        population = max(2, min(int(size), self._left // 2))
        step = np.linalg.cholesky(self._covariance) @ drawn.standard_normal(len(self.genes))
        mean = within(self.genes, [at + self.start.sigma * float(by) for at, by in zip(self.start.mean, step, strict=True)])
        strategy = self._strategy(mean, sigma, population, int(drawn.randint(1, 2**31)))
        self._descent = _Descent(strategy, population, small, limit)
