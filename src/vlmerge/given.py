"""What people hand over from Python: paths, dicts, names → what verbs take, or an error that says what was expected."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar, cast

from vlmerge.config.file_kinds import (
    DICT,
    load_either,
    load_only_recipe,
    load_only_run,
    parse_either,
    parse_only_recipe,
    parse_only_run,
)
from vlmerge.config.recipe import Recipe
from vlmerge.config.run import RunConfig
from vlmerge.errors import ConfigError

if TYPE_CHECKING:
    from vlmerge.types import Decoding

A_PATH = "a path: text or pathlib.Path"
DEVICES = ("auto", "cpu", "cuda")
LANGUAGES = ("en", "ja")
Named = TypeVar("Named", bound=str)


def path_of(given: object, where: str) -> Path:
    """A path; `where` is the argument that it was given for, as messages name it."""
    return Path(text_of(given, where)).expanduser()


def model_of(given: object, where: str) -> str:
    """A model's folder or hub id."""
    if type(given).__name__ == "Model" and isinstance(name := getattr(given, "name", None), str):
        remedy = f"give what it was loaded from: {name!r}"
        raise _wrong("this is a loaded model", where, "its folder or hub id", given, remedy)
    return text_of(given, where, "a folder, a run folder or a hub id, as text or pathlib.Path")


def folders_of(given: object, where: str) -> tuple[str, ...]:
    """Folders: one or several."""
    several = cast("Sequence[object]", given) if isinstance(given, list | tuple) else (given,)
    return tuple(str(path_of(each, where).absolute()) for each in several)


def recipe_of(given: object, where: str) -> Recipe:
    """A recipe: a file, a dict, or the value itself."""
    if isinstance(given, Recipe):
        return given
    if _is_dict(given):
        return parse_only_recipe(given)
    return load_only_recipe(Path(text_of(given, where, "a recipe: a file, a dict, or a Recipe")).expanduser())


def run_of(given: object, where: str) -> RunConfig:
    """A run: a file, a dict, or the value itself."""
    if isinstance(given, RunConfig):
        return given
    if _is_dict(given):
        return parse_only_run(given)
    return load_only_run(Path(text_of(given, where, "a run: a file, a dict, or a RunConfig")).expanduser())


def either_of(given: object, where: str) -> Recipe | RunConfig:
    """A recipe or a run."""
    if isinstance(given, Recipe | RunConfig):
        return given
    if _is_dict(given):
        return parse_either(given)
    return load_either(Path(text_of(given, where, "a recipe or a run: a file, a dict, a Recipe or a RunConfig")).expanduser())


def name_of(given: object) -> str:
    """How messages name it."""
    return os.fspath(given) if is_path(given) else DICT


def run_folder_of(run: object, out: object, where: str) -> Path:
    """The folder of a run; of a file by default runs/ and the file's name."""
    if out is not None:
        return path_of(out, where)
    if is_path(run):
        return Path("runs") / Path(run).expanduser().stem
    raise ConfigError(
        "a run that is no file has no name for its folder",
        where="vlmerge.evolve",
        expected="a folder as the second argument",
        remedy='vlmerge.evolve(run, "runs/first")',
    )


def tasks_of(given: object, keys: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Tasks as in a run file: one or several, each with these keys where it does not say otherwise."""
    several = cast("Sequence[object]", given) if isinstance(given, list | tuple) else [given]
    if not several:
        raise _wrong("there is no task", where, "a task by its name or file, a dict as in a run file, or several", [])
    specs: list[dict[str, Any]] = []
    for task in several:
        expected = "a task's name or file, or a dict as in a run file"
        specs.append({**keys, **(task if _is_dict(task) else {"name": text_of(task, where, expected)})})
    return specs


def question_of(given: object, where: str) -> str:
    """A question."""
    if not isinstance(given, str):
        raise _wrong("this is no question", where, 'text, e.g. "What is this?"', given)
    return given


def decoding_of(max_new_tokens: object, temperature: object, seed: object, where: str) -> Decoding:
    """How an answer is generated."""
    from vlmerge.types import Decoding

    longest, own_seed = whole_of(max_new_tokens, "max_new_tokens", where), whole_of(seed, "seed", where)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature < float("inf"):
        raise _wrong("`temperature` cannot be that", where, "a number from 0", temperature)
    return Decoding(max_new_tokens=longest, temperature=float(temperature), seed=own_seed)


def whole_of(given: object, name: str, where: str) -> int:
    """A whole number from 1."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise _wrong(f"`{name}` cannot be that", where, "a whole number from 1", given)
    return given


def one_of(given: Named, known: Sequence[str], where: str) -> Named:
    """A word that has to be one of a few."""
    if given not in known:
        raise _wrong(f"there is no {str(given)!r} here", where, " or ".join(map(repr, known)), given)
    return given


def trial_of(given: object, where: str) -> int | None:
    """Number of a trial; None: the winner."""
    if given is not None and (isinstance(given, bool) or not isinstance(given, int)):
        raise _wrong("this is no number of a trial", where, "a whole number, or None for the winner", given)
    return given


def is_path(given: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether it is a path, as Python has it."""
    return isinstance(given, str | os.PathLike)


def _is_dict(given: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(given, Mapping)


def text_of(given: object, where: str, expected: str = A_PATH) -> str:
    """Text, or a path as text."""
    found: object = os.fspath(given) if is_path(given) else None
    if not isinstance(found, str) or not found:
        raise _wrong("this argument cannot be used", where, expected, given)
    return found


def _wrong(what: str, where: str, expected: str, found: object, remedy: str | None = None) -> ConfigError:
    shown = repr(found)
    found = f"{shown if len(shown) <= 80 else shown[:79] + '…'} ({type(found).__name__})"
    return ConfigError(what, where=where, expected=expected, found=found, remedy=remedy)
