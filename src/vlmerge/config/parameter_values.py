"""The value of a parameter in a recipe: a number or flag, a gradient over the layers, or a list of these by tensor name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

from pydantic import PlainValidator

from vlmerge.config.fields import Block, Text, misfit

Scalar = float | bool
Gradient = tuple[Scalar, ...]


def _scalar_or_gradient(value: object) -> Scalar | Gradient:
    if isinstance(value, Sequence) and not isinstance(value, str):
        entries = cast("Sequence[object]", value)
        if not entries:
            raise misfit("a number, true or false, or a list of them", value, "give it at least one entry")
        return tuple(_scalar(entry) for entry in entries)
    return _scalar(value)


def _scalar(value: object) -> Scalar:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float | str):
        # YAML 1.1 reads 1e-5 (no dot) as text.
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise misfit("a finite number, or true or false", value)


class Filtered(Block):
    """One entry of a list by tensor name. `filter` is a plain substring; None or `*` matches every tensor."""

    filter: Text | None = None
    value: Annotated[Scalar | Gradient, PlainValidator(_scalar_or_gradient)]


def parameter_value(value: object) -> Scalar | Gradient | tuple[Filtered, ...]:
    """Reads what a file (or code) gives as a parameter's value."""
    if isinstance(value, Filtered | Mapping):
        value = [value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        entries = cast("Sequence[object]", value)
        filtered = [isinstance(entry, Filtered | Mapping) for entry in entries]
        if entries and all(filtered):
            return tuple(
                entry if isinstance(entry, Filtered) else _filtered(cast("Mapping[Any, Any]", entry)) for entry in entries
            )
        if any(filtered):
            raise misfit(
                "either only numbers or only {filter:, value:} entries", value, "give the numbers a `value:` of their own"
            )
    return _scalar_or_gradient(value)


def _filtered(entry: Mapping[Any, Any]) -> Filtered:
    strange = [key for key in entry if key not in ("filter", "value")]
    if strange or "value" not in entry:
        raise misfit("{filter: SUBSTRING, value: …}", dict(entry), "an entry has these two keys, and needs `value`")
    return Filtered.model_validate(entry)


ParameterValue = Scalar | Gradient | tuple[Filtered, ...]
"""float, bool, a gradient of them, or entries by tensor name."""

ParameterField = Annotated[ParameterValue, PlainValidator(parameter_value)]


def plain_value(value: ParameterValue) -> Any:
    """The same as numbers, lists and dicts, for YAML."""
    if not isinstance(value, tuple):
        return value
    return [
        ({} if entry.filter is None else {"filter": entry.filter}) | {"value": plain_value(entry.value)}
        if isinstance(entry, Filtered)
        else entry
        for entry in value
    ]


def scalars(value: ParameterValue) -> list[Scalar]:
    """Every number or flag in a value."""
    if not isinstance(value, tuple):
        return [value]
    return [scalar for entry in value for scalar in (scalars(entry.value) if isinstance(entry, Filtered) else [entry])]


def as_flags(value: ParameterValue) -> ParameterValue:
    """0 and 1 as false and true; anything else as it is."""
    if isinstance(value, tuple):
        if value and isinstance(value[0], Filtered):
            entries = cast("tuple[Filtered, ...]", value)
            return tuple(Filtered(filter=entry.filter, value=as_flags(entry.value)) for entry in entries)
        return tuple(cast("Scalar", as_flags(entry)) for entry in cast("Gradient", value))
    return bool(value) if value in (0, 1) else value
