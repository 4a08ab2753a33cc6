"""Parts of a model for people: what kind of thing a role belongs to."""

from __future__ import annotations

import re
from typing import Literal

Part = Literal["embeddings", "attention", "MLP", "norms", "head", "vision", "projector", "other"]
PARTS: tuple[Part, ...] = ("embeddings", "attention", "MLP", "norms", "head", "vision", "projector", "other")
"""In the order in which they are shown."""

_KINDS: tuple[tuple[str, Part], ...] = (
    (r"vision\.", "vision"),
    (r"projector\.", "projector"),
    (r"other\.", "other"),
    (r"embed_tokens\.", "embeddings"),
    (r"lm_head\.", "head"),
    (r".*norm\.", "norms"),
    (r".*(self_attn|attention|attn)\.", "attention"),
    (r".*(mlp|feed_forward|experts?|moe)\.", "MLP"),
)
"""Beginnings of roles, the first that matches; norms within the attention are norms."""


def part_of(role: str) -> Part:
    """The part of a role; `other` for what is none of them."""
    for pattern, part in _KINDS:
        if re.match(pattern, role):
            return part
    return "other"
