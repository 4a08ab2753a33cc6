"""Optimizers behind one contract: asked for whole generations, told their fitness, rebuilt by replay. One file an algorithm."""

from collections.abc import Callable, Mapping, Sequence

from vlmerge.errors import ConfigError
from vlmerge.search.genes import Distribution, Gene
from vlmerge.search.optimizers.budget import default_population, plan
from vlmerge.search.optimizers.catcma import CatCma
from vlmerge.search.optimizers.cma_es import CmaEs
from vlmerge.search.optimizers.contract import Fitness, Optimizer
from vlmerge.search.optimizers.nsga_ii import FrontPoint, NsgaII
from vlmerge.search.optimizers.optuna_samplers import OptunaSearch
from vlmerge.search.optimizers.random_search import RandomSearch

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "cma-es": CmaEs,
    "catcma": CatCma,
    "nsga-ii": NsgaII,
    "random": RandomSearch,
    "optuna": OptunaSearch,
}
"""Algorithm, as a run names it → what makes one."""


def optimizer(
    algorithm: str,
    genes: Sequence[Gene],
    start: Distribution,
    seed: int,
    population: int,
    generations: int,
    options: Mapping[str, object] | None = None,
) -> Optimizer:
    """A fresh optimizer.

    Args:
        algorithm: One of `OPTIMIZERS`.
        genes: What a genome holds.
        start: Where the search begins.
        seed: From 1.
        population: Candidates of a generation.
        generations: How many.
        options: The algorithm's own; each file has a dataclass of them.

    Raises:
        ConfigError: An algorithm or an option that is not there, or genes that the algorithm cannot search.
    """
    if algorithm not in OPTIMIZERS:
        raise ConfigError(
            f"unknown algorithm `{algorithm}`", expected=f"one of {', '.join(OPTIMIZERS)}", found=algorithm, remedy="name one"
        )
    categorical = [gene.name for gene in genes if gene.choices]
    if algorithm == "cma-es" and categorical:
        raise ConfigError(
            "CMA-ES searches numbers, not choices",
            where=f"algorithm {algorithm}",
            expected="genes without choices",
            found=", ".join(categorical[:3]) + (" …" if len(categorical) > 3 else ""),
            remedy="algorithm: catcma",
        )
    return OPTIMIZERS[algorithm](genes, start, seed, population, generations, options)


__all__ = [
    "OPTIMIZERS",
    "CatCma",
    "CmaEs",
    "Fitness",
    "FrontPoint",
    "NsgaII",
    "Optimizer",
    "OptunaSearch",
    "RandomSearch",
    "default_population",
    "optimizer",
    "plan",
]
