"""What a judge has written → points."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

NUMBER = r"-?\d+(?:\.\d+)?"
MARKED = re.compile(rf"\[\[\s*({NUMBER})\s*\]\]")
LABELLED = re.compile(
    r"(?:score|rating|points?|点数|得点|採点|評価|スコア)[\"'`*_ \t]*(?:[:=]|is|は|が)?"
    rf"[\"'`*_ \t\[(]*({NUMBER})(?![\d.]*[ \t]*段階)",
    re.IGNORECASE,
)
"""On one line: what follows on the next one may be the first point of a list."""
RANGE = re.compile(rf"\(?\s*{NUMBER}\s*(?:to|-|–|~|から)\s*{NUMBER}\s*\)?")
"""Two ends of a scale, repeated by the judge; or a judge that cannot make up its mind."""
PAIR = re.compile(rf"[\"'`*_\s\[(]*({NUMBER})(?:\s*[,、/]\s*|\s+)({NUMBER})[\"'`*_\s.。)\]]*")
"""Nothing but two numbers: those of a sentence may be anything, the number of an assistant for one."""
ALONE = re.compile(rf"[\"'`*_\s(]*({NUMBER})\s*(?:/\s*{NUMBER})?\s*(?:点|points?)?[\"'`*_\s.。)]*", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """A judge's word on an answer.

    Attributes:
        points: Of the answer, on the judge's scale.
        reference: Of the reference, where the judge compares.
        text: What it wrote.
    """

    points: float
    reference: float | None
    text: str


def read_verdict(
    text: str, low: float, high: float, reading: Literal["number", "pair"], *, cut: bool = False
) -> Verdict | None:
    """Points out of a verdict, or None where it gives none within the scale. What a judge thinks aloud first is left out.

    Args:
        text: What the judge wrote.
        low: Points of the worst answer.
        high: Of the best.
        reading: What was asked for.
        cut: Whether the text ends where its tokens did: then a number on the way is no verdict.
    """
    if "<think>" in text and "</think>" not in text:
        return None
    said = unicodedata.normalize("NFKC", text.rpartition("</think>")[2]).strip()
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if reading == "pair":
        match = PAIR.fullmatch(lines[0]) if lines else None
        pair = [] if match is None else [float(match[1]), float(match[2])]
        right = len(pair) == 2 and all(low <= points <= high for points in pair)
        return Verdict(pair[1], pair[0], text) if right else None
    points = _points(said, lines, cut)
    return Verdict(points, None, text) if points is not None and low <= points <= high else None


def _points(said: str, lines: list[str], cut: bool) -> float | None:
    """By a mark, by a word such as `Score:`, as a line of its own (the last one first), as the only number of all."""
    said = RANGE.sub("", said)
    for marked in (MARKED.findall(said), LABELLED.findall(said)):
        if marked:
            return float(marked[-1])
    for line in (*lines[-1:], *lines[:1]):
        if (alone := ALONE.fullmatch(line)) is not None:
            return float(alone[1])
    if cut:
        return None
    numbers: list[str] = re.findall(NUMBER, re.sub(rf"({NUMBER})\s*/\s*{NUMBER}", r"\1", said))
    return float(numbers[0]) if len(numbers) == 1 else None
