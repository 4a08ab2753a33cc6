"""What a tensor is, independent of its name: names on disk or in memory → roles.

Roles of the decoder are those of a plain LM without `model.`: `embed_tokens.weight`, `layers.3.self_attn.q_proj.weight`,
`norm.weight`, `lm_head.weight`. The others carry their part in front: `vision.encoder.layers.0.…`, `projector.linear_1.weight`,
`cross.0.…` (a layer by which a decoder looks at pictures), `other.NAME`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from vlmerge.anatomy.families import Family
from vlmerge.anatomy.layouts import LIVE_LAYOUTS, Layout

EMBEDDING = "embed_tokens.weight"
HEAD = "lm_head.weight"
VOCABULARY_ROLES = (EMBEDDING, HEAD)
"""Roles whose first axis is the vocabulary: paired row by row, by token."""

DECODER = re.compile(r"(embed_tokens|norm|layers\.\d+)\.")
DECODER_LAYER = re.compile(r"layers\.(\d+)\.")
CROSS_LAYER = re.compile(r"layers\.(\d+)\.cross_attn")
VISION_LAYER = re.compile(r"vision\.(?:.*\.)?(?:layers?|blocks)\.(\d+)\.")
BUFFER = re.compile(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq|rotary_emb\.inv_freq")

Position = Literal["before", "layer", "after", "vision", "other"]


def roles_of(names: Iterable[str], family: Family) -> dict[str, str]:
    """Role → name, in the order of `names`, for a checkpoint's tensors or a live model's parameters.

    Args:
        names: All names of one model, in one of the family's layouts.
        family: Row of `FAMILIES`.

    Raises:
        LookupError: No layout of the family has its embedding among the names.
    """
    listed = list(names)
    return {role: name for name, role in named_roles(listed, layout_of(listed, family)).items()}


def live_roles(names: Iterable[str]) -> dict[str, str]:
    """Role → name for the parameters of a model that transformers holds in memory, whatever its files were called.

    Raises:
        LookupError: Neither a VLM's nor a plain LM's names.
    """
    listed = list(names)
    for layout in LIVE_LAYOUTS:
        if f"{layout.decoder}{EMBEDDING}" in listed:
            return {role: name for name, role in named_roles(listed, layout).items()}
    raise LookupError("no embedding under " + " or ".join(layout.decoder for layout in LIVE_LAYOUTS))


def layout_of(names: Iterable[str], family: Family) -> Layout:
    """The family's layout whose embedding is among the names; raises LookupError where none is."""
    present = set(names)
    for layout in family.layouts:
        if f"{layout.decoder}{EMBEDDING}" in present:
            return layout
    raise LookupError(f"no `embed_tokens.weight` under {', '.join(layout.decoder for layout in family.layouts)}")


def named_roles(names: Iterable[str], layout: Layout) -> dict[str, str]:
    """Name → role, in the order of `names`, which are all names of one model.

    Layers with cross-attention (Mllama) are numbered among the others on disk; here both kinds count for themselves, so that
    layer N is layer N of a plain LM.
    """
    roles = {name: role_of(name, layout) for name in names}
    crossing = sorted({int(match.group(1)) for match in map(CROSS_LAYER.match, roles.values()) if match})
    return {name: _counted_apart(role, crossing) for name, role in roles.items()} if crossing else roles


def cross_layers(names: Iterable[str], layout: Layout) -> list[int]:
    """Numbers on disk of the decoder's layers with cross-attention."""
    matches = (CROSS_LAYER.match(role_of(name, layout)) for name in names)
    return sorted({int(match.group(1)) for match in matches if match})


def role_of(name: str, layout: Layout) -> str:
    """The role of one tensor by its name alone (see `named_roles`); `other.NAME` for what belongs to no known part."""
    if name in layout.singles:
        return layout.singles[name]
    # The decoder last: in the original LLaVA layout the others' prefixes begin like its own. The projector before the tower: in
    # Qwen2-VL it is a part of it.
    for prefix in layout.projector:
        if name.startswith(prefix):
            module, dot, rest = name.removeprefix(prefix).partition(".")
            return f"projector.{layout.renames.get(module, module)}{dot}{rest}"
    for prefix in layout.vision:
        if name.startswith(prefix):
            return f"vision.{name.removeprefix(prefix)}"
    if name.startswith(f"{layout.head}lm_head."):
        return name.removeprefix(layout.head)
    inner = name.removeprefix(layout.decoder)
    if name.startswith(layout.decoder) and (DECODER.match(inner) or BUFFER.fullmatch(inner)):
        return inner
    return f"other.{name}"


def canonical_name(role: str) -> str:
    """The name that recipe filters may also use: a plain LM's (`model.layers.N.…`, `lm_head.weight`) for the decoder."""
    if is_decoder(role) and not role.startswith("lm_head."):
        return f"model.{role}"
    return role


def is_decoder(role: str) -> bool:
    """Whether the role belongs to the language model."""
    return not role.startswith(("vision.", "projector.", "cross.", "other."))


def is_buffer(role: str) -> bool:
    """Whether it is a table that the config determines (rotary frequencies): never merged, never cast."""
    return BUFFER.fullmatch(role) is not None


def is_matrix(role: str, shape: tuple[int, ...]) -> bool:
    """Whether it is a weight matrix, by which vectors are multiplied: two axes, and no table of embeddings or of tokens."""
    return len(shape) == 2 and role not in VOCABULARY_ROLES and "embed" not in role


def decoder_layer(role: str) -> int | None:
    """Number of the decoder layer, None for anything else."""
    match = DECODER_LAYER.match(role)
    return int(match.group(1)) if match else None


def vision_layer(role: str) -> int | None:
    """Number of the vision tower's layer, None for anything else."""
    match = VISION_LAYER.match(role)
    return int(match.group(1)) if match else None


def at_layer(role: str, layer: int) -> str:
    """The same decoder role in another layer."""
    return DECODER_LAYER.sub(f"layers.{layer}.", role, count=1)


def every_layer(role: str) -> str:
    """The role with a star for its layer: what to call a kind of tensor to a person."""
    return DECODER_LAYER.sub("layers.*.", role, count=1)


def position_of(role: str) -> Position:
    """Where in the model it sits: `before` and `after` are the decoder's embedding, and its norm and head."""
    if role.startswith("vision."):
        return "vision"
    if not is_decoder(role):
        return "other"
    if decoder_layer(role) is not None:
        return "layer"
    return "before" if role.startswith("embed_tokens.") else "after"


def _counted_apart(role: str, crossing: list[int]) -> str:
    """The role of a tensor of a model whose layers `crossing` have cross-attention."""
    layer = decoder_layer(role)
    if layer is None:
        return role
    if layer in crossing:
        return DECODER_LAYER.sub(f"cross.{crossing.index(layer)}.", role, count=1)
    return at_layer(role, layer - sum(1 for each in crossing if each < layer))
