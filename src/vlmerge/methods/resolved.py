"""A recipe's values for every merged tensor: levels, filters and gradients looked up once, before any weight is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from vlmerge.anatomy import Pairing, Placed, Segment, TensorPair, joined, placed_segments, segment_of
from vlmerge.anatomy.roles import canonical_name, decoder_layer, is_matrix, vision_layer
from vlmerge.config.method_table import MethodSpec, ParameterSpec
from vlmerge.config.parameters import resolve
from vlmerge.errors import CandidateFailure, ConfigError
from vlmerge.methods.differences import Key, key_of
from vlmerge.methods.dtypes import named_dtype, output_dtype
from vlmerge.methods.method import Method, Scalar, Values

if TYPE_CHECKING:
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.parameter_values import ParameterValue
    from vlmerge.config.recipe_blocks import Parameters, Recipe


DEFAULT_SEED = 1
"""Of recipes that name none."""


@dataclass(frozen=True)
class Step:
    """What to do for one merged tensor.

    Attributes:
        pair: Which tensors meet.
        host: Whose rows are kept where a vocabulary row is not merged.
        method: How they combine.
        values: With which parameters.
        inputs: The inputs but the base, in listed order.
        base: The input that is subtracted, or None.
        cast: dtype that inputs are cast to when read, or None.
        out_dtype: dtype of the result.
    """

    pair: TensorPair
    host: ModelRef
    method: Method
    values: Values
    inputs: tuple[ModelRef, ...]
    base: ModelRef | None
    cast: torch.dtype | None
    out_dtype: torch.dtype

    @property
    def sources(self) -> tuple[ModelRef, ...]:
        """All that is read: the inputs, and the base if there is one."""
        return self.inputs if self.base is None else (*self.inputs, self.base)


def resolve_values(recipe: Recipe, pairing: Pairing) -> list[Step | None]:
    """All of `steps_of` at once: whatever is wrong with the values is found before anything is merged."""
    return list(steps_of(recipe, pairing))


def steps_of(recipe: Recipe, pairing: Pairing) -> Iterator[Step | None]:
    """What to do for each tensor of the result: a step, or None where the host's is kept; one by one, so that a GPU can merge
    the first tensors while the host looks up the values of the next.

    Args:
        recipe: Must have the pairing's structure (same models in the same layers); only its parameters are new.
        pairing: See `anatomy.pair`.

    Yields:
        One entry for each of `pairing.tensors`, in its order.

    Raises:
        ConfigError: A required parameter that no level gives; a recipe of another structure.
        CandidateFailure: Values with which there is no result, e.g. normalised weights that sum to zero.
    """
    from vlmerge.methods import METHODS

    method = METHODS[recipe.merge_method]
    cast = named_dtype(recipe.dtype)
    decoder = recipe.blocks().get("decoder")
    layers = 1 << 30 if decoder is not None and decoder.slices is not None else pairing.layers
    placed = placed_segments(recipe, dict.fromkeys((*recipe.model_refs(), pairing.host), layers), pairing.host)
    segments = [each.segment for each in placed]
    if joined(segments) != pairing.segments:
        raise ConfigError(
            "the recipe has another structure than the models were paired for",
            expected="the same models in the same layers",
            found=_structure(joined(segments)),
            remedy=f"pair for this recipe ({_structure(pairing.segments)} was paired)",
        )
    levels = [_levels(recipe, each) for each in placed]
    # Where no level has a filter or a gradient, all tensors of a segment with the same inputs have the same values.
    plain = [_is_plain(level) for level in levels]
    shared: dict[tuple[int, tuple[ModelRef, ...]], Values] = {}
    tower = 1 + max((vision_layer(pair.role) or 0 for pair in pairing.tensors), default=0)
    for pair in pairing.tensors:
        if not pair.merged:
            yield None
            continue
        number, t = _place(pair.role, segments, tower)
        segment, level = segments[number], levels[number]
        base = segment.base if method.spec.base != "ordinary" else None
        if method.spec.base == "required" and base is None:
            raise ConfigError(
                f"`{method.spec.name}` needs a base, and the slice has none",
                where=pair.name,
                expected="base_model among the slice's sources",
                found=", ".join(map(str, segment.members)),
                remedy="add the base model to the slice",
            )
        inputs = pair.inputs_but(base)
        values = shared.get((number, inputs)) if plain[number] else None
        if values is None:
            values = _values(method.spec, pair, inputs, level, t)
            try:
                method.check(values)
            except CandidateFailure as failure:
                raise CandidateFailure(f"{pair.name}: {failure.reason}") from failure
            shared[number, inputs] = values
        if method.spec.draws:
            values = replace(values, keys=_keys(DEFAULT_SEED if recipe.seed is None else recipe.seed, inputs, pair.role))
        if method.spec.by_row:
            values = replace(values, shape=merged_shape(pair))
        elif method.spec.by_matrix and is_matrix(pair.role, pair.shape):
            values = replace(values, shape=pair.shape)
        yield Step(pair, pairing.host, method, values, inputs, base, cast, output_dtype(recipe, pair))


def _keys(seed: int, inputs: Sequence[ModelRef], role: str) -> tuple[Key, ...]:
    """Keys by the models' names: neither the order of the models nor the folder that they lie in decides what is drawn."""
    names = [ref.name for ref in inputs]
    return tuple(key_of(seed, f"{name}#{names[:number].count(name)}", role) for number, name in enumerate(names))


