"""The contract of a search space: numbers ↔ recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol

from vlmerge.config import ModelRef, Recipe
from vlmerge.search.genes import Distribution, Gene
from vlmerge.types import Genome

FOUND = "model"
"""The folder within a run folder that holds what the run has found."""


class SearchSpace(Protocol):
    """What an optimizer may vary. A genome is one number for each of `genes`, in their order."""

    @property
    def genes(self) -> tuple[Gene, ...]:
        """What a genome holds."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The genes, as people read them."""
        ...

    @property
    def start(self) -> Genome:
        """Where a search begins that knows nothing better."""
        ...

    def decode(self, genome: Genome) -> Recipe:
        """The recipe that a genome stands for. The same genome is always the same recipe, to the last bit."""
        ...

    def genome_of(self, weights: Mapping[ModelRef, float]) -> Genome | None:
        """The genome that merges with these weights everywhere; None where the space cannot say that."""
        ...

    def genome_of_recipe(self, recipe: Recipe) -> Genome:
        """The genome that merges as a recipe does; raises ConfigError, with the reason, where the space cannot say that."""
        ...

    def lift(self, handed: Handed) -> Distribution:
        """The distribution that does everywhere what a coarser space's does."""
        ...


@dataclass(frozen=True)
class Handed:
    """What one stage hands to the next: the space that it searched, and the distribution that it ended with."""

    space: SearchSpace
    distribution: Distribution

    @property
    def mean(self) -> Genome:
        """The distribution's mean."""
        return self.distribution.mean


def model_labels(models: tuple[ModelRef, ...]) -> dict[ModelRef, str]:
    """What tables call the models: the base name where it is unique, else the full id; what a run found by the run's name."""
    names = {model: _called(model) for model in models}
    return {model: name if list(names.values()).count(name) == 1 else str(model) for model, name in names.items()}


def _called(model: ModelRef) -> str:
    folder = PurePath(model.path)
    found = model.adapter is None and folder.name == FOUND and folder.parent.name
    return folder.parent.name if found else model.name
