"""Data-flow space: paths through the layers of several decoders, as recipes of `passthrough` and `slices`.

A step from one layer to the next may multiply the hidden state by a factor. Whatever reads the hidden state normalises it, so
that only the proportion counts between what a layer adds and what was there: with c, the product of the factors so far, a
layer's last projections (o_proj and down_proj) divided by c do the same, and no model needs code of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log2
from statistics import NormalDist

from vlmerge.config import Filtered, ModelRef, ParameterValue, PathSpec, Recipe, Slice, SliceSource
from vlmerge.errors import ConfigError
from vlmerge.search.genes import Distribution, Gene
from vlmerge.search.space import Handed, model_labels
from vlmerge.types import Genome

ON, OFF = 0.5, -0.5
"""Where the indicators begin of what is on the host's own path, and of what is not."""
TURNED, MOST_TURNED = 2.0, 0.25
"""So many blocks join or leave the path of a candidate at first, on average, and no more than this share of them."""
LAST = ("o_proj", "down_proj")
"""What a layer adds to the hidden state with: all that a factor on the way changes."""


@dataclass(frozen=True)
class Block:
    """Layers that are on a path together.

    Attributes:
        model: Whose they are.
        first: The first of them.
        end: Behind the last of them.
        turn: Which repetition of the sequence this is, from 0.
    """

    model: ModelRef
    first: int
    end: int
    turn: int = 0

    def continued(self, other: Block) -> bool:
        """Whether another block goes on where this one ends."""
        return other.model == self.model and other.first == self.end


class PathSpace:
    """Indicators of the blocks of a sequence of layers, and factors between them.

    Args:
        spec: What is searched; its `layers` are known.
        host: Whose first layer begins every path and whose last layer ends it.

    Raises:
        ConfigError: Fewer than three layers, of which nothing is left to search.
    """

    def __init__(self, spec: PathSpec, host: ModelRef) -> None:
        assert spec.layers is not None
        self._spec, self._host = spec, host
        self._layers = dict(zip(spec.models, spec.layers, strict=True))
        self._labels = model_labels(spec.models)
        self.blocks = _sequence(spec, self._layers, host)
        if host not in self._layers or not self.blocks:
            raise ConfigError(
                "there is no path to search",
                where="path",
                expected="layers between the first and the last one of the host",
                found=f"{self._layers.get(host, 0)} layers of {host}",
                remedy="name deeper models",
            )

    @property
    def genes(self) -> tuple[Gene, ...]:
        """An indicator for each block; then factors as powers of two, so that halving is as far from 1 as doubling."""
        return self._genes

    @cached_property
    def _genes(self) -> tuple[Gene, ...]:
        turned = min(MOST_TURNED, TURNED / len(self.blocks))
        width = ON / NormalDist().inv_cdf(1 - turned)
        indicators = tuple(Gene(self._name(block), -1.0, 1.0, scale=width) for block in self.blocks)
        if self._spec.scale is None:
            return indicators
        low, high = (log2(bound) for bound in self._spec.scale.bounds)
        return (*indicators, *(Gene(name, low, high, scale=(high - low) / 8) for name in self._factors()))

    @property
    def names(self) -> tuple[str, ...]:
        """The genes, as people read them."""
        return tuple(gene.name for gene in self.genes)

    @property
    def start(self) -> Genome:
        """The host's own layers once, in order, and no factor."""
        own = [block.model == self._host and block.turn == 0 for block in self.blocks]
        return tuple(ON if each else OFF for each in own) + (0.0,) * (len(self.genes) - len(own))

    def decode(self, genome: Genome) -> Recipe:
        """The recipe that a genome stands for; blocks whose indicator is above 0 are on the path."""
        count = len(self.blocks)
        factors = [2.0**gene for gene in genome[count:]]
        taken = [number for number, gene in enumerate(genome[:count]) if gene > 0]
        depth = self._layers[self._host]
        first, last = Block(self._host, 0, 1), Block(self._host, depth - 1, depth)
        steps: list[tuple[Block, float]] = [(first, 1.0)]
        product = 1.0
        for number in [*taken, None]:
            block = last if number is None else self.blocks[number]
            product *= self._factor(steps[-1][0].model, block.model, number, factors)
            steps.append((block, product))
        return path_recipe(self._host, steps, dtype=self._spec.dtype, out_dtype=self._spec.out_dtype)

    def genome_of(self, weights: Mapping[ModelRef, float]) -> Genome | None:
        """Weights are no path, but for the host alone."""
        return self.start if {ref for ref, weight in weights.items() if weight} == {self._host} else None

    def genome_of_recipe(self, recipe: Recipe) -> Genome:
        """No recipe is taken for a path."""
        del recipe
        raise ConfigError(
            "a search of paths begins at the host's own path", where="search.start", remedy="take `search.start` out"
        )

    def lift(self, handed: Handed) -> Distribution:
        """A path has no coarser space before it."""
        del handed
        raise RuntimeError("no stage comes before a path")

    def _name(self, block: Block) -> str:
        where = f"layer {block.first}" if block.end == block.first + 1 else f"layers {block.first}-{block.end - 1}"
        turn = f" ({block.turn + 1})" if self._spec.repeats > 1 else ""
        return f"{self._labels[block.model]} {where}{turn}"

    def _changes(self) -> list[tuple[ModelRef, ModelRef]]:
        return [(one, other) for one in self._spec.models for other in self._spec.models if one != other]

    def _factors(self) -> list[str]:
        assert self._spec.scale is not None
        if self._spec.scale.per == "block":
            return [f"into {self._name(block)}" for block in self.blocks]
        return [f"{self._labels[one]} to {self._labels[other]}" for one, other in self._changes()]

    def _factor(self, before: ModelRef, after: ModelRef, number: int | None, factors: Sequence[float]) -> float:
        """The factor of a step into a block (None: into the host's last layer)."""
        if self._spec.scale is None or (number is None and self._spec.scale.per == "block"):
            return 1.0
        if self._spec.scale.per == "block":
            return factors[number or 0]
        return 1.0 if before == after else factors[self._changes().index((before, after))]


