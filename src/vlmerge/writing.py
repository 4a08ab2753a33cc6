"""Writing systems: which one a text is in, and which one a language is written in."""

from __future__ import annotations

import unicodedata
from collections import Counter
from types import MappingProxyType

EAST_ASIAN = ("HIRAGANA", "KATAKANA", "CJK")

LANGUAGES = MappingProxyType(
    {
        **dict.fromkeys(("ja", "zh"), "CJK"),
        "ko": "HANGUL",
        **dict.fromkeys(("en", "de", "fr", "es", "it", "pt", "nl", "vi", "id", "tr", "pl", "sv"), "LATIN"),
        **dict.fromkeys(("ru", "uk", "bg"), "CYRILLIC"),
        **dict.fromkeys(("ar", "fa", "ur"), "ARABIC"),
        **dict.fromkeys(("hi", "mr", "ne"), "DEVANAGARI"),
        "th": "THAI",
        "el": "GREEK",
        "he": "HEBREW",
        "bn": "BENGALI",
        "ta": "TAMIL",
    }
)
"""ISO 639-1 code → the writing system that a language is told by. Languages of one writing system are not told apart."""


def script(text: str) -> str | None:
    """The writing system of most of a text's letters, by their Unicode names; None where it has no letters.

    Kana and Chinese characters are one (`CJK`): Japanese is written in both, and a short answer may have only one of them.
    """
    counts = Counter(_script(character) for character in text if character.isalpha())
    return max(counts, key=lambda name: (counts[name], name)) if counts else None


def is_written_in(text: str, language: str) -> bool:
    """Whether a text is in the writing system of a language.

    What has no letters (a number) is right in every language; what has no character at all is an answer in none.

    Args:
        text: An answer.
        language: One of `LANGUAGES`.
    """
    found = script(text)
    return bool(text.strip()) if found is None else found == LANGUAGES[language]


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "UNNAMED").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ")
    return "CJK" if name.startswith(EAST_ASIAN) else name.partition(" ")[0]
