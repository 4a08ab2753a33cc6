"""mergekit-evolve's space, to the letter: its `genome:` block → genes → the recipe that it would write (0.1.5)."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlmerge.config import GenomeSpec, ModelRef, Recipe
from vlmerge.errors import ConfigError
from vlmerge.search.genes import Distribution, Gene, Role
from vlmerge.search.space import Handed, model_labels
from vlmerge.types import Genome

NORMALIZED_BY_DEFAULT = ("linear", "ties", "dare_ties")
DTYPE = "bfloat16"
"""Of every recipe that mergekit-evolve writes."""


@dataclass(frozen=True)
class GenomeSpace:
    """The space; see the module. Genes are ordered (group of layers, model, filter, parameter).

    Attributes:
        spec: The block.
        host: Becomes every recipe's `vlm`.
        layers: Number of the decoder's layers.
        random_seed: Start at random genes from this seed instead of equal weights (`random_init`).

    Raises:
        ConfigError: layer_granularity does not divide the number of layers.
    """

    spec: GenomeSpec
    host: ModelRef
    layers: int
    random_seed: int | None = None

    def __post_init__(self) -> None:
        if self.spec.layer_granularity > 0 and self.layers % self.spec.layer_granularity:
            divisors = [str(step) for step in range(1, self.layers + 1) if self.layers % step == 0]
            raise ConfigError(
                "layer_granularity must divide the number of layers",
                where="genome.layer_granularity",
                expected=f"one of {', '.join(divisors)} for {self.layers} layers",
                found=str(self.spec.layer_granularity),
                remedy="choose one of these, or leave it out for one group",
            )

    @property
    def filters(self) -> tuple[str | None, ...]:
        """The sets of genes of a model; the last is for the tensors that no filter names."""
        return (*(self.spec.filters or ()), None)

    @property
    def step(self) -> int:
        """Layers in a group."""
        return self.spec.layer_granularity if self.spec.layer_granularity > 0 else self.layers

    @property
    def names(self) -> tuple[str, ...]:
        """`layers 0-3/model`, with `/filter` where there are filters and `/density` for a density."""
        labels = model_labels(self.spec.models)
        suffixes = [f"/{name or 'rest'}" if len(self.filters) > 1 else "" for name in self.filters]
        return tuple(
            f"layers {first}-{first + self.step - 1}/{labels[model]}{suffix}{'' if number == 0 else f'/{parameter}'}"
            for first in range(0, self.layers, self.step)
            for model in self.spec.models
            for suffix in suffixes
            for number, parameter in enumerate(self.parameters)
        )

    @property
    def genes(self) -> tuple[Gene, ...]:
        """Without bounds, as there: what a number means beyond them, `decode` says."""
        return tuple(Gene(name) for name in self.names)

    @property
    def roles(self) -> tuple[Role, ...]:
        """What each gene is about; genes of slerp are shares of a softmax, which have no default."""
        labels = model_labels(self.spec.models)
        defaults = {"weight": 0.0, "density": 1.0}
        single = len(self._groups) * len(self.filters) == 1
        return tuple(
            Role(
                ""
                if single
                else f"layers {first}-{first + self.step - 1}" + (f" {name or 'rest'}" if len(self.filters) > 1 else ""),
                labels[model],
                parameter,
                self.step,
                defaults.get(parameter),
            )
            for first in range(0, self.layers, self.step)
            for model in self.spec.models
            for name in self.filters
            for parameter in self.parameters
        )

    def meant(self, genome: Genome) -> Genome:
        """The genome with every number as it counts: weights without sign where that is none, densities up to 1."""
        if self.spec.merge_method == "slerp":
            return genome
        size = len(self.parameters)
        return tuple(self._counted(value, self.parameters[place % size]) for place, value in enumerate(genome))

    def counts(self, genome: Genome) -> tuple[bool, ...]:
        """Of each gene, whether it has a say: all have."""
        return (True,) * len(genome)

    def _counted(self, value: float, parameter: str) -> float:
        if parameter == "density":
            return min(abs(value), 1.0)
        return value if self.spec.allow_negative_weights else abs(value)

    @property
    def parameters(self) -> tuple[str, ...]:
        """What each model has genes for."""
        if self.spec.merge_method == "slerp":
            return ("t",)
        return ("weight", "density") if self.spec.merge_method in ("ties", "dare_ties") else ("weight",)

    @property
    def start(self) -> Genome:
        """Weights of 1/n, rounded to float32 as there, and densities of 1; or everything random in [0, 1)."""
        if self.random_seed is not None:
            generator = random.Random(self.random_seed)
            return tuple(generator.random() for _ in self.names)
        (weight,) = struct.unpack("f", struct.pack("f", 1 / len(self.spec.models)))
        one = (weight, 1.0)[: len(self.parameters)]
        return one * (len(self.names) // len(one))

    def genome_of(self, weights: Mapping[ModelRef, float]) -> Genome | None:  # noqa: ARG002 - the protocol's
        """None: the start is what mergekit-evolve's is."""
        return None

    def genome_of_recipe(self, recipe: Recipe) -> Genome:  # noqa: ARG002 - the protocol's
        """Raises ConfigError: the start is what mergekit-evolve's is."""
        raise ConfigError("a `genome:` run begins where mergekit-evolve does", where="search.start", remedy="take it out")

    def lift(self, handed: Handed) -> Distribution:
        """There is no coarser form: the distribution itself."""
        return handed.distribution

    def decode(self, genome: Genome) -> Recipe:
        """The recipe."""
        spec = self.spec
        count = len(self._groups) * len(spec.models) * len(self.filters) * len(self.parameters)
        if len(genome) != count:
            raise ValueError(f"this space has {count} genes, not {len(genome)}")
        normalize = spec.merge_method in NORMALIZED_BY_DEFAULT if spec.normalize is None else spec.normalize
        if spec.merge_method == "slerp":
            body = {"slices": self._slerp_slices(genome)}
        elif spec.smooth:
            body = {"models": self._smooth_models(genome)}
        else:
            body = {"slices": self._slices(genome)}
        return Recipe.model_validate(
            {
                "merge_method": spec.merge_method,
                "vlm": self.host,
                "base_model": spec.base_model,
                **body,
                "parameters": {"normalize": normalize, "int8_mask": True},
                "protect": spec.protect,
                "dtype": DTYPE,
            }
        )

    @property
    def _groups(self) -> range:
        return range(self.layers // self.step)

    @property
    def _unlisted_base(self) -> list[ModelRef]:
        base = self.spec.base_model
        return [] if base is None or base in self.spec.models else [base]

    def _gene(self, genome: Genome, group: int, model: int, place: int = 0, parameter: int = 0) -> float:
        number = (group * len(self.spec.models) + model) * len(self.filters) + place
        return float(genome[number * len(self.parameters) + parameter])

    def _value(self, genome: Genome, group: int, model: int, place: int, parameter: int) -> float:
        return self._counted(self._gene(genome, group, model, place, parameter), self.parameters[parameter])

    def _by_filter(self, values: list[Any]) -> Any:
        """One value per filter as a parameter's value."""
        if len(values) == 1:
            return values[0]
        return [{"filter": name, "value": value} for name, value in zip(self.filters, values, strict=True)]

    def _range(self, group: int) -> list[int]:
        return [group * self.step, (group + 1) * self.step]

    def _slices(self, genome: Genome) -> list[dict[str, Any]]:
        slices: list[dict[str, Any]] = []
        places = range(len(self.filters))
        for group in self._groups:
            sources: list[dict[str, Any]] = []
            for index, model in enumerate(self.spec.models):
                values = {
                    name: self._by_filter([self._value(genome, group, index, place, number) for place in places])
                    for number, name in enumerate(self.parameters)
                }
                sources.append({"model": model, "layer_range": self._range(group), "parameters": values})
            sources += [{"model": base, "layer_range": self._range(group)} for base in self._unlisted_base]
            slices.append({"sources": sources})
        return slices

    def _smooth_models(self, genome: Genome) -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = []
        for index, model in enumerate(self.spec.models):
            values: dict[str, Any] = {}
            for number, name in enumerate(self.parameters):
                gradients: list[Any] = []
                for place in range(len(self.filters)):
                    gradient = [self._value(genome, group, index, place, number) for group in self._groups]
                    gradients.append(gradient[0] if len(gradient) == 1 else gradient)
                values[name] = self._by_filter(gradients)
            models.append({"model": model, "parameters": values})
        return models + [{"model": base} for base in self._unlisted_base]

    def _slerp_slices(self, genome: Genome) -> list[dict[str, Any]]:
        """Each group's two heaviest models (signed; the first listed where equal), t by softmax; the heaviest is the base."""
        slices: list[dict[str, Any]] = []
        for group in self._groups:
            genes = [self._gene(genome, group, index) for index in range(len(self.spec.models))]
            first, second = sorted(range(len(genes)), key=lambda index: -genes[index])[:2]
            share = math.exp(genes[second] - genes[first])
            sources = [{"model": self.spec.models[index], "layer_range": self._range(group)} for index in (first, second)]
            t = share / (1 + share)
            slices.append({"sources": sources, "base_model": self.spec.models[first], "parameters": {"t": t}})
        return slices
