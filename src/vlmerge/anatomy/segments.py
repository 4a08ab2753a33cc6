"""Which layers of which models meet in which layer of the result: a recipe's `models`, `slices` or `modules` as data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vlmerge.anatomy.roles import decoder_layer, position_of, vision_layer
from vlmerge.errors import ConfigError, MismatchError

if TYPE_CHECKING:
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.recipe import Module, Recipe, Slice
    from vlmerge.config.recipe_blocks import Part

AFTER_TOWER = re.compile(r"vision\.(?:.*\.)?post_")
"""Tensors that stand behind the layers of a vision tower."""
OTHER_PARTS: tuple[Part, ...] = ("vision", "projector")


@dataclass(frozen=True)
class Segment:
    """A run of layers of the result that the same models feed.

    Attributes:
        members: The models, in listed order; none: the host's layers stay as they are.
        starts: First layer that each of them gives.
        first: First layer of the result.
        layers: How many layers; 0 for a tower or a projector as a whole.
        base: The member that methods with a base subtract, if named.
        part: The part of the model whose layers they are. Where no segment is of another part than the decoder, the others go
            with the decoder's first.
    """

    members: tuple[ModelRef, ...]
    starts: tuple[int, ...]
    first: int
    layers: int
    base: ModelRef | None
    part: Part = "decoder"

    def layer_of(self, member: ModelRef, layer: int) -> int:
        """The member's layer that goes into layer `layer` of the result."""
        return self.starts[self.members.index(member)] + layer - self.first


@dataclass(frozen=True)
class Placed:
    """A segment, and where its numbers stand in the recipe.

    Attributes:
        segment: Which layers meet.
        block: The recipe itself, or one of its modules; None: no models are given for this part.
        slice: The slice, None where the block lists models.
    """

    segment: Segment
    block: Module | None
    slice: Slice | None = None


def segments_of(recipe: Recipe, depths: Mapping[ModelRef, int], host: ModelRef) -> tuple[Segment, ...]:
    """The segments of a recipe, in order. See `placed_segments`."""
    return tuple(placed.segment for placed in placed_segments(recipe, depths, host))


def placed_segments(recipe: Recipe, depths: Mapping[ModelRef, int], host: ModelRef) -> list[Placed]:
    """The recipe's slices, or its model list as one segment over all layers; with `modules`, those of each part.

    A base that a `models` list does not name is appended at its end, as mergekit does; with `slices` nothing is appended.

    Args:
        recipe: The recipe.
        depths: Decoder layers of every model.
        host: Whose layers a part has that `modules` does not name.

    Raises:
        ConfigError: A slice that reaches beyond a model's layers, is empty, or mixes lengths; one that moves layers of a tower.
        MismatchError: A `models` list of different depths.
    """
    blocks = recipe.blocks()
    found = [Placed(Segment((), (), 0, depths[host], None), None)]
    if "decoder" in blocks:
        found = _decoders(recipe, blocks["decoder"], depths)
    for part in OTHER_PARTS if recipe.modules is not None else ():
        found += _others(recipe, blocks.get(part), part)
    return found


def _decoders(recipe: Recipe, block: Module, depths: Mapping[ModelRef, int]) -> list[Placed]:
    """Segments of the decoder's layers."""
    if block.slices is None:
        members = _listed(recipe, block)
        layers = depths[members[0]]
        for member in members:
            if depths[member] != layers:
                raise MismatchError(
                    "the decoders have different depths",
                    where=f"{member} against {members[0]}",
                    expected=f"{layers} decoder layers",
                    found=f"{depths[member]} decoder layers",
                    remedy="merge models of one depth, or say with `slices` which layers meet",
                )
        return [Placed(Segment(members, (0,) * len(members), 0, layers, recipe.base_model), block)]
    found: list[Placed] = []
    for number, part in enumerate(block.slices):
        length = _length(part, number)
        for source in part.sources:
            if source.layer_range[1] > depths[source.model] or source.layer_range[0] < 0:
                raise ConfigError(
                    "a slice reaches beyond the model's layers",
                    where=f"slices[{number}], {source.model}",
                    expected=f"layers within 0 to {depths[source.model]} (half open)",
                    found=str(list(source.layer_range)),
                    remedy="correct layer_range",
                )
        first = sum(placed.segment.layers for placed in found)
        found.append(Placed(_sliced(recipe, part, first, length, "decoder"), block, part))
    return found


