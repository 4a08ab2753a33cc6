"""Fonts for the figures: the installed ones that have Japanese glyphs, or none at all. No figure ever shows empty boxes."""

# matplotlib leaves its **kwargs untyped, which strict mode counts as unknown members:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

JAPANESE = (
    "Noto Sans CJK JP", "Noto Sans JP", "Source Han Sans JP", "Source Han Sans", "Hiragino Sans", "Hiragino Kaku Gothic ProN",
    "Hiragino Kaku Gothic Pro", "Yu Gothic", "YuGothic", "Meiryo", "BIZ UDPGothic", "BIZ UDGothic", "MS PGothic", "MS Gothic",
    "IPAexGothic", "IPAPGothic", "IPAGothic", "TakaoPGothic", "TakaoGothic", "VL PGothic", "VL Gothic", "M PLUS 1p",
    "M PLUS Rounded 1c", "Kosugi", "Droid Sans Fallback", "Droid Sans Japanese", "WenQuanYi Zen Hei", "Noto Sans CJK SC",
    "Noto Serif CJK JP", "IPAexMincho",
)  # fmt: skip
"""Family names, most readable first. Noto's whole CJK collection holds all of its languages, whatever its first name is."""

FILES = re.compile(r"cjk|notosansjp|sourcehan|hiragino|yugoth|meiryo|bizud|msgothic|ipa|takao|mplus|kosugi|fallback|wqy", re.I)
"""File names that such fonts have."""

LATIN = "DejaVu Sans"
"""Comes with matplotlib."""


@dataclass(frozen=True)
class Typeface:
    """What the figures are set in: families in the order in which a glyph is looked for."""

    families: tuple[str, ...]
    japanese: str | None

    def shows(self, text: str) -> bool:
        """Whether every character has a glyph, so that no box would be drawn."""
        from matplotlib.font_manager import FontProperties, findfont, get_font

        fonts = [get_font(findfont(FontProperties(family=[family]), fallback_to_default=True)) for family in self.families]
        return all(character.isspace() or any(font.get_char_index(ord(character)) for font in fonts) for character in text)

    def drawable(self, text: str, missing: str = "〓") -> str:
        """The text with characters that no font has replaced by the printer's mark for missing type; no control characters."""
        mark = missing if self.shows(missing) else "?"
        kept = (character for character in text if character.isprintable() or character.isspace())
        return "".join(character if self.shows(character) else mark for character in kept)


def find_typeface(families: Sequence[str] = JAPANESE) -> Typeface:
    """Looks through the fonts that matplotlib knows of on this machine.

    Args:
        families: Japanese families to look for, best first.
    """
    from matplotlib.font_manager import findSystemFonts, fontManager

    def first() -> str | None:
        installed = {entry.name for entry in fontManager.ttflist}
        return next((family for family in families if family in installed), None)

    japanese = first()
    if japanese is None and families:
        known = {entry.fname for entry in fontManager.ttflist}
        for path in findSystemFonts():  # installed after matplotlib wrote its list of fonts
            if path not in known and FILES.search(Path(path).name):
                fontManager.addfont(path)
        japanese = first()
    return Typeface((LATIN,) if japanese is None else (LATIN, japanese), japanese)
