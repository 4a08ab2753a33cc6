"""A transformers model in memory with its processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlmerge.errors import CheckpointError


@dataclass(frozen=True)
class Loaded:
    """A model in memory.

    Attributes:
        model: A transformers model with a language-model head, in evaluation mode.
        processor: Its processor, None for a plain language model.
        tokenizer: Its tokenizer; None where not even that could be loaded.
        placeholder: Token id of one picture token, None for a plain language model.
        whole_because: Why its prompts are read whole by its own `generate` (`ways.py`); None where they are read in parts.
        bare: Prompt of a checkpoint without chat template: `vicuna_v1`, or `plain`.
        cannot_ask: Why it can be merged but not be asked: its processor cannot be loaded.
    """

    model: Any
    processor: Any
    tokenizer: Any
    placeholder: int | None
    whole_because: str | None = None
    bare: str = "vicuna_v1"
    cannot_ask: CheckpointError | None = None
