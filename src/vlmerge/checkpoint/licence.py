"""Under which licence a model says it is: its card's front matter, else its LICENSE file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from vlmerge.checkpoint.guarded import guarded
from vlmerge.checkpoint.layout import README
from vlmerge.config.bounded_yaml import YamlRefusal, load_bounded
from vlmerge.errors import printable

READ_BYTES = 1_000_000
"""What is read of a card or a licence: the front matter, or the heading, stands at its beginning."""
MAX_LENGTH = 300
"""Of what is shown."""


def read_licence(folder: Path) -> str | None:
    """The licence as the model itself names it, e.g. `llama2`, `other: NAME` or `other: NAME (https://…)`; None where it names
    none. One line that can be shown."""
    found = _from_card(folder) or _from_file(folder)
    return None if found is None else printable(" ".join(found.split()))[:MAX_LENGTH]


def _from_card(folder: Path) -> str | None:
    text = _beginning(folder, README)
    if not text.startswith("---"):
        return None
    front_matter = text.removeprefix("---").split("\n---", 1)[0]
    try:
        card = load_bounded(front_matter)
    except YamlRefusal:
        return None  # A card that nobody can parse says nothing; the LICENSE file may.
    if not isinstance(card, dict):
        return None
    fields = cast("dict[str, Any]", card)
    licence = fields.get("license")
    if isinstance(licence, list):
        licence = ", ".join(str(one) for one in cast("list[Any]", licence))
    name, link = fields.get("license_name"), fields.get("license_link")
    if licence == "other" and (name or link):
        linked = name and str(link or "").startswith("https://")
        return f"other: {name or link}" + (f" ({link})" if linked else "")
    return str(licence) if licence else None


def _from_file(folder: Path) -> str | None:
    for path in sorted(folder.glob("LICEN[CS]E*")):
        if path.is_file():
            lines = _beginning(folder, path.name).splitlines()
            return next((line.strip() for line in lines if line.strip()), None)
    return None


def _beginning(folder: Path, name: str) -> str:
    """The first part of a text; nothing where it cannot be opened. Raises CheckpointError if it leads out of the folder."""
    try:
        with guarded(folder, name).open("rb") as file:
            return file.read(READ_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
