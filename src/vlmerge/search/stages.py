"""Coarse to fine: which searches follow one another in a run, each from the distribution of the one before.

How many genes a search carries was measured on the demo family: 12 to 15 at 168 candidates and 192 questions; 21 pay with 768
questions (docs/search.md). Hence the rule: ten candidates for each gene, and at most 15 · √(questions / 192) genes. `space:
auto` takes a further stage only where both hold; spaces that a run lists are taken as they are, and `notes` says what they
exceed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vlmerge.config import MergeSpec, ModelRef, RacingSpec, RunConfig, SpaceSpec
from vlmerge.errors import ConfigError
from vlmerge.search.genes import Distribution
from vlmerge.search.genome_space import GenomeSpace
from vlmerge.search.group_space import GroupSpace, coarsest, grouped
from vlmerge.search.optimizers import Optimizer, optimizer, plan
from vlmerge.search.path_space import PathSpace
from vlmerge.search.space import Handed, SearchSpace
from vlmerge.search.starts import Starting
from vlmerge.types import Genome

CANDIDATES_PER_GENE = 10
GENES_CARRIED, QUESTIONS_ASKED = 15, 192
"""So many genes were carried by so many questions; the number grows with the root of the questions, as errors shrink."""
HELD = 0.8
"""First probability that the last stage's choice of a method keeps for itself in the next one; the rest is divided equally.