def path_recipe(
    host: ModelRef, steps: Sequence[tuple[Block, float]], *, dtype: str | None = None, out_dtype: str | None = None
) -> Recipe:
    """The recipe of a path.

    Args:
        host: What everything else is taken from.
        steps: Layers in order, with the product of the factors up to them.
        dtype: As in a recipe.
        out_dtype: As in a recipe.
    """
    joined: list[tuple[Block, float]] = []
    for block, product in steps:
        if joined and joined[-1][1] == product and joined[-1][0].continued(block):
            before = joined.pop()[0]
            block = Block(block.model, before.first, block.end)
        joined.append((block, product))
    slices = tuple(
        Slice(sources=(SliceSource(model=block.model, layer_range=(block.first, block.end), parameters=_divided(product)),))
        for block, product in joined
    )
    keys = {"merge_method": "passthrough", "vlm": host, "slices": slices, "dtype": dtype, "out_dtype": out_dtype}
    return Recipe.model_validate(keys)


def host_path(spec: PathSpec, model: ModelRef, host: ModelRef, layers: int) -> Recipe:
    """A model's own layers once, in order, in the place of the host's."""
    return path_recipe(host, [(Block(model, 0, layers), 1.0)], dtype=spec.dtype, out_dtype=spec.out_dtype)


def every_layer(spec: PathSpec, host: ModelRef, depths: Mapping[ModelRef, int]) -> Recipe:
    """The longest path, over all layers of all models: what pairs in it pairs in every path."""
    refs = dict.fromkeys([host, *spec.models, *spec.beside])
    depth = depths[host]
    steps = [(Block(ref, 0, depths[ref]), 1.0) for _ in range(spec.repeats) for ref in refs]
    return path_recipe(host, [*steps, (Block(host, depth - 1, depth), 1.0)], dtype=spec.dtype, out_dtype=spec.out_dtype)


def _sequence(spec: PathSpec, layers: Mapping[ModelRef, int], host: ModelRef) -> tuple[Block, ...]:
    """Blocks in the order of the sequence, as often as it is repeated; without the host's first and last layer in the
    first repetition, which are on every path anyway."""
    found: list[Block] = []
    for turn in range(spec.repeats):
        once: list[tuple[float, int, Block]] = []
        for place, model in enumerate(spec.models):
            depth = layers[model]
            first, end = (1, depth - 1) if model == host and turn == 0 else (0, depth)
            for start in range(first, end, spec.block):
                stop = min(start + spec.block, end)
                middle = (start + stop) / 2 / depth
                once.append((middle if spec.order == "depth" else 0.0, place, Block(model, start, stop, turn)))
        found += [block for _, _, block in sorted(once, key=lambda each: each[:2])]
    return tuple(found)


def _divided(product: float) -> dict[str, ParameterValue]:
    if product == 1.0:
        return {}
    return {"scale": (*(Filtered(value=1 / product, filter=name) for name in LAST), Filtered(value=1.0, filter=None))}
