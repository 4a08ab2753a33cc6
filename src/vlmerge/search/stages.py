"""Coarse to fine: which searches follow one another in a run, each from the distribution's mean of the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vlmerge.config import ModelRef, RunConfig
from vlmerge.search.genes import Distribution, Gene
from vlmerge.search.genome_space import GenomeSpace
from vlmerge.search.group_space import GroupSpace, grouped
from vlmerge.search.optimizers import CmaEs, Optimizer, plan
from vlmerge.search.space import SearchSpace
from vlmerge.types import Genome


@dataclass(frozen=True)
class Stage:
    """One search.

    Attributes:
        name: `global` (one number per model), `groups` (one per model and group), or `genome` (mergekit-evolve's).
        space: What it varies.
        start: Where it begins; None: at the mean of the stage before, lifted into this space.
        sigma: First step size.
        seed: Of the optimizer.
        population: Candidates of a generation.
        generations: How many.
    """

    name: Literal["global", "groups", "genome"]
    space: SearchSpace
    start: Genome | None
    sigma: float
    seed: int
    population: int
    generations: int

    @property
    def budget(self) -> int:
        """Candidates in all."""
        return self.population * self.generations

    def optimizer(self, mean: Genome | None = None) -> Optimizer:
        """A fresh optimizer; `mean` is the last stage's, where there was one."""
        start = self.start if self.start is not None else self.space.start if mean is None else self.space.lift(mean)
        genes = tuple(Gene(name) for name in self.space.names)
        return CmaEs(genes, Distribution(start, self.sigma), self.seed, self.population, self.generations)


def stages(
    config: RunConfig, layers: int, host: ModelRef, ranked: Sequence[Mapping[ModelRef, float]] = ()
) -> tuple[Stage, ...]:
    """The stages of a run, which together try at most `search.max_fevals` candidates.

    Args:
        config: The run.
        layers: Number of the decoder's layers.
        host: Becomes every recipe's `vlm`.
        ranked: Of the best hand-set baseline: where the first stage of a `merge:` run begins if its space can say them (else
            at equal weights).

    Raises:
        ConfigError: The space does not fit the number of layers.
    """
    search = config.search
    if config.genome is not None:
        space = GenomeSpace(config.genome, host, layers, search.seed if config.random_init else None)
        population, generations = plan(search.max_fevals, len(space.names), search.population, enlarge=False)
        return (Stage("genome", space, space.start, config.sigma, search.seed, population, generations),)
    assert config.merge is not None
    fine, coarse = grouped(config.merge, host, layers), GroupSpace(config.merge, host, layers)
    # One group for everything is the global space itself.
    budget = search.max_fevals if len(fine.names) == len(coarse.names) else min(search.global_fevals, search.max_fevals)
    found: list[Stage] = []
    if budget:
        population, generations = plan(budget, len(coarse.names), search.population)
        start = _start(coarse, ranked)
        found.append(Stage("global", coarse, start, search.global_sigma, search.seed, population, generations))
    left = search.max_fevals - sum(stage.budget for stage in found)
    if len(fine.names) > len(coarse.names) and search.max_fevals > budget:
        population, generations = plan(left, len(fine.names), search.population)
        start = None if found else _start(fine, ranked)
        found.append(Stage("groups", fine, start, config.sigma, search.seed, population, generations))
    return tuple(found)


def _start(space: GroupSpace, ranked: Sequence[Mapping[ModelRef, float]]) -> Genome:
    said = (space.genome_of(weights) for weights in ranked)
    return next((genome for genome in said if genome is not None), space.start)
