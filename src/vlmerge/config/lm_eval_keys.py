"""mergekit-evolve's top-level keys, which speak to lm-eval: what they ask for is done, or refused with what to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import yaml

from vlmerge.config.problems import Problem

NO_FEWSHOT: Mapping[str, tuple[object, ...]] = {
    "num_fewshot": (None, 0),
    "shuffle": (None, False),
    "apply_chat_template": (None, True),
    # How examples would be laid out says nothing where there are none.
    "fewshot_as_multiturn": (None, True, False),
}
"""mergekit-evolve's keys about lm-eval → the values that ask for what vlmerge does anyway."""


def without_lm_eval(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Takes mergekit-evolve's top-level keys out: `limit` goes to the tasks, the rest must ask for what is done anyway."""
    given = dict(data)
    problems: list[Problem] = []
    if "genome" not in given:
        return given, problems
    for key, harmless in NO_FEWSHOT.items():
        value = given.pop(key, None)
        if not any(value is each or (isinstance(value, int) and value == each) for each in harmless):
            expected = f"{key}: {yaml.safe_dump(harmless[-1]).splitlines()[0]}"
            problems.append(
                Problem(f"this value of `{key}` is valid in mergekit, not supported yet", (key,), expected, str(value))
            )
    limit, tasks = given.pop("limit", None), given.get("tasks")
    if limit is None:
        return given, problems
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        problems.append(Problem("`limit` cannot have this value", ("limit",), "a whole number from 1", repr(limit), "mend it"))
    elif isinstance(tasks, list):
        given["tasks"] = [_limited(task, limit) for task in cast("list[object]", tasks)]
    return given, problems


def _limited(task: object, limit: int) -> object:
    if isinstance(task, str):
        return {"name": task, "limit": limit}
    return {"limit": limit, **cast("Mapping[str, Any]", task)} if isinstance(task, Mapping) else task
