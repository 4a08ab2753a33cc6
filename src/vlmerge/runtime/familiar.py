"""Which decoders the fast path of a GPU knows, by what their configs say. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlmerge.anatomy.recognition import decoder_type, text_config

if TYPE_CHECKING:
    from vlmerge.anatomy import Anatomy

FAMILIAR = ("llama", "mistral", "qwen2")
"""model_type of decoders of this shape: pre-norm, rotary halves, gated silu, no scalings in between."""
STEADY_TURNS = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary positions that do not depend on the length of what is read."""


def unfamiliar(kind: str, activation: str, turns: str, head: int, *, windows: bool) -> str | None:
    """What of a decoder the fast path does not know; None where it knows all of it.

    Args:
        kind: model_type of the decoder.
        activation: Of its MLP.
        turns: Kind of rotary positions.
        head: Size of a head.
        windows: Whether some layers see a sliding window alone.
    """
    if kind not in FAMILIAR:
        return f"decoders of type {kind}"
    if activation != "silu":
        return f"the activation {activation}"
    if turns not in STEADY_TURNS:
        return f"rotary positions of type {turns}"
    if windows:
        return "sliding windows"
    if head < 16 or head & (head - 1):
        return f"heads of size {head}"
    return None


def unfamiliar_in(anatomy: Anatomy, config: Mapping[str, Any]) -> str | None:
    """`unfamiliar` for a checkpoint that is not loaded."""
    text, facts = text_config(anatomy.family, config), anatomy.facts
    windows = text.get("sliding_window") is not None and text.get("use_sliding_window", True)
    kind = decoder_type(anatomy.family, config)
    return unfamiliar(kind, facts.activation, facts.rope_scaling, facts.head_dim, windows=bool(windows))