def merged_shape(pair: TensorPair) -> tuple[int, ...]:
    """Shape of what is merged of a tensor: fewer rows than it has where some of its rows are kept; a number is a row of one."""
    return (pair.shape or (1,)) if pair.rows is None else (pair.rows.merged, *pair.shape[1:])


@dataclass(frozen=True)
class _Levels:
    """Where parameters may stand for the tensors of one segment, nearest first."""

    sources: Mapping[ModelRef, Parameters]
    shared: tuple[Parameters, ...]


def _is_plain(level: _Levels) -> bool:
    """Whether every parameter is a number or a flag for all tensors."""
    blocks = [*level.sources.values(), *level.shared]
    return not any(isinstance(value, tuple) for block in blocks for value in block.values())


def _levels(recipe: Recipe, placed: Placed) -> _Levels:
    block, part = placed.block, placed.slice
    if block is None:
        return _Levels({}, (recipe.parameters,))
    listed = part.sources if part is not None else block.models or ()
    above = (block.parameters, recipe.parameters)
    return _Levels({source.model: source.parameters for source in listed}, above if part is None else (part.parameters, *above))


def _values(spec: MethodSpec, pair: TensorPair, inputs: Sequence[ModelRef], level: _Levels, t: float) -> Values:
    own = (pair.name, canonical_name(pair.role))
    shared: dict[str, Scalar] = {}
    sources: tuple[dict[str, Scalar], ...] = tuple({} for _ in inputs)
    for parameter in spec.parameters.values():
        if parameter.ignored:
            continue
        above = [parameters.get(parameter.name) for parameters in level.shared]
        if not parameter.per_source:
            shared[parameter.name] = _found(parameter, above, own, t, f"{pair.name}")
            continue
        for ref, values in zip(inputs, sources, strict=True):
            nearest = level.sources.get(ref, {}).get(parameter.name)
            values[parameter.name] = _found(parameter, [nearest, *above], pair.names[ref], t, f"{pair.name}, {ref}")
    return Values(shared, sources)


def _found(
    parameter: ParameterSpec, levels: Sequence[ParameterValue | None], names: Sequence[str], t: float, where: str
) -> Scalar:
    value: Scalar = resolve(levels, names, t)
    if value is None:
        value = parameter.default
    if value is None and parameter.required:
        raise ConfigError(
            f"`{parameter.name}` has no value for a tensor",
            where=where,
            expected=f"`{parameter.name}` beside the model, in its slice or at the top; filters must leave no tensor out",
            found="no entry that matches the tensor's name",
            remedy="add an entry without a filter at the end of the list",
        )
    return value


def _place(role: str, segments: Sequence[Segment], tower: int) -> tuple[int, float]:
    """Segment of a tensor, and where a gradient is read: 0 at the first layer, 1 at the last.

    Embedding, final norm and head read the first entry, a slice of one layer the last (mergekit's rule). A vision tower's
    layers count for themselves.
    """
    number = segment_of(segments, role)
    segment, layer = segments[number], decoder_layer(role)
    if layer is not None:
        return number, 1.0 if segment.layers == 1 else (layer - segment.first) / (segment.layers - 1)
    layer = vision_layer(role)
    if layer is None:
        return number, 0.0
    first, layers = (segment.first, segment.layers) if segment.part == "vision" and segment.layers else (0, tower)
    return number, 1.0 if layers == 1 else min(1.0, (layer - first) / (layers - 1))


def _structure(segments: Sequence[Segment]) -> str:
    return "; ".join(
        f"layers {segment.first} to {segment.first + segment.layers} from {', '.join(map(str, segment.members))}"
        for segment in segments
    )
