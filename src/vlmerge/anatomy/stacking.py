"""Which decoders' layers may stand in another order, and where a factor on the hidden state can be folded into weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlmerge.anatomy.decoders import layer_types
from vlmerge.anatomy.recognition import decoder_type, text_config
from vlmerge.errors import MismatchError

if TYPE_CHECKING:
    from vlmerge.anatomy.dissect import Anatomy

FOLDS = ("llama", "mistral", "ministral3", "qwen2", "qwen3", "gemma", "phi3")
"""Kinds of decoders in which whatever reads the hidden state is an RMSNorm, and only o_proj and down_proj add to it."""
ADDS_ON_THE_WAY = ("qwen3_vl_text",)
"""Decoders that add something else to the hidden state between their layers: features of pictures."""
PER_LAYER = ("layer_types", "mlp_only_layers", "no_rope_layers")
"""Keys of a config by which layers differ."""


def require_stackable(anatomy: Anatomy, config: Mapping[str, Any], *, scaled: bool) -> None:
    """Refuses a decoder whose layers have kinds that go by their number, or factors that no weight can say.

    Args:
        anatomy: The model's.
        config: Its config.json.
        scaled: Whether hidden states are to be multiplied by factors.

    Raises:
        MismatchError: With the reason.
    """
    reason = _differs(anatomy, config)
    if reason is not None:
        raise MismatchError(
            "the layers of this decoder cannot stand in another order",
            where=anatomy.where,
            expected="layers that are all of one kind",
            found=reason,
            remedy="merge these models with `merge:`",
        )
    decoder = decoder_type(anatomy.family, config)
    if scaled and (anatomy.facts.kind not in FOLDS or decoder in ADDS_ON_THE_WAY):
        raise MismatchError(
            "factors between the layers of this decoder cannot be folded into its weights",
            where=anatomy.where,
            expected=f"a decoder that reads its hidden state through RMSNorm alone: {', '.join(FOLDS)}",
            found=f"a decoder of the type {decoder}",
            remedy="write `scale: false`: paths without factors can be searched",
        )


def _differs(anatomy: Anatomy, config: Mapping[str, Any]) -> str | None:
    """How layers differ by more than their weights; None where they do not."""
    text, layers = text_config(anatomy.family, config), anatomy.layers
    if any(role.startswith("cross.") for role in anatomy.roles):
        return "layers with cross-attention between them"
    if any(".experts." in role for role in anatomy.roles):
        return "mixtures of experts"
    kinds = text.get("layer_types") or layer_types(anatomy.facts.kind, text, layers)
    if kinds is not None and len(set(kinds)) > 1:
        return f"layers of several kinds: {', '.join(dict.fromkeys(map(str, kinds)))}"
    most = text.get("max_window_layers")
    if text.get("use_sliding_window") and most is not None and 0 < int(most) < layers:
        return "full attention in the first layers, a sliding window in the others"
    said = [key for key in PER_LAYER[1:] if text.get(key)]
    return f"layers that differ by `{said[0]}`" if said else None
