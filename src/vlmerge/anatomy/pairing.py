"""Which tensors merge, and which stay the host's. One rule: a tensor (and a vocabulary row) is merged where every source has
its role; where one has not, the host's is kept, bit for bit, and the reason is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from vlmerge.anatomy.accounting import left_out
from vlmerge.anatomy.agreement import check_agreement, check_shapes, parts_apart
from vlmerge.anatomy.dissect import Anatomy
from vlmerge.anatomy.rearrangement import NewVocabulary, Rearranged, kept_rearranged, rearrange
from vlmerge.anatomy.roles import (
    HEAD,
    VOCABULARY_ROLES,
    at_layer,
    canonical_name,
    decoder_layer,
    every_layer,
    is_buffer,
    is_decoder,
    named_roles,
    vision_layer,
)
from vlmerge.anatomy.segments import OTHER_PARTS, Segment, borrowed_layers, decoder_segments, host_layers, segment_of
from vlmerge.anatomy.vocabulary import RowMap, row_map, spelled_apart
from vlmerge.config.problems import nearest
from vlmerge.config.tokenizer_blocks import ZeroRow
from vlmerge.errors import MismatchError

if TYPE_CHECKING:
    from vlmerge.config.model_ref import ModelRef


TOKEN = "token:"
"""How an entry of `protect` begins that names a token, not a tensor."""
PART_WORDS = {"decoder": "decoder", "vision": "vision tower", "projector": "projector"}


@dataclass(frozen=True)
class TensorPair:
    """One tensor of the result and what goes into it.

    Attributes:
        name: Its name in the result: the host's name on disk, with the layer's new number where layers move.
        role: Its role in the result.
        host_name: The host's tensor that it keeps (wholly, or in the rows that are not merged), with its dtype and shape.
        dtype: safetensors spelling.
        shape: As stored.
        merged: Whether the method runs, on all or some rows.
        reason: Why it (or, with `rows`, a part of it) is the host's; None where all of it is merged.
        inputs: Source → name of its tensor, in listed order, a base that is a source included; empty where not merged.
        names: Source → the names that its recipe filters match: on disk, and a plain LM's.
        rows: Row map of a vocabulary tensor; None where all rows merge with those of the same number.
        rearranged: How a vocabulary tensor is laid out anew where the result has a vocabulary of its own.
        lenders: Models that are no sources and give rows to those that lack them → name of their tensor.
    """

    name: str
    role: str
    host_name: str
    dtype: str
    shape: tuple[int, ...]
    merged: bool
    reason: str | None = None
    inputs: Mapping[ModelRef, str] = field(default_factory=dict["ModelRef", str])
    names: Mapping[ModelRef, tuple[str, str]] = field(default_factory=dict["ModelRef", tuple[str, str]], repr=False)
    rows: RowMap | None = None
    rearranged: Rearranged | None = None
    lenders: Mapping[ModelRef, str] = field(default_factory=dict["ModelRef", str], repr=False)

    def inputs_but(self, base: ModelRef | None) -> tuple[ModelRef, ...]:
        """The sources in listed order, without `base`; one tuple for every asking."""
        known = self._inputs_but
        if base not in known:
            known[base] = tuple(ref for ref in self.inputs if ref != base)
        return known[base]

    @cached_property
    def _inputs_but(self) -> dict[ModelRef | None, tuple[ModelRef, ...]]:
        return {}

    @property
    def is_decoder(self) -> bool:
        """Whether it belongs to the language model."""
        return is_decoder(self.role)

    @property
    def is_buffer(self) -> bool:
        """A table that the config determines: kept without a cast."""
        return is_buffer(self.role)


@dataclass(frozen=True)
class Pairing:
    """The structure of a merge; it depends on no weight and no parameter.

    Attributes:
        host: Whose names, dtype and kept tensors the result has.
        segments: Which layers meet, neighbours joined.
        tensors: Every tensor of the result, in the host's file order.
        dropped: Source → its tensor → why nothing of it is in the result. Merged, kept or here: no tensor is lost.
        warnings: What a person should know, in words.
        vocabulary: Of the result, where it has one of its own.
    """

    host: ModelRef
    segments: tuple[Segment, ...]
    tensors: tuple[TensorPair, ...]
    dropped: Mapping[ModelRef, Mapping[str, str]]
    warnings: tuple[str, ...]
    vocabulary: NewVocabulary | None = None

    @property
    def layers(self) -> int:
        """Decoder layers of the result."""
        return sum(segment.layers for segment in decoder_segments(self.segments))

    @cached_property
    def merged(self) -> tuple[TensorPair, ...]:
        """The tensors that a method runs on."""
        return tuple(pair for pair in self.tensors if pair.merged)

    @property
    def sources(self) -> tuple[ModelRef, ...]:
        """All models that take part, in order of first appearance."""
        return tuple(dict.fromkeys(member for segment in self.segments for member in segment.members))


def choose_host(
    models: Sequence[ModelRef], anatomies: Mapping[ModelRef, Anatomy], *, vlm: ModelRef | None, base: ModelRef | None
) -> ModelRef:
    """The host: `vlm`, else the first VLM listed, else the base, else the first model listed.

    Raises:
        MismatchError: `vlm` names a model without eyes, and another has them.
    """
    if vlm is not None:
        # Among language models alone it names the host all the same: a recipe whose sources are others could not say it else.
        if not anatomies[vlm].is_vlm and any(anatomies[ref].is_vlm for ref in models):
            raise MismatchError(
                "`vlm` names a model that is not a vision-language model",
                where=str(vlm),
                expected="a VLM, whose vision tower and processor the result keeps",
                found=f"the family {anatomies[vlm].family.name}",
                remedy="name the VLM, or leave `vlm` out",
            )
        return vlm
    for ref in models:
        if anatomies[ref].is_vlm:
            return ref
    return base if base is not None else models[0]


def pair(
    anatomies: Mapping[ModelRef, Anatomy],
    *,
    host: ModelRef,
    segments: tuple[Segment, ...],
    protect: Iterable[str] = (),
    vocabulary: NewVocabulary | None = None,
) -> Pairing:
    """Pairs tensors by role and vocabulary rows by token.

    Args:
        anatomies: All models of the recipe, the host among them, headers read.
        host: See `choose_host`; it need not be a source.
        segments: See `segments_of` (neighbours joined); a base counts as a source where it is a member.
        protect: Substrings of names on disk, roles or plain-LM names: those tensors stay the host's; and `token:TOKEN`, whose
            rows do.
        vocabulary: The result's; None: the host's.

    Raises:
        MismatchError: Models of different shape or depth; a tensor that neither merges nor can be kept.
    """
    sources = dict.fromkeys(member for segment in segments for member in segment.members)
    everybody = anatomies
    anatomies = {ref: anatomies[ref] for ref in dict.fromkeys([host, *sources])}
    work = _Work(anatomies, host, segments, tuple(protect), vocabulary, everybody)
    warnings = check_agreement(anatomies, host, segments) + _eyeless(anatomies, host, segments)
    tensors = tuple(
        work.tensor(name, role, source_role) for name, role, source_role in _outline(anatomies[host], host, segments)
    )
    warnings += [*work.missed(), *work.warnings, *work.idle()]
    known = {every_layer(role) for role in anatomies[host].roles}
    for ref in dict.fromkeys(member for segment in decoder_segments(segments) for member in segment.members):
        for kind in dict.fromkeys(every_layer(role) for role in anatomies[ref].roles if is_decoder(role)):
            if kind not in known and kind != HEAD:
                warnings.append(f"{ref}: {kind} is not in the host, and is left out")
    dropped = left_out(anatomies, host, segments, tensors)
    return Pairing(host, segments, tensors, dropped, tuple(dict.fromkeys(warnings)), vocabulary)


class _Work:
    """Pairs tensor after tensor; remembers row maps and plans, which embedding and head mostly share."""

    def __init__(
        self,
        anatomies: Mapping[ModelRef, Anatomy],
        host: ModelRef,
        segments: tuple[Segment, ...],
        protect: tuple[str, ...],
        vocabulary: NewVocabulary | None,
        everybody: Mapping[ModelRef, Anatomy],
    ) -> None:
        self.anatomies, self.host, self.segments = anatomies, host, segments
        self.protect = tuple(text for text in protect if not text.startswith(TOKEN))
        self.protected = _protected_rows(protect, anatomies[host], renumbered=vocabulary is not None)
        self.vocabulary, self.everybody = vocabulary, everybody
        self.borrowed = borrowed_layers(segments, host, anatomies[host].layers)
        self.warnings: list[str] = []
        self.missing: dict[tuple[ModelRef, str], list[str]] = {}
        self.row_maps: dict[tuple[object, ...], RowMap | None] = {}
        self.plans: dict[tuple[object, ...], Rearranged] = {}
        self.apart = {ref: parts_apart(anatomies[host], anatomy) for ref, anatomy in anatomies.items() if anatomy.is_vlm}
        self.warnings += [f"{why}: the host's is kept" for parts in self.apart.values() for why in parts.values()]

    def missed(self) -> list[str]:
        """One line for each kind of tensor that a source lacks: which one, or how many."""
        return [
            f"{ref} has no {roles[0] if len(roles) == 1 else f'{kind} ({len(roles)} tensors)'}: the host's is kept"
            for (ref, kind), roles in self.missing.items()
        ]

    def idle(self) -> list[str]:
        """One line for each entry of `protect` that protects nothing."""
        roles = named_roles(self.anatomies[self.host].tensors, layout) if (layout := self.anatomies[self.host].layout) else {}
        names = [each for name, role in roles.items() for each in (name, role, canonical_name(role))]
        return [
            f"`protect: {text}` protects nothing: no tensor of {self.host} has that in its name"
            for text in self.protect
            if not any(text in name for name in names)
        ]

    def segment(self, role: str) -> Segment:
        return self.segments[segment_of(self.segments, role)]

    def tensor(self, name: str, role: str, host_role: str) -> TensorPair:
        """The pair of one tensor of the result; `host_role` is its role in the host, another where layers move."""
        found = self._tensor(name, role, host_role)
        if self.vocabulary is not None and role in VOCABULARY_ROLES:
            found = self._rearranged(found, self.vocabulary)
        if not found.merged and decoder_layer(role) in self.borrowed:
            raise MismatchError(
                "a layer that the host has not got cannot be taken from the sources whole",
                where=f"{name}: {found.reason}",
                expected=f"every tensor of the layer in every source of its slice, or the host {self.host} among them",
                found=", ".join(map(str, self.segment(role).members)),
                remedy="add the host to the slice (its weight may be 0), or take the tensor out of `protect`",
            )
        return found

    def _tensor(self, name: str, role: str, host_role: str) -> TensorPair:
        anatomy = self.anatomies[self.host]
        host_name = anatomy.roles.get(host_role) or name
        info = anatomy.tensors[host_name]
        kept = TensorPair(name, role, host_name, info.dtype, info.shape, merged=False)
        if is_buffer(role):
            return _because(kept, anatomy.ignored[host_name])
        if not info.is_float:
            return _because(kept, f"{info.dtype} is never merged")
        canonical = canonical_name(role)
        for text in self.protect:
            if text in name or text in role or text in canonical:
                return _because(kept, f"protected by {text!r}")
        segment = self.segment(role)
        if not segment.members:
            return _because(kept, f"`modules` names no models for the {PART_WORDS[segment.part]}")
        inputs: dict[ModelRef, str] = {}
        names: dict[ModelRef, tuple[str, str]] = {}
        for ref in segment.members:
            layer = decoder_layer(role)
            its_role = role if layer is None else at_layer(role, segment.layer_of(ref, layer))
            its_name = self.anatomies[ref].role_name(its_role)
            if its_name is None or not self.anatomies[ref].tensors[its_name].is_float:
                if is_decoder(role):
                    self.missing.setdefault((ref, every_layer(its_role)), []).append(its_role)
                return _because(kept, f"{ref} has no such tensor")
            apart = self.apart.get(ref, {}).get(role.partition(".")[0])
            if apart is not None:
                return _because(kept, apart)
            inputs[ref] = its_name
            names[ref] = (self.anatomies[ref].roles.get(its_role, canonical_name(its_role)), canonical_name(its_role))
        check_shapes(self.anatomies, self.host, kept, inputs)
        if self.vocabulary is not None and role in VOCABULARY_ROLES:
            return TensorPair(name, role, host_name, info.dtype, info.shape, True, None, inputs, names)
        rows = self.rows(info.shape[0], inputs) if role in VOCABULARY_ROLES else None
        if rows is not None and rows.merged == 0:
            return _because(kept, "no token of the vocabulary is in every source")
        reason = None if rows is None else self.kept_rows(rows)
        return TensorPair(name, role, host_name, info.dtype, info.shape, True, reason, inputs, names, rows)

    def _rearranged(self, found: TensorPair, new: NewVocabulary) -> TensorPair:
        """The pair in the rows of the result's vocabulary."""
        shape = (new.rows, *found.shape[1:])
        if not found.merged:
            plan = kept_rearranged(new, self.host, self.anatomies[self.host].vocabulary, found.shape[0])
            return replace(found, shape=shape, rearranged=plan)
        rows = {
            ref: (anatomy.vocabulary, anatomy.tensors[name].shape[0])
            for ref, anatomy in self.everybody.items()
            if (name := anatomy.role_name(found.role)) is not None
        }
        sources = {ref: rows[ref] for ref in found.inputs}
        key = (*((ref, count, ref in sources) for ref, (_, count) in rows.items()),)
        if key not in self.plans:
            self.plans[key] = rearrange(new, sources, {ref: each for ref, each in rows.items() if ref not in sources})
            owner = self.everybody[new.owner].vocabulary
            apart = (spelled_apart(owner, vocabulary) for vocabulary, _ in sources.values())
            self.warnings += [each for each in apart if each is not None]
        plan = self.plans[key]
        told = [f"{lost} tokens of {ref} have no row in the result" for ref, lost in plan.lost.items() if lost]
        asked = {new.ids[token] for token, rule in new.spec.tokens.items() if isinstance(rule.source, ZeroRow)}
        zeros = sum(1 for fill in plan.fills if not fill.sources for row in fill.rows.tolist() if row not in asked)
        if zeros:
            told.append(f"{zeros} tokens are in no source: their rows are zeros")
        self.warnings += [f"{found.role}: {each}" for each in told]
        lent = {ref for fill in plan.fills for ref, _ in fill.sources if ref not in sources}
        lenders = {ref: self.everybody[ref].role_name(found.role) or "" for ref in rows if ref in lent}
        return replace(found, shape=shape, rearranged=plan, lenders=lenders)

    def kept_rows(self, rows: RowMap) -> str:
        """Why rows of a vocabulary tensor are the host's."""
        protected = sum(1 for row in self.protected if row < rows.total)
        lacking = rows.total - rows.merged - protected
        whys = [f"{protected} protected"] if protected else []
        whys += (
            ["no source row for their token" if not protected else f"no source row for the token of {lacking}"]
            if lacking
            else []
        )
        return f"{rows.total - rows.merged} of {rows.total} rows are the host's: {', '.join(whys)}"

    def rows(self, host_rows: int, inputs: Mapping[ModelRef, str]) -> RowMap | None:
        counts = {ref: self.anatomies[ref].tensors[name].shape[0] for ref, name in inputs.items()}
        key = (host_rows, *counts.items())
        if key not in self.row_maps:
            found, warnings = row_map(
                (self.anatomies[self.host].vocabulary, host_rows),
                {ref: (self.anatomies[ref].vocabulary, count) for ref, count in counts.items()},
                self.protected,
            )
            self.row_maps[key] = found
            self.warnings += warnings
        return self.row_maps[key]


