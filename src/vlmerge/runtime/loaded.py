"""A transformers model in memory with its processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Loaded:
    """A model in memory.

    Attributes:
        model: A transformers model with a language-model head, in evaluation mode.
        processor: Its processor, None for a plain language model.
        tokenizer: Its tokenizer.
        placeholder: Token id of one picture token, None for a plain language model.
    """

    model: Any
    processor: Any
    tokenizer: Any
    placeholder: int | None
