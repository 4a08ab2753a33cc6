"""A trial's scores as the hub reads them: the `model-index` of a card. Only what was never searched, and never what leaked."""

from __future__ import annotations

import re

from vlmerge.report.results import ALL, Row, trial_rows
from vlmerge.store import Store, TaskRecord, Trial

HUB_DATA = re.compile(r"(?:hf:)?([\w.-]+/[\w.-]+)(?:,.*)?")
"""A task's source that is a data set of the hub: `org/name, split test`."""


def model_index(store: Store, trial: Trial, name: str, pipeline: str | None) -> list[dict[str, object]]:
    """The holdout scores of a trial, one result for each task; nothing where there are none, or the holdout is contaminated.

    Args:
        store: The run's store.
        trial: Whose.
        name: The model's.
        pipeline: What it is for; None: text.
    """
    if store.get("contaminated"):
        return []
    tasks = {task.task: task for task in store.tasks("holdout")}
    own = [row for row in trial_rows(store, trial.trial) if row.set == "holdout" and row.task != ALL]
    if not own:
        return []
    task_type = pipeline or "text-generation"
    results = [{"task": {"type": task_type}, "dataset": _data_set(tasks[row.task]), "metrics": [_metric(row)]} for row in own]
    return [{"name": name, "results": results}]


def _data_set(task: TaskRecord) -> dict[str, str]:
    found = HUB_DATA.fullmatch(task.source)
    kind = found[1] if found else re.sub(r"[^\w.-]+", "-", task.task).strip("-") or "own"
    return {"type": kind, "name": f"{task.task} (holdout)"}


def _metric(row: Row) -> dict[str, object]:
    spread = "" if row.low is None or row.high is None else f", {100 * row.level:g} % interval {row.low:.1f}–{row.high:.1f}"
    return {"type": row.metric, "value": row.score, "name": f"{row.metric} of {row.questions} questions{spread}"}