def _protected_rows(protect: Iterable[str], host: Anatomy, *, renumbered: bool) -> frozenset[int]:
    """Rows of the host whose tokens `protect` names.

    Raises:
        MismatchError: A token that the host does not know; a result with a vocabulary of its own.
    """
    tokens = [text.removeprefix(TOKEN) for text in protect if text.startswith(TOKEN)]
    if tokens and renumbered:
        raise MismatchError(
            "`protect` cannot name tokens where the result has a vocabulary of its own",
            where=f"protect: {TOKEN}{tokens[0]}",
            remedy="write `tokenizer: tokens: {TOKEN: {source: HOST, force: true}}`: then all models have the host's row",
        )
    ids = host.vocabulary.ids or {} if tokens else {}
    for token in tokens:
        if token not in ids:
            near = nearest(token, ids)
            raise MismatchError(
                "`protect` names a token that the host does not have",
                where=host.where,
                expected="a token as the host's tokenizer spells it",
                found=token,
                remedy=f"write `{TOKEN}{near}`" if near else "look it up in the host's tokenizer.json",
            )
    return frozenset(ids[token] for token in tokens)


def _eyeless(anatomies: Mapping[ModelRef, Anatomy], host: ModelRef, segments: tuple[Segment, ...]) -> list[str]:
    """Checks of what `modules` says beside the decoder; warnings about models that have no such part.

    Raises:
        MismatchError: The host has no such part, or its tower has another depth than the slices.
    """
    told: list[str] = []
    for part in OTHER_PARTS:
        own = [segment for segment in segments if segment.part == part and segment.members]
        if not own:
            continue
        words, roles = PART_WORDS[part], anatomies[host].roles
        if not any(role.startswith(f"{part}.") for role in roles):
            raise MismatchError(
                f"`modules` speaks of a {words}, and the host has none",
                where=anatomies[host].where,
                expected=f"a vision-language model with a {words}",
                found=f"the family {anatomies[host].family.name}",
                remedy="name the decoder alone (`default`, or `text_decoder`)",
            )
        layers = sum(segment.layers for segment in own)
        depth = 1 + max((vision_layer(role) or 0 for role in roles if role.startswith("vision.")), default=0)
        if layers and layers != depth:
            raise MismatchError(
                "the slices of the vision tower do not cover it",
                where=anatomies[host].where,
                expected=f"{depth} layers",
                found=f"{layers} layers",
                remedy="let them end at its last layer, or list `models`",
            )
        for ref in dict.fromkeys(member for segment in own for member in segment.members):
            if not any(role.startswith(f"{part}.") for role in anatomies[ref].roles):
                told.append(f"{ref} has no {words}: the host's is kept")
    return told


