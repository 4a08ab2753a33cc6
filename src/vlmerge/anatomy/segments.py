"""Which layers of which models meet in which layer of the result: a recipe's `models` or `slices` as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmerge.errors import ConfigError, MismatchError

if TYPE_CHECKING:
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.recipe import Recipe


@dataclass(frozen=True)
class Segment:
    """A run of layers of the result that the same models feed.

    Attributes:
        members: The models, in listed order.
        starts: First layer that each of them gives.
        first: First layer of the result.
        layers: How many layers.
        base: The member that methods with a base subtract, if named.
    """

    members: tuple[ModelRef, ...]
    starts: tuple[int, ...]
    first: int
    layers: int
    base: ModelRef | None

    def layer_of(self, member: ModelRef, layer: int) -> int:
        """The member's layer that goes into layer `layer` of the result."""
        return self.starts[self.members.index(member)] + layer - self.first


def segments_of(recipe: Recipe, depths: Mapping[ModelRef, int]) -> tuple[Segment, ...]:
    """The recipe's slices, or its model list as one segment over all layers.

    A base that a `models` list does not name is appended at its end, as mergekit does; with `slices` nothing is appended.

    Args:
        recipe: The recipe.
        depths: Decoder layers of every model.

    Raises:
        ConfigError: A slice that reaches beyond a model's layers, is empty, or mixes lengths.
        MismatchError: A `models` list of different depths.
    """
    if recipe.slices is None:
        members = tuple(source.model for source in recipe.models or ())
        if recipe.base_model is not None and recipe.base_model not in members:
            members = (*members, recipe.base_model)
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
        return (Segment(members, (0,) * len(members), 0, layers, recipe.base_model),)
    segments: list[Segment] = []
    first = 0
    for number, part in enumerate(recipe.slices):
        ranges = [source.layer_range for source in part.sources]
        lengths = {end - start for start, end in ranges}
        if len(lengths) != 1 or min(lengths) < 1:
            raise ConfigError(
                "the sources of a slice must give the same number of layers, at least one",
                where=f"slices[{number}]",
                expected="equal lengths, end above start (ranges are half open)",
                found=", ".join(f"{source.model} {list(source.layer_range)}" for source in part.sources),
                remedy="correct layer_range",
            )
        for source in part.sources:
            if source.layer_range[1] > depths[source.model] or source.layer_range[0] < 0:
                raise ConfigError(
                    "a slice reaches beyond the model's layers",
                    where=f"slices[{number}], {source.model}",
                    expected=f"layers within 0 to {depths[source.model]} (half open)",
                    found=str(list(source.layer_range)),
                    remedy="correct layer_range",
                )
        length = lengths.pop()
        base = part.base_model if part.base_model is not None else recipe.base_model
        members = tuple(source.model for source in part.sources)
        segments.append(Segment(members, tuple(start for start, _ in ranges), first, length, base if base in members else None))
        first += length
    return tuple(segments)


def joined(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The same layers with neighbours that continue one another joined: what the structure of a merge depends on."""
    whole: list[Segment] = []
    for segment in segments:
        if whole and _continues(whole[-1], segment):
            last = whole[-1]
            whole[-1] = Segment(last.members, last.starts, last.first, last.layers + segment.layers, last.base)
        else:
            whole.append(segment)
    return tuple(whole)


def segment_at(segments: Sequence[Segment], layer: int) -> int:
    """Index of the segment that holds a layer of the result."""
    for index, segment in enumerate(segments):
        if segment.first <= layer < segment.first + segment.layers:
            return index
    raise IndexError(layer)


def host_layers(segments: Sequence[Segment], host: ModelRef, depth: int) -> list[int]:
    """For each layer of the result the host's layer that names its tensors, and that stands there where nothing merges.

    Args:
        segments: Of the result.
        host: The host; where it is in no segment, layer N stands in for layer N, and its last layer for those beyond.
        depth: Its decoder layers.
    """
    taken: list[int] = []
    for segment in segments:
        for layer in range(segment.first, segment.first + segment.layers):
            own = segment.layer_of(host, layer) if host in segment.members else layer
            taken.append(min(own, depth - 1))
    return taken


def borrowed_layers(segments: Sequence[Segment], host: ModelRef, depth: int) -> frozenset[int]:
    """Layers of the result for which the host has none of its own: all of their tensors have to come from the sources."""
    return frozenset(
        layer
        for segment in segments
        for layer in range(segment.first, segment.first + segment.layers)
        if host not in segment.members and layer >= depth
    )


def _continues(last: Segment, segment: Segment) -> bool:
    return (
        last.members == segment.members
        and last.base == segment.base
        and all(start + last.layers == following for start, following in zip(last.starts, segment.starts, strict=True))
    )
