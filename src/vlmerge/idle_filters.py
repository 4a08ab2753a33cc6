"""Filters of a recipe that meet no tensor: nothing fails by them, and what was meant does not happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlmerge.anatomy import canonical_name
from vlmerge.config.parameter_values import Filtered

if TYPE_CHECKING:
    from vlmerge.anatomy import Pairing
    from vlmerge.config.recipe import Recipe


def idle_filters(recipe: Recipe, pairing: Pairing) -> list[str]:
    """One line for each filter that is in no name of a tensor that merges, whichever model's files have the name."""
    asked: dict[str, str] = {}
    for parameters in recipe.parameter_sets():
        for parameter, value in parameters.items():
            for entry in value if isinstance(value, tuple) else ():
                if isinstance(entry, Filtered) and entry.filter not in (None, "*"):
                    asked.setdefault(entry.filter, parameter)
    names: dict[str, None] = {}
    for each in pairing.merged if asked else ():
        names |= dict.fromkeys((each.name, canonical_name(each.role), *(name for pair in each.names.values() for name in pair)))
    return [
        f"`filter: {text}` (of `{parameter}`) meets nothing: no tensor that merges has that in its name"
        for text, parameter in asked.items()
        if not any(text in name for name in names)
    ]
