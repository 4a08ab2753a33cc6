"""Which way a model's answers go: prompts read in two parts over cached pictures, or whole by its own `generate`. No torch.

The first way (`decode.py`, and `fused/` on a GPU) reads what questions share once. It is right for a causal decoder that takes
pictures as rows among its embeddings and tokens at their places in line. Whatever needs more takes the second (`generate.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlmerge.anatomy.decoders import kind_of
from vlmerge.anatomy.recognition import decoder_type, text_config

if TYPE_CHECKING:
    from vlmerge.anatomy import Anatomy

IN_THREE = "its decoder gives picture tokens positions in three parts"
WHOLE_BECAUSE: dict[str, str | None] = {
    "LLaVA": None,
    "LLaVA (original)": None,
    "LLaVA-NeXT": None,
    "LLaVA-OneVision": None,
    "Qwen2-VL": IN_THREE,
    "Qwen2.5-VL": IN_THREE,
    "Qwen3-VL": IN_THREE,
    "InternVL": None,
    "Idefics3 and SmolVLM": None,
    "PaliGemma": "its decoder reads the prompt in both directions",
    "Gemma 3": "its decoder reads pictures in both directions",
    "Mllama": "its decoder sees pictures by cross-attention",
    "Mistral 3": None,
    "Aya Vision": None,
    "Cohere2 Vision": None,
    **dict.fromkeys(("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Phi-3", "Cohere")),
}
"""Family → why all its models take the second way; None: they take the first, unless their decoder has something odd."""

WINDOWS = {"mistral": 4096, "gemma2": 4096, "gemma3_text": 4096, "cohere2": 4096}
"""Decoder's model_type → tokens that a layer sees at once where config.json does not say; no other class limits them."""
WINDOWS_IF_SAID = ("qwen2", "qwen3")
"""Decoders whose `sliding_window` counts only beside `use_sliding_window: true`."""
STEADY_TURNS = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary positions that do not depend on the length of what is read."""


def whole_because(anatomy: Anatomy, config: Mapping[str, Any]) -> str | None:
    """Why a model's prompts are read whole, by its own `generate`; None where they are read in parts.

    Args:
        anatomy: The model's.
        config: Its config.json.
    """
    family = anatomy.family
    if family.name not in WHOLE_BECAUSE:
        return "nothing is known of its family"
    if (reason := WHOLE_BECAUSE[family.name]) is not None:
        return reason
    kind = kind_of(decoder_type(family, config))
    if kind == "gemma2":
        return "its decoder caps attention"
    if sliding_window(kind, text_config(family, config)) is not None:
        return "its decoder sees sliding windows"
    if anatomy.facts.rope_scaling not in STEADY_TURNS:
        return f"its decoder has rotary positions of type {anatomy.facts.rope_scaling}"
    return None


def sliding_window(kind: str, text: Mapping[str, Any]) -> int | None:
    """Tokens that some layers of a decoder see at once; None where all layers see everything.

    Args:
        kind: model_type of the decoder.
        text: The decoder's part of config.json, defaults not filled in.
    """
    if kind in WINDOWS_IF_SAID and not text.get("use_sliding_window"):
        return None
    found: int | None = text.get("sliding_window", WINDOWS.get(kind))
    return found


def way_line(anatomy: Anatomy, config: Mapping[str, Any]) -> str:
    """Which way a model's greedy answers go, and why, in one line."""
    reason = whole_because(anatomy, config)
    if reason is None:
        shared = "; pictures and what is before them are read once for all questions about them" if anatomy.is_vlm else ""
        return f"answers: prompts are read by vlmerge's own loop{shared}"
    return f"answers: by the model's own generate, because {reason}" + (
        "; a picture still goes through the tower once" if anatomy.is_vlm else ""
    )