def _outline(anatomy: Anatomy, host: ModelRef, segments: tuple[Segment, ...]) -> list[tuple[str, str, str]]:
    """(name in the result, role in the result, role in the host) of every tensor, in the host's file order."""
    layout = anatomy.layout
    if layout is None:
        raise MismatchError(
            "the host's tensors are not known yet",
            where=anatomy.where,
            expected="safetensors headers, or weights on this machine",
            found="pickled weights on the hub",
            remedy="download the model first",
        )
    named = list(named_roles(anatomy.tensors, layout).items())
    taken = host_layers(segments, host, anatomy.layers)
    if taken == list(range(anatomy.layers)):
        return [(name, role, role) for name, role in named]
    if any(role.startswith("cross.") for role in anatomy.roles):
        raise MismatchError(
            "the layers of a host with cross-attention layers cannot be stacked anew",
            where=anatomy.where,
            expected="each of its layers once, in order",
            found=f"the host's layers {', '.join(map(str, taken))}",
            remedy="let the slices cover every layer once, or use `models`",
        )
    by_layer: dict[int, list[tuple[str, str]]] = {}
    for name, role in named:
        layer = decoder_layer(role)
        if layer is not None:
            by_layer.setdefault(layer, []).append((name, role))
    outline: list[tuple[str, str, str]] = []
    placed = False
    for name, role in named:
        if decoder_layer(role) is None:
            outline.append((name, role, role))
        elif not placed:
            placed = True
            for layer, source in enumerate(taken):
                for old_name, old_role in by_layer[source]:
                    prefix = old_name.removesuffix(old_role)
                    outline.append((prefix + at_layer(old_role, layer), at_layer(old_role, layer), old_role))
    return outline


def _because(kept: TensorPair, reason: str) -> TensorPair:
    return TensorPair(kept.name, kept.role, kept.host_name, kept.dtype, kept.shape, merged=False, reason=reason)