def _others(recipe: Recipe, block: Module | None, part: Part) -> list[Placed]:
    """Segments of a tower or a projector, whose layers stay where they are."""
    if block is None:
        return [Placed(Segment((), (), 0, 0, None, part), None)]
    if block.slices is None:
        members = _listed(recipe, block)
        return [Placed(Segment(members, (0,) * len(members), 0, 0, recipe.base_model, part), block)]
    found: list[Placed] = []
    for number, each in enumerate(block.slices):
        length = _length(each, number)
        first = sum(placed.segment.layers for placed in found)
        if part == "projector" or any(source.layer_range[0] != first for source in each.sources):
            raise ConfigError(
                "only the decoder's layers can be stacked anew",
                where=f"modules, {part}, slices[{number}]",
                expected="`models`" if part == "projector" else f"[{first}, end] for each source, or `models`",
                found=", ".join(f"{source.model} {list(source.layer_range)}" for source in each.sources),
                remedy="list `models` in this module",
            )
        found.append(Placed(_sliced(recipe, each, first, length, part), block, each))
    return found


def _listed(recipe: Recipe, block: Module) -> tuple[ModelRef, ...]:
    members = tuple(source.model for source in block.models or ())
    return members if recipe.base_model is None or recipe.base_model in members else (*members, recipe.base_model)


def _length(part: Slice, number: int) -> int:
    lengths = {end - start for start, end in (source.layer_range for source in part.sources)}
    if len(lengths) != 1 or min(lengths) < 1:
        raise ConfigError(
            "the sources of a slice must give the same number of layers, at least one",
            where=f"slices[{number}]",
            expected="equal lengths, end above start (ranges are half open)",
            found=", ".join(f"{source.model} {list(source.layer_range)}" for source in part.sources),
            remedy="correct layer_range",
        )
    return lengths.pop()


def _sliced(recipe: Recipe, part: Slice, first: int, length: int, of: Part) -> Segment:
    base = part.base_model if part.base_model is not None else recipe.base_model
    members, starts = tuple(source.model for source in part.sources), tuple(source.layer_range[0] for source in part.sources)
    return Segment(members, starts, first, length, base if base in members else None, of)


def joined(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The same layers with neighbours that continue one another joined: what the structure of a merge depends on."""
    whole: list[Segment] = []
    for segment in segments:
        if whole and _continues(whole[-1], segment):
            whole[-1] = replace(whole[-1], layers=whole[-1].layers + segment.layers)
        else:
            whole.append(segment)
    return tuple(whole)


def decoder_segments(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Those of the decoder."""
    return tuple(segment for segment in segments if segment.part == "decoder")


def segment_of(segments: Sequence[Segment], role: str) -> int:
    """Index of the segment that a tensor of the result belongs to.

    Embeddings (and what stands before a tower's layers) go with the first segment of their part, final norm and head (and what
    stands behind a tower's) with the last.
    """
    if len(segments) == 1:
        return 0
    part = next((part for part in OTHER_PARTS if role.startswith(f"{part}.")), "decoder")
    own = [index for index, segment in enumerate(segments) if segment.part == part]
    if not own:
        return 0
    layer = decoder_layer(role) if part == "decoder" else vision_layer(role)
    if layer is not None:
        held = (index for index in own if segments[index].first <= layer < segments[index].first + segments[index].layers)
        return next(held, own[-1])
    return own[-1] if position_of(role) == "after" or AFTER_TOWER.match(role) else own[0]


def host_layers(segments: Sequence[Segment], host: ModelRef, depth: int) -> list[int]:
    """For each layer of the result the host's layer that names its tensors, and that stands there where nothing merges.

    Args:
        segments: Of the result.
        host: The host; where it is in no segment, layer N stands in for layer N, and its last layer for those beyond.
        depth: Its decoder layers.
    """
    taken: list[int] = []
    for segment in decoder_segments(segments):
        for layer in range(segment.first, segment.first + segment.layers):
            own = segment.layer_of(host, layer) if host in segment.members else layer
            taken.append(min(own, depth - 1))
    return taken


def borrowed_layers(segments: Sequence[Segment], host: ModelRef, depth: int) -> frozenset[int]:
    """Layers of the result for which the host has none of its own: all of their tensors have to come from the sources."""
    return frozenset(
        layer
        for segment in decoder_segments(segments)
        for layer in range(segment.first, segment.first + segment.layers)
        if host not in segment.members and layer >= depth
    )


def _continues(last: Segment, segment: Segment) -> bool:
    return (
        (last.part, last.members, last.base) == (segment.part, segment.members, segment.base)
        and last.layers > 0
        and all(start + last.layers == following for start, following in zip(last.starts, segment.starts, strict=True))
    )
