"""Lines of text in a figure, where a Japanese character is as wide as two Latin ones."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

HANGING = "。、,.」)』】)"
"""Marks that never begin a line: they hang over its end."""


def wrap(text: str, width: int) -> list[str]:
    """Breaks text into lines of at most `width` columns; wide (Japanese) characters count as two and break anywhere."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        line, used = "", 0
        for word in _words(paragraph):
            size = columns(word)
            if used and used + size > width and word not in HANGING:
                lines.append(line.rstrip())
                line, used = "", 0
                word = word.lstrip()
                size = columns(word)
            line, used = line + word, used + size
        lines.append(line.rstrip())
    return lines


def _words(paragraph: str) -> Sequence[str]:
    words: list[str] = []
    for word in re.findall(r"\s*\S+", paragraph):
        if columns(word) > len(word) or len(word) > 20:
            words.extend(word)
        else:
            words.append(word)
    return words


def columns(text: str) -> int:
    """Width of a text in columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
