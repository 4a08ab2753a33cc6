"""Which tasks lm-evaluation-harness knows by name: those that come with it, and those in folders that the person named.

Python code in a task's folder is run when the task is loaded (`!function` in its YAML), so only these folders are looked at.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Generator, Sequence
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, cast

from vlmerge.config.problems import nearest
from vlmerge.errors import TaskError

INSTALL = "pip install 'vlmerge[lm-eval]'"


def installed() -> bool:
    """Whether lm-evaluation-harness can be imported."""
    return importlib.util.find_spec("lm_eval") is not None


def version() -> str:
    """The version of lm-evaluation-harness."""
    return metadata.version("lm_eval")


def manager_of(name: str, search_path: Sequence[str], where: str, others: Sequence[str] = ()) -> Any:
    """lm-eval's TaskManager that knows a task.

    Args:
        name: Name of a task.
        search_path: Folders beside those that come with lm-eval; what is in them goes first.
        where: Where the name stands.
        others: Names of tasks that are not lm-eval's, one of which may have been meant.

    Raises:
        TaskError: lm-eval is not installed, a folder is missing, nothing has the name, or it is a group's or a tag's.
    """
    if not installed():
        near = nearest(name, others)
        raise TaskError(
            f"unknown task {name!r}: it is not built in, and tasks of lm-evaluation-harness need that installed",
            where=where,
            expected="a built-in task (`vlmerge tasks`), a .jsonl or .parquet file, hf:org/name, or lm-evaluation-harness",
            found="no package lm_eval",
            remedy=f"write {near!r}" if near else INSTALL,
        )
    for folder in search_path:
        if not Path(folder).is_dir():
            raise TaskError(
                "a folder of lm-eval's tasks is missing",
                where="task_search_path",
                expected="a folder; one of a run file is relative to that file",
                found=folder,
                remedy="correct the path",
            )
    # Reading the thousands that come with it takes ten seconds: only where the person's own have not the name.
    own = _manager(tuple(search_path), False) if search_path else None
    manager = own if own is not None and name in own.task_index else _manager(tuple(search_path), True)
    if name not in manager.task_index:
        near = nearest(name, (*others, *manager.all_tasks))
        mine = ", ".join(own.all_tasks) if own is not None else ""
        raise TaskError(
            f"unknown task {name!r}",
            where=where,
            expected="a built-in task (`vlmerge tasks`), a file, hf:org/name, or a task of lm-eval (`lm-eval ls tasks`)"
            + (f"; on the task_search_path: {mine or 'none'}" if search_path else ""),
            found=name,
            remedy=f"write {near!r}" if near else "name the folder of its YAML in `task_search_path`",
        )
    if name in manager.all_groups or name in manager.all_tags:
        members = _members(manager, name)
        raise TaskError(
            f"{name!r} is a group of tasks",
            where=where,
            expected="single tasks, each with a weight and a metric of its own",
            found=f"a group with {', '.join(members)}",
            remedy="name those that you want, for example " + ", ".join(f"{{name: {each}}}" for each in members[:2]),
        )
    return manager


@cache
def _manager(search_path: tuple[str, ...], defaults: bool) -> Any:
    with quiet():
        return import_module("lm_eval.tasks").TaskManager(include_path=list(search_path) or None, include_defaults=defaults)


def _members(manager: Any, name: str) -> list[str]:
    entry = manager.task_index[name]
    if entry.tags and name in manager.all_tags:
        return sorted(entry.tags)
    config: dict[str, Any] = entry.cfg or {}
    listed = cast("list[str | dict[str, Any]]", config.get("task") or [])
    return [each if isinstance(each, str) else str(each.get("task") or each.get("group")) for each in listed]


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Keeps lm-eval's many notes about defaults, and the bars of `datasets`, from the terminal."""
    bars: Any = import_module("datasets.utils")
    shown = not bars.are_progress_bars_disabled()
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    bars.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(before)
        if shown:
            bars.enable_progress_bars()
