"""The kinds of values that YAML files hold, stricter than YAML: its yes/no/on/off are no names, its true is no number."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeVar, cast

from pydantic import AllowInfNan, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from vlmerge.config.model_ref import ModelRef
from vlmerge.config.problems import Location, Problem, unknown
from vlmerge.errors import ConfigError

Listed = TypeVar("Listed", bound="tuple[Any, ...] | dict[str, Any]")


class Block(BaseModel):
    """A mapping in a file: frozen, no other keys than its own; and of mergekit's keys that are not among them, why."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    not_here: ClassVar[Mapping[str, str]] = MappingProxyType({})


def misfit(expected: str, found: object, remedy: str = "") -> PydanticCustomError:
    """An error of a single value, for validators."""
    return PydanticCustomError("misfit", "not usable", {"expected": expected, "found": shown(found), "remedy": remedy})


def complaint(what: str, *, expected: str = "", found: str = "", remedy: str = "") -> PydanticCustomError:
    """An error about how values go together, for validators of a block."""
    return PydanticCustomError(
        "complaint", "not usable", {"what": what, "expected": expected, "found": found, "remedy": remedy}
    )


def shown(value: object) -> str:
    """A value as the person wrote it, or close to it."""
    if isinstance(value, bool):
        return f"{str(value).lower()} (in YAML yes, no, on and off are read as true and false)"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "…"


def _text(value: object) -> object:
    if isinstance(value, bool | int | float) or type(value).__name__ in ("date", "datetime"):
        raise misfit("text", value if isinstance(value, bool | int | float) else str(value), "put it in quotes")
    return value


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise misfit("a number", value)
    return value


def _model(value: object) -> ModelRef:
    try:
        return ModelRef.parse(value)
    except ConfigError as error:
        detail = {"expected": error.expected or "", "found": error.found or "", "remedy": error.remedy or ""}
        raise PydanticCustomError("complaint", "not usable", {"what": error.what, **detail}) from error


def not_empty(value: Listed) -> Listed:
    """For lists that need an entry; runs once the entries are right, so that a bad entry is not reported as a missing one."""
    if not value:
        raise misfit("at least one entry", [], "add one")
    return value


Text = Annotated[str, BeforeValidator(_text)]
Number = Annotated[float, BeforeValidator(_number), AllowInfNan(False)]
Whole = Annotated[int, BeforeValidator(_number)]
Model = Annotated[ModelRef, BeforeValidator(_model)]
Dtype = typing.Literal["bfloat16", "float16", "float32", "float64"]


def dtype_name(value: object) -> object:
    """Takes the `torch.` off; mergekit's files may have it."""
    return value.removeprefix("torch.") if isinstance(value, str) else value


DtypeField = Annotated[Dtype, BeforeValidator(dtype_name)]


def problems_of(error: ValidationError, block: type[Block], data: object, prefix: Location = ()) -> list[Problem]:
    """pydantic's errors as problems that a person can mend, in the file's words."""
    found: dict[tuple[Location, str], Problem] = {}
    for detail in error.errors():
        location, owner = _locate(block, tuple(detail["loc"]), data)
        problem = _problem(dict(detail), prefix + location, owner)
        found.setdefault((problem.at, problem.what), problem)
    return list(found.values())


def _problem(detail: dict[str, Any], at: Location, owner: type[Block] | None) -> Problem:
    kind, context = cast("str", detail["type"]), cast("dict[str, Any]", detail.get("ctx", {}))
    name = str(at[-1]) if at else "this file"
    if kind == "extra_forbidden":
        key = str(at[-1])
        if owner and key in owner.not_here:
            return Problem(f"`{key}` is {owner.not_here[key]}", at, remedy="leave it out")
        return unknown("key", key, {*owner.model_fields, *owner.not_here} if owner else (), at)
    if kind == "missing":
        return Problem(f"`{name}` is missing", at[:-1], expected=f"a key `{name}` here", remedy="add it")
    if kind == "complaint":
        parts = {part: context[part] or None for part in ("expected", "found", "remedy")}
        return Problem(context["what"], at, **parts)
    expected = context["expected"] if kind == "misfit" else detail["msg"].removeprefix("Input should be ")
    given = context["found"] if kind == "misfit" else shown(detail.get("input"))
    remedy = context.get("remedy") or "write another value"
    return Problem(f"`{name}` cannot have this value", at, expected=expected, found=given, remedy=remedy)


def _locate(block: type[Block], parts: tuple[str | int, ...], data: object) -> tuple[Location, type[Block] | None]:
    """pydantic's location without its union tags, and the block that the last key stands in."""
    location: list[str | int] = []
    owner: type[Block] | None = block
    annotation: object = block
    last_owner: type[Block] | None = block
    for part in parts:
        owner = _block_in(annotation)
        if isinstance(data, Mapping) and part in data:
            step: object = cast("Mapping[Any, object]", data)[part]
        elif (
            isinstance(data, Sequence)
            and not isinstance(data, str)
            and isinstance(part, int)
            and part < len(cast("Sequence[object]", data))
        ):
            step = cast("Sequence[object]", data)[part]
        elif isinstance(part, str) and owner is not None and part in owner.model_fields and part == parts[-1]:
            step = None
        else:
            continue
        location.append(part)
        last_owner = owner
        if isinstance(part, str) and owner is not None and part in owner.model_fields:
            annotation = owner.model_fields[part].annotation
        data = step
    return tuple(location), last_owner


def _block_in(annotation: object) -> type[Block] | None:
    """The block that an annotation holds, through Optional, Union, tuple and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple, list, Annotated):
        for inner in typing.get_args(annotation):
            found = _block_in(inner)
            if found is not None:
                return found
    return None
