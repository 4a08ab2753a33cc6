"""Plain values → the YAML that PyYAML writes, to the letter, in a fraction of the time.

A recipe of hundreds of numbers is written down for every candidate; PyYAML takes tens of milliseconds for one. Here block
style is written directly where every text is a word; anything else is left to PyYAML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import yaml

WIDTH = 120
WORD = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./@+-]{0,99}")
"""Texts that no line break, indicator or column can change; PyYAML says whether they need quotes."""


class _NotPlainError(Exception):
    """Something that is left to PyYAML."""


def dump_plain(plain: Mapping[str, Any]) -> str:
    """What `yaml.safe_dump` writes in block style, in the mapping's own order.

    Args:
        plain: Texts, numbers, flags and None in mappings and lists.
    """
    lines: list[str] = []
    try:
        if not plain:
            raise _NotPlainError
        _mapping(plain, "", "", lines)
    except _NotPlainError:
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=WIDTH)
        # PyYAML writes U+0085 as a line break and reads it back as a space; escaped it survives.
        return text if "\x85" not in text else yaml.safe_dump(plain, sort_keys=False, width=WIDTH)
    return "\n".join([*lines, ""])


def _mapping(entries: Mapping[Any, Any], first: str, rest: str, lines: list[str]) -> None:
    """Writes entries; the first line begins with `first`, the others with `rest`."""
    for key, value in entries.items():
        head = f"{first}{_word(key)}:"
        if value and type(value) is dict:
            lines.append(head)
            _mapping(cast("dict[Any, Any]", value), f"{rest}  ", f"{rest}  ", lines)
        elif value and type(value) is list:
            lines.append(head)
            _sequence(cast("list[Any]", value), rest, rest, lines)
        else:
            lines.append(f"{head} {_scalar(value)}")
        first = rest


def _sequence(items: Sequence[Any], first: str, rest: str, lines: list[str]) -> None:
    for item in items:
        if item and type(item) is dict:
            _mapping(cast("dict[Any, Any]", item), f"{first}- ", f"{rest}  ", lines)
        elif item and type(item) is list:
            _sequence(cast("list[Any]", item), f"{first}- ", f"{rest}  ", lines)
        else:
            lines.append(f"{first}- {_scalar(item)}")
        first = rest


def _scalar(value: object) -> str:
    if type(value) is float and math.isfinite(value):
        text = repr(value)
        return text if "." in text else text.replace("e", ".0e", 1)  # YAML 1.1 knows no number without a dot before its e.
    if type(value) is str:
        return _word(value)
    if value is None or type(value) is bool:
        return {None: "null", True: "true", False: "false"}[value]
    if type(value) is int:
        return str(value)
    if value in ({}, []):
        return str(value)
    raise _NotPlainError


@lru_cache(maxsize=1024)
def _word(text: object) -> str:
    if type(text) is not str or not WORD.fullmatch(text):
        raise _NotPlainError
    return yaml.safe_dump([text]).removeprefix("- ").removesuffix("\n")
