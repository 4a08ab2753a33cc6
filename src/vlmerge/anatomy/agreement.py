"""Whether models may be merged with each other at all: sizes must agree, settings should."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlmerge.anatomy.decoders import may_meet
from vlmerge.anatomy.dissect import Anatomy
from vlmerge.anatomy.layouts import NEWLINE
from vlmerge.anatomy.roles import HEAD, VOCABULARY_ROLES, every_layer, is_decoder
from vlmerge.anatomy.segments import Segment, decoder_segments
from vlmerge.errors import MismatchError

if TYPE_CHECKING:
    from vlmerge.anatomy.pairing import TensorPair
    from vlmerge.config.model_ref import ModelRef

SIZES = {
    "hidden": "hidden width",
    "heads": "attention heads",
    "kv_heads": "key/value heads",
    "head_dim": "head width",
    "intermediate": "MLP width",
}
"""Facts that must be equal → how to call them."""

PARTS = {"vision": "vision tower", "projector": "projector", "cross": "way of looking at pictures"}
"""Parts beside the decoder → how to call them."""

SETTINGS = {
    "rope_theta": "rope_theta",
    "rope_scaling": "rotary scaling",
    "rope_factor": "the factor of rotary scaling",
    "norm_eps": "rms_norm_eps",
    "activation": "activation",
    "sliding_window": "sliding window of attention",
}
"""Facts that should be equal: a merge is possible where they differ, and a warning due."""


def check_agreement(anatomies: Mapping[ModelRef, Anatomy], host: ModelRef, segments: tuple[Segment, ...]) -> list[str]:
    """Compares every source's decoder with the host's.

    Returns:
        Warnings.

    Raises:
        MismatchError: Sizes that differ; a depth that the host, where it is no source, does not have.
    """
    warnings = [warning for anatomy in anatomies.values() for warning in anatomy.warnings]
    own = anatomies[host]
    decoders = decoder_segments(segments)
    sources = dict.fromkeys(member for segment in decoders for member in segment.members)
    depth = sum(segment.layers for segment in decoders)
    if host not in sources and depth != own.layers:
        raise MismatchError(
            "the result would have another depth than the host",
            where=f"{own.where} (the host, and not a source)",
            expected=f"{own.layers} decoder layers",
            found=f"{depth} decoder layers",
            remedy="merge models of the host's depth, or make the host one of the sources",
        )
    for ref in sources:
        other = anatomies[ref]
        warnings += _same_kind(own, other)
        for key, words in SIZES.items():
            _same(key, words, own, other)
        for key, words in SETTINGS.items():
            mine, theirs = getattr(own.facts, key), getattr(other.facts, key)
            if mine != theirs:
                warnings.append(
                    f"{words} differs: {_plain(theirs)} in {other.where}, {_plain(mine)} in the host {own.where}, whose is kept"
                )
    return warnings


def check_shapes(
    anatomies: Mapping[ModelRef, Anatomy], host: ModelRef, kept: TensorPair, inputs: Mapping[ModelRef, str]
) -> None:
    """Raises MismatchError where an input's shape is not the host's; rows of vocabulary tensors may differ."""
    skip = 1 if kept.role in VOCABULARY_ROLES else 0
    for ref, name in inputs.items():
        shape = anatomies[ref].tensors[name].shape
        if shape[skip:] != kept.shape[skip:] or len(shape) != len(kept.shape):
            raise MismatchError(
                "tensors of one role have different shapes",
                where=f"{kept.host_name} in {anatomies[host].where}, {name} in {anatomies[ref].where}",
                expected=str(list(kept.shape)),
                found=str(list(shape)),
                remedy="merge models of one size and architecture, or put the tensor under `protect`",
            )


def parts_apart(own: Anatomy, other: Anatomy) -> dict[str, str]:
    """Parts of two VLMs beside their decoders that have the same names for other things, part → why.

    A part is another where a tensor has another shape, or where each of two has tensors that the other lacks (of a projector:
    where one has). What is behind another tower (projector, cross-attention) is another, too.
    """
    parts = dict.fromkeys(_part(role) for role in own.roles if _part(role) in PARTS)
    apart: dict[str, str] = {}
    for part in parts:
        here, there = _shapes(own, part), _shapes(other, part)
        if not there:
            continue
        shared = here.keys() & there.keys()
        enough = max(len(here), len(there)) if part == "projector" else min(len(here), len(there))
        if len(shared) < enough or any(here[role] != there[role] for role in shared):
            apart[part] = f"{other.where} has another {PARTS[part]}"
    return dict.fromkeys(parts, apart["vision"]) if "vision" in apart else apart


def _shapes(anatomy: Anatomy, part: str) -> dict[str, tuple[int, ...]]:
    """Role → shape of a part's weights; a row beside a projector is none of its own."""
    tensors = anatomy.tensors
    names = {role: name for role, name in anatomy.roles.items() if _part(role) == part and role != NEWLINE}
    return {role: tensors[name].shape for role, name in names.items() if tensors[name].is_float}


def _part(role: str) -> str:
    return role.partition(".")[0]


def _same(key: str, words: str, own: Anatomy, other: Anatomy) -> None:
    mine, theirs = getattr(own.facts, key), getattr(other.facts, key)
    if mine != theirs:
        raise MismatchError(
            "the decoders have different shapes",
            where=f"{other.where} against the host {own.where}",
            expected=f"{mine} {words}",
            found=f"{theirs} {words}",
            remedy="merge models that descend from one base model",
        )


def _same_kind(own: Anatomy, other: Anatomy) -> list[str]:
    """Raises where decoders are of kinds that compute different things; a warning where that is not known."""
    mine, theirs = own.facts.kind, other.facts.kind
    if mine == theirs:
        return []
    where = f"{other.where} against the host {own.where}"
    if may_meet(mine, theirs) is False:
        raise MismatchError(
            "the decoders are of different kinds",
            where=where,
            expected=f"a decoder of the type {mine}",
            found=theirs,
            remedy="merge models that descend from one base model",
        )
    here, there = _kinds_of_tensors(own), _kinds_of_tensors(other)
    lacking = next((role for role in here if role not in there), None)
    beyond = next((role for role in there if role not in here), None)
    if here and there and (lacking or beyond):
        raise MismatchError(
            "the decoders are of different kinds, and their tensors differ",
            where=where,
            expected=f"a decoder of the type {mine}" + (f", with {lacking}" if lacking else ""),
            found=theirs + (f", with {beyond}" if beyond else ""),
            remedy="merge models that descend from one base model",
        )
    return [f"{other.where} has a decoder of the type {theirs}, the host {own.where} of {mine}: they are paired by name"]


def _kinds_of_tensors(anatomy: Anatomy) -> dict[str, None]:
    """The decoder's tensors but for the head, layer numbers left out."""
    return dict.fromkeys(every_layer(role) for role in anatomy.roles if is_decoder(role) and role != HEAD)


def _plain(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
