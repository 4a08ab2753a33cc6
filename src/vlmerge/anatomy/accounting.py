"""No tensor is lost in silence: what gives nothing to the result, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vlmerge.anatomy.dissect import Anatomy
from vlmerge.anatomy.roles import EMBEDDING, HEAD, decoder_layer, every_layer
from vlmerge.anatomy.segments import Segment, borrowed_layers, decoder_segments, host_layers

if TYPE_CHECKING:
    from vlmerge.anatomy.pairing import TensorPair
    from vlmerge.config.model_ref import ModelRef


def left_out(
    anatomies: Mapping[ModelRef, Anatomy], host: ModelRef, segments: Sequence[Segment], tensors: Sequence[TensorPair]
) -> dict[ModelRef, dict[str, str]]:
    """Model → its tensors that are neither merged nor kept → the reason of each.

    Args:
        anatomies: The host and all sources.
        host: The host.
        segments: Which layers meet.
        tensors: Every tensor of the result.
    """
    used: dict[ModelRef, set[str]] = {ref: set() for ref in anatomies}
    for each in tensors:
        for ref, name in each.inputs.items():
            used[ref].add(name)
        if not each.merged or each.rows is not None:
            used[host].add(each.host_name)
    of_host = {every_layer(role): "no slice takes it" for role in anatomies[host].roles}
    of_host |= {every_layer(each.role): f"the host's is kept: {each.reason}" for each in tensors if not each.merged}
    if anatomies[host].facts.tied_head:
        of_host[HEAD] = f"the host's head is its embedding ({EMBEDDING})"
    found: dict[ModelRef, dict[str, str]] = {}
    for ref, anatomy in anatomies.items():
        roles = {name: role for role, name in anatomy.roles.items()}
        taken = _layers_taken(ref, anatomy, ref == host, segments)
        lost: dict[str, str] = {}
        for name in anatomy.tensors:
            if name in used[ref]:
                continue
            role = roles.get(name)
            layer = None if role is None else decoder_layer(role)
            if role is None:
                lost[name] = anatomy.ignored[name]
            elif layer is not None and layer not in taken:
                lost[name] = "no slice takes it"
            elif ref == host:
                lost[name] = "the host is not a source here"
            else:
                lost[name] = of_host.get(every_layer(role), "the host has no such tensor")
        if lost:
            found[ref] = lost
    return found


def _layers_taken(ref: ModelRef, anatomy: Anatomy, is_host: bool, segments: Sequence[Segment]) -> set[int]:
    """The model's decoder layers that stand somewhere in the result."""
    if is_host:
        borrowed = borrowed_layers(segments, ref, anatomy.layers)
        taken = enumerate(host_layers(segments, ref, anatomy.layers))
        return {own for layer, own in taken if layer not in borrowed}
    return {
        segment.layer_of(ref, layer)
        for segment in decoder_segments(segments)
        if ref in segment.members
        for layer in range(segment.first, segment.first + segment.layers)
    }
