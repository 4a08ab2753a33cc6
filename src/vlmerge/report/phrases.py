"""What the report says, in English or Japanese: one file of phrases per language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, cast

import yaml

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = ("en", "ja")


@dataclass(frozen=True)
class Phrases:
    """The phrases of one language; calling it looks one up and fills it in."""

    language: Language
    table: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """The phrase of that key. A key that is not there says itself: stage and candidate names may be new ones."""
        phrase = self.table.get(key)
        return key.rpartition(".")[2] if phrase is None else phrase.format(**values)

    def candidate(self, candidate: str) -> str:
        """How a person reads `swap:ja`; `mean:finer` has a phrase of its own."""
        if f"candidate.{candidate}" in self.table:
            return self(f"candidate.{candidate}", name="")
        kind, _, name = candidate.partition(":")
        if kind == "best" and name:
            return self("candidate.best_by_rank", rank=name)
        return self(f"candidate.{kind}", name=name) if f"candidate.{kind}" in self.table else candidate

    def time(self, seconds: float) -> str:
        """A rough duration."""
        if seconds < 90:
            return self("time.seconds", n=round(seconds))
        if seconds < 5400:
            return self("time.minutes", n=round(seconds / 60))
        return self("time.hours", h=int(seconds // 3600), m=round(seconds % 3600 / 60))


def read_phrases(language: Language, *packages: str) -> Phrases:
    """Reads the file of a language.

    Args:
        language: Which.
        packages: Further packages with `strings/`, whose phrases are added to the report's.
    """
    table: dict[str, str] = {}
    for package in ("vlmerge.report", *packages):
        text = files(package).joinpath(f"strings/{language}.yaml").read_text(encoding="utf-8")
        table |= cast(Mapping[str, str], yaml.safe_load(text))
    return Phrases(language, table)
