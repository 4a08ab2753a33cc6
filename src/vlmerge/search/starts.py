"""Where a search begins, as `search.start` says: at a hand-set merge, at random, or at a recipe."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmerge.config import ModelRef, Recipe, RunConfig, load_recipe
from vlmerge.errors import ConfigError, RunFolderError
from vlmerge.search.space import SearchSpace, model_labels
from vlmerge.store import STORE_NAME
from vlmerge.types import Genome

WINNER = "recipe.yaml"
"""Where a finished run keeps its winner's recipe."""


@dataclass(frozen=True)
class Starting:
    """What a run's first stage begins with.

    Attributes:
        config: The run.
        host: Its host.
        ranked: Weights of the hand-set merges, the best first.
    """

    config: RunConfig
    host: ModelRef
    ranked: Sequence[Mapping[ModelRef, float]] = ()

    def place(self, spaces: Sequence[SearchSpace]) -> tuple[int, Genome]:
        """The coarsest of the spaces that can say the start, and its genome there. Those before it have nothing to search.

        Raises:
            ConfigError: None can; with the reason of the finest.
        """
        start = self.config.search.start
        if isinstance(start, Recipe):
            for number, space in enumerate(spaces):
                try:
                    return number, space.genome_of_recipe(start)
                except ConfigError:
                    if number == len(spaces) - 1:
                        raise
        first = spaces[0]
        if start == "auto":
            said = (first.genome_of(weights) for weights in self.ranked)
            return 0, next((genome for genome in said if genome is not None), first.start)
        if start == "random":
            draws = random.Random(self.config.search.seed)
            return 0, tuple(_drawn(gene.low, gene.high, len(gene.choices), draws) for gene in first.genes)
        weights = self._weights(str(start))
        genome = first.genome_of(weights)
        if genome is None:
            labels = model_labels(self.config.models)
            raise ConfigError(
                "the search cannot begin there",
                where=f"search.start: {start}",
                expected="weights that the method can say for each model that is searched, within their bounds and ties",
                found=", ".join(f"{labels.get(model, model.name)} {weight:g}" for model, weight in weights.items()),
                remedy="name another start, or leave it out: then the best hand-set merge that can be said is taken",
            )
        return 0, genome

    def _weights(self, start: str) -> Mapping[ModelRef, float]:
        merge, host = self.config.merge, self.host
        assert merge is not None
        if start == "host":
            return {host: 1.0}
        if start == "equal":
            return dict.fromkeys(merge.models, 1 / len(merge.models))
        kind, _, name = start.partition(":")
        if kind != "chat_vector":
            raise _unresolved(start)
        base, labels = merge.base_model, model_labels(tuple(dict.fromkeys([*self.config.models, host])))
        others = {label: model for model, label in labels.items() if model not in (host, base)}
        if base is None or base == host or not others:
            reason = "no `base_model`" if base is None else "the host is the base" if base == host else "no other model"
            raise ConfigError(
                "there is no chat vector to begin at",
                where=f"search.start: {start}",
                expected="a host, another model, and the base of both",
                found=reason,
                remedy="name another start",
            )
        if name not in others and (name or len(others) > 1):
            raise ConfigError(
                "which chat vector?" if not name else f"there is no chat vector of {name}",
                where=f"search.start: {start}",
                expected=", ".join(f"chat_vector:{label}" for label in others),
                found=start,
                remedy="name one of these",
            )
        return {host: 1.0, others.get(name) or next(iter(others.values())): 1.0, base: -1.0}


def read_start(config: RunConfig) -> RunConfig:
    """The run with the recipe itself in the place of a file or a run folder, so that nothing outside can change it any more.

    Raises:
        ConfigError: The file is no recipe, or there is none.
        RunFolderError: The folder is no finished run.
    """
    named = config.search.start_file
    if named is None:
        return config
    path = Path(named)
    if path.is_dir():
        if not (path / WINNER).is_file():
            begun = (path / STORE_NAME).is_file()
            raise RunFolderError(
                "the search cannot begin at this run",
                where=f"search.start: {path}",
                expected=f"a finished run, with {WINNER}",
                found="a run that is not finished" if begun else "no run folder",
                remedy="finish it first (`vlmerge evolve`), or name a recipe",
            )
        path = path / WINNER
    if not path.is_file():
        raise _unresolved(named)
    return with_start(config, load_recipe(path).rewritten(ref=lambda ref: as_named(ref, config.models)))


def with_start(config: RunConfig, recipe: Recipe) -> RunConfig:
    """The run that begins at a recipe."""
    return config.model_copy(update={"search": config.search.model_copy(update={"start": recipe})})


def as_named(ref: ModelRef, models: Sequence[ModelRef]) -> ModelRef:
    """The run's model of that name, whatever commit each of the two is pinned to; the model itself where there is none."""
    if ref in models:
        return ref
    same = [model for model in models if _unpinned(model) == _unpinned(ref)]
    return same[0] if len(same) == 1 else ref


def _unpinned(ref: ModelRef) -> tuple[str, str | None]:
    return ref.path, ref.adapter and ref.adapter.path


def _unresolved(start: str) -> ConfigError:
    return ConfigError(
        "there is no such start",
        where=f"search.start: {start}",
        expected="auto, host, equal, chat_vector, random, a recipe's file, or a run folder",
        found="no such file or folder",
        remedy="name one of these",
    )


def _drawn(low: float | None, high: float | None, choices: int, draws: random.Random) -> float:
    if choices:
        return float(draws.randrange(choices))
    bottom = 0.0 if low is None else low
    top = bottom + 1 if high is None else high
    return bottom + (top - bottom) * draws.random()
