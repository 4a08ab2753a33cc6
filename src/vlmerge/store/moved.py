"""Names of files within a folder that has moved, in what a run has written down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import yaml

from vlmerge.config.plain_yaml import dump_plain

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def moved(value: Any, old: str, new: str) -> Any:
    """The same plain value with every text (and key) that names the folder `old`, or something in it, naming it in `new`."""
    if isinstance(value, str):
        return new + value[len(old) :] if value == old or value.startswith(f"{old}/") else value
    if isinstance(value, Mapping):
        return {moved(key, old, new): moved(each, old, new) for key, each in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list):
        return [moved(each, old, new) for each in cast("list[Any]", value)]
    return value


def moved_text(text: str, old: str, new: str) -> str:
    """The same for YAML; what names nothing there stays as it is, to the letter."""
    data = yaml.load(text, Loader=_Loader)
    changed = moved(data, old, new)
    return text if changed == data else dump_plain(changed)
