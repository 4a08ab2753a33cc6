"""Which value a parameter has for one tensor, by mergekit's rules: levels in order, filters by name, gradients over depth."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlmerge.config.model_ref import ModelRef
from vlmerge.config.parameter_values import Filtered, ParameterValue, Scalar
from vlmerge.config.recipe_blocks import Recipe, Source

LAYER = re.compile(r"^layers\.(\d+)\.")
AFTER_THE_LAYERS = re.compile(r"^(norm|lm_head)(\.|$)")


def resolve(levels: Sequence[ParameterValue | None], names: Sequence[str], t: float) -> Scalar | None:
    """The value for one tensor.

    Args:
        levels: The parameter's value at each level, the nearest first (model, slice, top); None where a level has none. A level
            whose filters all miss is passed over.
        names: The names that the tensor goes by; a filter matches if it is a substring of any of them.
        t: Depth, 0 to 1: layer / (layers of the slice - 1); 1 in a slice of one layer; 0 outside the layers.

    Returns:
        A number, interpolated between a gradient's neighbours; a flag, the gradient's entry int(t * (n - 1)). None: no level
        has a value, the method's default holds.
    """
    for level in levels:
        value = None if level is None else _at(level, names, t)
        if value is not None:
            return value
    return None


def _at(value: ParameterValue, names: Sequence[str], t: float) -> Scalar | None:
    if not isinstance(value, tuple):
        return value
    for entry in value:
        if not isinstance(entry, Filtered):
            break
        if entry.filter in (None, "*") or any(entry.filter in name for name in names):
            return _at(entry.value, names, t)
    else:
        return None
    gradient = [entry for entry in value if not isinstance(entry, Filtered)]
    if any(isinstance(entry, bool) for entry in gradient):
        return gradient[int(t * (len(gradient) - 1))]
    scaled = t * (len(gradient) - 1)
    lower = int(scaled)
    upper, share = min(len(gradient) - 1, lower + 1), scaled - lower
    return (1 - share) * gradient[lower] + share * gradient[upper]


@dataclass(frozen=True)
class Placement:
    """The part of a recipe that a tensor falls under.

    Attributes:
        sources: The models that take part, in the recipe's order, each with its own parameters; a base that the recipe lists
            nowhere stands at the end (of `models`; a slice has those that it lists).
        base: The common ancestor, where the recipe names one.
        shared: Parameters of the slice (if any) and of the whole recipe, the nearer first.
        t: The tensor's depth for gradients.
    """

    sources: tuple[Source, ...]
    base: ModelRef | None
    shared: tuple[Mapping[str, ParameterValue], ...]
    t: float

    def value(self, parameter: str, names: Sequence[str], source: Source | None = None) -> Scalar | None:
        """A parameter's value for a tensor of these names: a source's own, or (source None) the one for all."""
        own = () if source is None else (source.parameters,)
        return resolve([level.get(parameter) for level in (*own, *self.shared)], names, self.t)


def place(recipe: Recipe, role: str, layers: int) -> Placement:
    """Where a tensor falls in a recipe.

    Args:
        recipe: With `models`, or with slices that keep the layers in order (`check_slices`).
        role: Of the tensor: `layers.3.self_attn.q_proj.weight`, `embed_tokens…`, `norm…`, `lm_head…`. What is none of these is
            treated as standing before the layers, as embeddings are.
        layers: Number of the decoder's layers.
    """
    matched = LAYER.match(role)
    layer = int(matched[1]) if matched else None
    if recipe.slices is None:
        sources = recipe.models or ()
        if recipe.base_model is not None and all(source.model != recipe.base_model for source in sources):
            sources = (*sources, Source(model=recipe.base_model))
        return Placement(sources, recipe.base_model, (recipe.parameters,), _depth(layer, 0, layers))
    if layer is None:
        part = recipe.slices[-1 if AFTER_THE_LAYERS.match(role) else 0]
    else:
        part = next(part for part in recipe.slices if layer in range(*part.sources[0].layer_range))
    first, end = part.sources[0].layer_range
    return Placement(
        part.sources, part.base_model or recipe.base_model, (part.parameters, recipe.parameters), _depth(layer, first, end)
    )


def _depth(layer: int | None, first: int, end: int) -> float:
    if layer is None:
        return 0.0
    return (layer - first) / (end - first - 1) if end - first > 1 else 1.0
