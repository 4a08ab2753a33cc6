"""mergekit-evolve's top-level keys about lm-eval: each goes to the tasks, which may have one of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from vlmerge.config.fields import shown
from vlmerge.config.problems import Problem

DEFAULTS: Mapping[str, object] = {
    "num_fewshot": None,
    "shuffle": False,
    "apply_chat_template": True,
    "fewshot_as_multiturn": True,
}
"""How mergekit-evolve asks where its file says nothing."""


def with_lm_eval_keys(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Gives mergekit-evolve's top-level keys to the tasks: `limit` to those of the search, the others to those of every set.

    A file without `genome:` is given back as it is: these keys stand in its tasks.
    """
    given = dict(data)
    problems: list[Problem] = []
    if "genome" not in given:
        return given, problems
    keys: dict[str, object] = {}
    for key, default in DEFAULTS.items():
        value = given.pop(key, None)
        keys[key] = default if value is None else value
        expected = "a whole number from 0" if default is None else "true or false"
        right = _whole(value, 0) if default is None else isinstance(value, bool)
        if value is not None and not right:
            problems.append(Problem(f"`{key}` cannot have this value", (key,), expected, shown(value), "mend it"))
            keys[key] = default
    limit = given.pop("limit", None)
    if limit is not None and not _whole(limit, 1):
        problems.append(Problem("`limit` cannot have this value", ("limit",), "a whole number from 1", repr(limit), "mend it"))
        limit = None
    given["tasks"] = _each(given.get("tasks"), keys if limit is None else {**keys, "limit": limit})
    given["holdout"] = _each(given.get("holdout"), keys)
    validation = given.get("validation")
    if isinstance(validation, Mapping):
        block = cast("Mapping[str, Any]", validation)
        given["validation"] = {**block, **({"tasks": _each(block["tasks"], keys)} if "tasks" in block else {})}
    else:
        given["validation"] = _each(validation, keys)
    return {key: value for key, value in given.items() if value is not None or key in data}, problems


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _each(tasks: object, keys: Mapping[str, object]) -> object:
    """Every task of a list with these keys, where it has none of its own; what is no list is refused elsewhere."""
    return [_with(task, keys) for task in cast("list[object]", tasks)] if isinstance(tasks, list) else tasks


def _with(task: object, keys: Mapping[str, object]) -> object:
    if isinstance(task, str):
        return {"name": task, **keys}
    return {**keys, **cast("Mapping[str, Any]", task)} if isinstance(task, Mapping) else task
