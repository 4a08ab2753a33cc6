"""The value of a parameter in a recipe: a number or flag, a gradient over the layers, or a list of these by tensor name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

from pydantic import PlainValidator

from vlmerge.config.fields import Block, Text, misfit

Scalar = float | bool
Gradient = tuple[Scalar, ...]


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


def _gradient(entries: Sequence[object]) -> Gradient:
    if not entries:
        raise misfit("a number, true or false, or a list of them", list(entries), "give it at least one entry")
    return tuple(_scalar(entry) for entry in entries)


def _scalar_or_gradient(value: object) -> Scalar | Gradient:
    return _gradient(cast("Sequence[object]", value)) if isinstance(value, list | tuple) else _scalar(value)


class Filtered(Block):
    """One entry of a list by tensor name. `filter` is a plain substring; None or `*` matches every tensor."""

    filter: Text | None = None
    value: Annotated[Scalar | Gradient, PlainValidator(_scalar_or_gradient)]


def parameter_value(value: object) -> Scalar | Gradient | tuple[Filtered, ...]:
    """Reads what a file (or code) gives as a parameter's value; an entry alone counts as a list of one."""
    if isinstance(value, Filtered | Mapping):
        return (_filtered(cast("object", value)),)
    if not isinstance(value, list | tuple):
        return _scalar(value)
    entries = cast("Sequence[object]", value)
    filtered = [isinstance(entry, Filtered | Mapping) for entry in entries]
    if not any(filtered):
        return _gradient(entries)
    if all(filtered):
        return tuple(_filtered(entry) for entry in entries)
    raise misfit("only numbers, or only {filter:, value:} entries", entries, "give the numbers a `value:` of their own")


def _filtered(entry: object) -> Filtered:
    if isinstance(entry, Filtered):
        return entry
    mapping = cast("Mapping[Any, Any]", entry)
    if "value" not in mapping or not mapping.keys() <= {"filter", "value"}:
        raise misfit("{filter: SUBSTRING, value: …}", dict(mapping), "an entry has these two keys, and needs `value`")
    return Filtered.model_validate(mapping)


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
    entries = value if isinstance(value, tuple) else ()
    filtered = tuple(entry for entry in entries if isinstance(entry, Filtered))
    if filtered:
        return tuple(Filtered(filter=entry.filter, value=_flags(entry.value)) for entry in filtered)
    return _flags(cast("Scalar | Gradient", value))


def _flags(value: Scalar | Gradient) -> Scalar | Gradient:
    return tuple(_flag(scalar) for scalar in value) if isinstance(value, tuple) else _flag(value)


def _flag(value: Scalar) -> Scalar:
    return bool(value) if value in (0, 1) else value
