"""Options of an optimizer: a frozen dataclass per algorithm, read from a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from vlmerge.config.problems import nearest
from vlmerge.errors import ConfigError

if TYPE_CHECKING:
    from dataclasses import Field


class Options(Protocol):
    """Any of the dataclasses."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


Read = TypeVar("Read", bound=Options)


def read_options(kind: type[Read], algorithm: str, given: Mapping[str, object]) -> Read:
    """The options that a mapping says; defaults for the others.

    Raises:
        ConfigError: An option that the algorithm has not, or a value that is none of its.
    """
    names = [field.name for field in fields(kind)]
    for name in given:
        if name not in names:
            close = nearest(name, names)
            raise ConfigError(
                f"unknown option `{name}` of {algorithm}",
                expected=f"one of {', '.join(names)}" if names else "no option: it has none",
                found=name,
                remedy=f"did you mean `{close}`?" if close else "take it out",
            )
    try:
        return TypeAdapter(kind).validate_python(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ", ".join(given)
        raise ConfigError(
            f"the option `{name}` of {algorithm} cannot be used as it is",
            expected=first["msg"].removeprefix("Input should be "),
            found=repr(given.get(name)),
            remedy="mend it, or take it out: then its default holds",
        ) from error
