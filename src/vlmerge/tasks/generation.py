"""lm-eval's arguments of generation → how answers are decoded, and the texts that stop them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vlmerge.errors import TaskError
from vlmerge.types import Decoding

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What tasks call the longest answer; the first that is there counts."""
KNOWN = (*LENGTHS, "until", "do_sample", "temperature", "top_p", "num_beams", "repetition_penalty")
ONLY_SAMPLED = ("top_k", "min_p", "typical_p")
"""What says nothing where nothing is drawn."""


def decoding_of(given: Mapping[str, Any], longest: int = 256) -> tuple[Decoding, tuple[str, ...]]:
    """What a task's `generation_kwargs` ask for.

    Args:
        given: As the task has them.
        longest: Longest answer where they do not say.

    Raises:
        TaskError: They ask for something that is not done here.
    """
    temperature = float(given.get("temperature") or 0.0)
    sampled = given.get("do_sample")
    if sampled is None:
        sampled = temperature > 0
    strange = [key for key in given if key not in KNOWN and (sampled or key not in ONLY_SAMPLED)]
    if sampled and temperature <= 0:
        strange.append("do_sample (without a temperature)")
    if strange:
        raise TaskError(
            "a task of lm-eval generates in a way that is not known here",
            where="`generation_kwargs` of the task",
            expected=", ".join(KNOWN),
            found=", ".join(strange),
            remedy="take these out of the task's YAML, in a copy on the `task_search_path`",
        )
    until = given.get("until") or ()
    stops = (until,) if isinstance(until, str) else tuple(map(str, until))
    length = next((given[key] for key in LENGTHS if given.get(key) is not None), longest)
    decoding = Decoding(
        max_new_tokens=int(length),
        num_beams=int(given.get("num_beams", 1)),
        temperature=temperature if sampled else 0.0,
        top_p=float(given.get("top_p", 1.0)) if sampled else 1.0,
        repetition_penalty=float(given.get("repetition_penalty", 1.0)),
    )
    return decoding, stops


def cut_at(text: str, stops: Iterable[str]) -> str:
    """The text before the first of each."""
    for stop in stops:
        if stop:
            text = text.split(stop)[0]
    return text
