"""Which decoders the fast path of a GPU knows, by what their configs say. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlmerge.anatomy.recognition import decoder_type, text_config
from vlmerge.runtime.ways import STEADY_TURNS, sliding_window

if TYPE_CHECKING:
    from vlmerge.anatomy import Anatomy

FAMILIAR = ("llama", "mistral", "qwen2")
"""model_type of decoders of this shape: pre-norm, rotary halves, gated silu, no scalings in between."""


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
    kind, facts = decoder_type(anatomy.family, config), anatomy.facts
    window = sliding_window(kind, text_config(anatomy.family, config))
    return unfamiliar(kind, facts.activation, facts.rope_scaling, facts.head_dim, windows=window is not None)
