"""Scores of answers that come down to a number: whether the last one in the answer is the reference's."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from vlmerge.tasks.japanese import GATE, LanguageGate

NUMBER = re.compile(r"(?<![\d.])[-−]?\d+(?:,\d{3})*(?:\.\d+)?")
PUBLISHED = re.compile(r"\d*\.?\d+")


def last_number(text: str) -> Decimal | None:
    """The last number in a text, full-width digits, a minus and thousands' commas understood; None where there is none."""
    found = NUMBER.findall(unicodedata.normalize("NFKC", text))
    return Decimal(found[-1].replace(",", "").replace("−", "-")) if found else None


@dataclass(frozen=True)
class NumberMatch:
    """1 where the last number of the answer is the last number of a reference."""

    def __call__(self, answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:  # noqa: ARG002 - not asked
        said = last_number(answer)
        return float(said is not None and any(said == last_number(reference) for reference in references))


@dataclass(frozen=True)
class JapaneseNumberMatch:
    """`acc_ja` of EvoLLM-JP's evaluation on MGSM-JA: the last number is right, and the answer is Japanese.

    Source: SakanaAI/evolutionary-model-merge, `evomerge/eval/ja_mgsm.py` (Akiba et al., 2024). A number is there what
    `\\d*\\.?\\d+` finds, so that of `1,200` the last one is 200, and a minus is not read.
    """

    gate: LanguageGate = field(default_factory=LanguageGate, repr=False)

    def __call__(self, answer: str, references: Sequence[str], options: Sequence[str] = ()) -> float:  # noqa: ARG002 - not asked
        found = PUBLISHED.findall(answer)
        wanted = [number for number in map(last_number, references) if number is not None]
        right = bool(found) and any(float(found[-1]) == float(number) for number in wanted)
        return float(right and self.gate.probability(answer) > GATE)