In a simulation with three methods, three points apart (`benchmarks/search/staging.py held`, 100 seeds), 0.5 to 0.95 end within
0.3 points of one another, ± 0.3, whether the best method is held or another one; 0 ends 0.2 to 0.9 points lower.
"""
FRONT_POPULATION = 12
"""Candidates of a generation that searches for a front, at least."""
NAMES = ("groups", "finer", "finest")


@dataclass(frozen=True)
class Stage:
    """One search.

    Attributes:
        name: `global` (one number per model), `groups`, `finer`, … (one per model and group), `genome` (mergekit-evolve's), or
            `path` (a way through layers).
        space: What it varies.
        start: Where it begins; None: at the distribution of the stage before, lifted into this space.
        sigma: First step size.
        seed: Of the optimizer.
        population: Candidates of a generation.
        generations: How many.
        algorithm: Who searches.
        options: Of the algorithm.
        racing: How a generation is asked in a race; None: every candidate is asked everything.
        rotate: Share of the search questions' pictures that a generation is asked, or `auto`.
        adapts: Whether questions and population adapt to noise (`search: {noise: adapt}`).
    """

    name: str
    space: SearchSpace
    start: Genome | None
    sigma: float
    seed: int
    population: int
    generations: int
    algorithm: str = "cma-es"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    racing: RacingSpec | None = None
    rotate: float | Literal["auto"] = 1.0
    adapts: bool = False

    @property
    def several(self) -> bool:
        """Whether it searches for a front between several objectives."""
        return self.algorithm == "nsga-ii"

    @property
    def budget(self) -> int:
        """Candidates in all."""
        return self.population * self.generations

    @property
    def row(self) -> str:
        """The row of the tables that the distribution's mean stands in."""
        if self.name == "global":
            return "global"
        return "mean" if self.name in ("groups", "genome", "path") else f"mean:{self.name}"

    def begin(self, handed: Handed | None = None) -> Distribution:
        """The first distribution; `handed` is what the last stage ended with, where there was one."""
        if self.start is None and handed is not None:
            lifted = self.space.lift(handed)
            return Distribution(lifted.mean, self.sigma, lifted.covariance)
        return Distribution(self.space.start if self.start is None else self.start, self.sigma)

    def optimizer(self, handed: Handed | None = None) -> Optimizer:
        """A fresh optimizer; `handed` as in `begin`."""
        name, _, sampler = self.algorithm.partition(":")
        options = {**self.options, "sampler": sampler} if sampler else dict(self.options)
        if name == "catcma" and handed is not None:
            options = {"hold": HELD, **options}
        made = optimizer(name, self.space.genes, self.begin(handed), self.seed, self.population, self.generations, options)
        if self.adapts and not made.resizes:
            restarts = self.algorithm == "cma-es"
            raise ConfigError(
                "`noise: adapt` changes how many candidates a generation has, and this search cannot",
                where=f"algorithm {self.algorithm}",
                expected="cma-es without restarts, random, or one of Optuna's samplers",
                found=f"restarts: {options['restarts']}" if restarts else self.algorithm,
                remedy="take `restarts` out, or `noise`"
                if restarts
                else "take `noise` out; `rotate: auto` adapts the questions alone",
            )
        return made


def stages(
    config: RunConfig, layers: int, host: ModelRef, ranked: Sequence[Mapping[ModelRef, float]] | None = None
) -> tuple[Stage, ...]:
    """The stages of a run, which together try at most `search.max_fevals` candidates.

    Args:
        config: The run. `space: auto` is searched as one space; `decided` makes more of it, where that is carried.
        layers: Number of the decoder's layers.
        host: Becomes every recipe's `vlm`.
        ranked: Weights of the hand-set merges, the best first: where a `merge:` run that says nothing else begins.

    Raises:
        ConfigError: The space does not fit the number of layers, or cannot say the start.
    """
    search = config.search
    common: dict[str, Any] = {
        "seed": search.seed,
        "algorithm": config.algorithm,
        "options": search.options,
        "racing": search.racing if isinstance(search.racing, RacingSpec) else None,
        "rotate": search.rotate,
        "adapts": search.noise == "adapt",
    }
    if config.genome is not None:
        space = GenomeSpace(config.genome, host, layers, search.seed if config.random_init else None)
        size = search.population or _front_population(config)
        population, generations = plan(search.max_fevals, len(space.names), size, enlarge=False)
        return (Stage("genome", space, space.start, config.sigma, population=population, generations=generations, **common),)
    if config.path is not None and config.merge is None:
        paths = PathSpace(config.path, host)
        population, generations = plan(search.max_fevals, len(paths.genes), search.population)
        return (Stage("path", paths, paths.start, config.sigma, population=population, generations=generations, **common),)
    assert config.merge is not None
    spaces = _spaces(config.merge, host, layers)
    budgets = _budgets(config, spaces)
    chosen = [number for number, budget in enumerate(budgets) if budget]
    first, start = Starting(config, host, ranked or ()).place([spaces[number] for number in chosen])
    # What is too coarse for the start leaves its candidates to the rest.
    freed = sum(budgets[number] for number in chosen[:first])
    chosen = chosen[first:]
    found: list[Stage] = []
    for number in chosen:
        space = spaces[number]
        allowed = budgets[number] + (freed if number == chosen[0] else 0)
        if found and number == chosen[-1]:
            allowed = search.max_fevals - sum(stage.budget for stage in found)
        population, generations = plan(allowed, len(space.genes), search.population or _front_population(config))
        name = "global" if number == 0 else stage_name(number - 1)
        sigma = search.global_sigma if number == 0 else config.sigma / (1 if number == 1 else 2)
        begin = start if not found else None
        if search.objectives:  # The front of the hand-set merges is bred from, too: their ends are the furthest apart.
            said = [genome for weights in ranked or () if (genome := space.genome_of(weights)) is not None]
            common["options"] = {"inject": tuple(dict.fromkeys(said)), **search.options}
        found.append(Stage(name, space, begin, sigma, population=population, generations=generations, **common))
    return tuple(found)


def stage_name(number: int) -> str:
    """Of the spaces after one number per model, counted from 0."""
    return NAMES[number] if number < len(NAMES) else f"{NAMES[-1]}-{number - len(NAMES) + 2}"


def _spaces(merge: MergeSpec, host: ModelRef, layers: int) -> list[GroupSpace]:
    """One number per model, then the run's own spaces; `auto` is its first alone."""
    wanted = merge.space or merge.spaces[:1]
    fine = [grouped(merge, host, layers, space) for space in wanted]
    return [coarsest(fine[0]), *fine]


def _budgets(config: RunConfig, spaces: Sequence[GroupSpace]) -> list[int]:
    """Candidates of each space at most. 0: no stage, since the budget is spent, or since it is the coarsest space itself.

    After one number per model each space has CANDIDATES_PER_GENE, and the last one what is left; where that is too little for
    all of them, they share it by their genes.
    """
    search, sizes = config.search, [len(space.genes) for space in spaces]
    automatic = config.merge is not None and not config.merge.space
    if search.objectives and automatic and search.max_fevals < CANDIDATES_PER_GENE * sizes[1]:
        return [search.max_fevals, 0]  # Too few for the first space: one number per model alone.
    if len(sizes) == 2 and sizes[0] == sizes[1]:
        return [search.max_fevals, 0]
    first = min(search.global_fevals, search.max_fevals)
    if first == search.max_fevals:
        return [first, *(0 for _ in sizes[1:])]
    population, generations = plan(first, sizes[0], search.population) if first else (0, 0)
    left = search.max_fevals - population * generations
    shares = [CANDIDATES_PER_GENE * size for size in sizes[1:-1]]
    if left < sum(shares) + CANDIDATES_PER_GENE * sizes[-1]:
        shares = [left * size // sum(sizes[1:]) for size in sizes[1:-1]]
    return [first, *shares, left - sum(shares)]


def _front_population(config: RunConfig) -> int | None:
    """Of a front: as many candidates as generations, since a generation holds no more of it than there are candidates."""
    budget = config.search.max_fevals
    return max(FRONT_POPULATION, math.isqrt(budget)) if config.search.objectives else None


# ── how much is carried ──


def carried(questions: int) -> int:
    """The most genes that so many search questions carry."""
    return math.floor(GENES_CARRIED * math.sqrt(questions / QUESTIONS_ASKED))


def needed(genes: int) -> int:
    """The fewest search questions that carry so many genes."""
    return math.ceil(QUESTIONS_ASKED * (genes / GENES_CARRIED) ** 2)


def decided(config: RunConfig, layers: int, host: ModelRef, questions: int) -> RunConfig:
    """The run with `space: auto` decided: its first space, and as many finer ones as budget and questions carry.

    Finer ones need validation questions too, since those say whether to go on.

    Args:
        config: The run.
        layers: Number of the decoder's layers.
        host: Its host.
        questions: Search questions whose tasks count.
    """
    if config.merge is None or config.merge.space:
        return config
    return _with_spaces(config, config.merge.spaces[: 1 + _further(config, layers, host, questions)])


def _further(config: RunConfig, layers: int, host: ModelRef, questions: int) -> int:
    """How many of the automatic spaces after the first are carried."""
    assert config.merge is not None
    if config.search.objectives or not (config.validation.tasks or config.validation.fraction):
        return 0  # A front is searched in one stage.
    sizes = [len(grouped(config.merge, host, layers, space).genes) for space in config.merge.spaces]
    left = config.search.max_fevals - config.search.global_fevals
    count = 0
    while count + 1 < len(sizes):
        size = sizes[count + 1]
        if size > carried(questions) or CANDIDATES_PER_GENE * sum(sizes[: count + 2]) > left:
            break
        count += 1
    return count


def _with_spaces(config: RunConfig, spaces: tuple[SpaceSpec, ...]) -> RunConfig:
    assert config.merge is not None
    return config.model_copy(update={"merge": config.merge.model_copy(update={"space": spaces})})


def notes(config: RunConfig, layers: int, host: ModelRef, questions: int | None = None) -> list[str]:
    """What there is to say about the stages before a run begins.

    Args:
        config: The run.
        layers: Number of the decoder's layers.
        host: Its host.
        questions: Search questions whose tasks count; None: not known yet.
    """
    if config.merge is None:
        return []
    found: list[str] = []
    planned = stages(config if questions is None else decided(config, layers, host, questions), layers, host)
    if questions is not None:
        for stage in planned[1:]:
            genes = len(stage.space.genes)
            if genes > carried(questions):
                found.append(
                    f"{stage.name}: {questions} search questions carry about {carried(questions)} genes, and this stage has "
                    f"{genes}; {needed(genes)} questions would carry them"
                )
    if not config.merge.space and questions is None and not config.search.objectives:
        genes = len(grouped(config.merge, host, layers, config.merge.spaces[1]).genes)
        budget = config.search.global_fevals + CANDIDATES_PER_GENE * (genes + len(planned[-1].space.genes))
        found.append(
            f"a finer stage of {genes} genes follows from {needed(genes)} search questions and {budget} candidates on, "
            "if the validation questions agree"
        )
    return found
