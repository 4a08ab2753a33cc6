"""Optuna's samplers behind ask and tell. An extra: `pip install 'vlmerge[optuna]'`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from vlmerge.errors import ConfigError
from vlmerge.search.optimizers.boxes import box
from vlmerge.search.optimizers.contract import BestSoFar, Fitness, single, within
from vlmerge.search.optimizers.options import read_options
from vlmerge.search.optimizers.own_numbers import OwnNumbers
from vlmerge.types import Genome

FAILED = -sys.float_info.max
"""What Optuna is told of a failure: its samplers leave failed trials out, and would ask for their like again."""


@dataclass(frozen=True)
class OptunaOptions:
    """What can be said about Optuna's samplers.

    Attributes:
        sampler: `tpe`, `cma-es` (Optuna's, by `cmaes`), `qmc` (scrambled Sobol numbers) or `random`.
        reach: Genes without a bound are searched so many standard deviations around the start.
        inject: Genomes that are tried before any other; the start is the first where there are none.
    """

    sampler: Literal["tpe", "cma-es", "qmc", "random"] = "tpe"
    reach: Annotated[float, Field(gt=0)] = 4.0
    inject: tuple[tuple[float, ...], ...] = ()


class OptunaSearch(BestSoFar):
    """A sampler of Optuna (Akiba et al., 2019), asked for a whole generation at a time.

    `mean` is the best candidate so far, the step size stays the start's.

    Args:
        genes: Of any kind; those without a bound are searched in a box around the start.
        start: Its mean is the first candidate; its step size the box's, and CMA-ES' first one.
        seed: From 1.
        population: Candidates of a generation; TPE does not ask twice for the same within one ("constant liar").
        generations: How many.
        options: See `OptunaOptions`.

    Raises:
        ConfigError: Optuna is not installed.
    """

    def _begin(self, options: Mapping[str, object]) -> None:
        self.options = read_options(OptunaOptions, "optuna", options)
        self._check_injected(self.options.inject)
        try:
            import optuna
        except ImportError as error:
            raise ConfigError(
                "Optuna's samplers need Optuna",
                expected="the extra `optuna`",
                found=str(error),
                remedy="pip install 'vlmerge[optuna]', or another algorithm",
            ) from error
        self._own = OwnNumbers(self.seed)
        self._trials: list[Any] = []
        bounds = box(self.genes, self.start, self.options.reach)
        self._kinds: dict[str, Any] = {
            f"{place:04d}": optuna.distributions.CategoricalDistribution(range(len(gene.choices)))
            if gene.choices
            else optuna.distributions.FloatDistribution(*bound)
            for place, (gene, bound) in enumerate(zip(self.genes, bounds, strict=True))
        }
        with self._quiet():
            self._study: Any = optuna.create_study(direction="maximize", sampler=self._sampler())
            for genome in (self.options.inject or (self.start.mean,))[: self._population * self.generations]:
                inside = [min(max(number, low), high) for number, (low, high) in zip(genome, bounds, strict=True)]
                self._study.enqueue_trial(self._named(within(self.genes, inside)))

    def _sampler(self) -> Any:
        from optuna import samplers

        if self.options.sampler == "tpe":
            return samplers.TPESampler(seed=self.seed, constant_liar=True)
        if self.options.sampler == "cma-es":
            first = {name: number for name, number in self._named(self.start.mean).items() if not self.genes[int(name)].choices}
            return samplers.CmaEsSampler(x0=first, seed=self.seed, popsize=max(2, self.population))
        if self.options.sampler == "qmc":
            return samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=self.seed)
        return samplers.RandomSampler(seed=self.seed)

    def _named(self, genome: Genome) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for (name, _), gene, number in zip(self._kinds.items(), self.genes, genome, strict=True):
            named[name] = int(number) if gene.choices else number
        return named

    @property
    def resizes(self) -> bool:
        """It may: a sampler counts trials, not generations."""
        return True

    def _draw(self) -> list[Genome]:
        with self._quiet():
            self._trials = [self._study.ask(self._kinds) for _ in range(self.population)]
        return [tuple(float(trial.params[name]) for name in self._kinds) for trial in self._trials]

    def _learn(self, genomes: list[Genome], fitness: list[Fitness | None]) -> None:
        with self._quiet():
            for trial, genome, score in zip(self._trials, genomes, single(fitness), strict=True):
                self._study.tell(trial, FAILED if score is None else float(score))
                self._note(genome, score)

    @contextlib.contextmanager
    def _quiet(self) -> Generator[None]:
        """With its own random numbers, and without Optuna's lines about every trial."""
        from optuna import logging

        level = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)
        try:
            with self._own():
                yield
        finally:
            logging.set_verbosity(level)
