"""How often a run's holdout was looked at. The first look is the run's own; whatever scores its questions again is counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.errors import UserError
from vlmerge.run_folder import open_run, readable_store
from vlmerge.store import STORE_NAME, Store

if TYPE_CHECKING:
    from vlmerge.bench import Observer
    from vlmerge.tasks.sets import Asked


def first_look(store: Store) -> None:
    """Writes the run's own look down, before it looks. A run that goes on after a crash does not look twice."""
    if not store.get("holdout_views"):
        store.set("holdout_views", 1)


def count_look(model: str, asked: Sequence[Asked], observer: Observer) -> None:
    """Counts a look at the holdout of a finished run, where a run's winner is scored on questions of it, and says so.

    Args:
        model: What is scored: a run folder, or the folder `model` in one. Another model, or a copy elsewhere, is nobody's.
        asked: Its tasks.
        observer: Who is told.
    """
    run = _run_of(model)
    if run is None:
        return
    with Store.read_only(readable_store(run)) as store:
        if not store.get("holdout_views"):
            return
        kept = {(question.text, question.group) for question in store.questions("holdout")}
    seen = sum((question.text, question.group) in kept for each in asked for question in each.questions)
    if not seen:
        return
    look = {"by": "evaluate", "at": datetime.now(UTC).isoformat(timespec="seconds"), "questions": seen}
    try:
        with open_run(run) as folder:
            views = int(folder.store.get("holdout_views")) + 1
            looks: list[dict[str, Any]] = folder.store.get("holdout_looks", [])
            with folder.store.transaction():
                folder.store.set("holdout_views", views)
                folder.store.set("holdout_looks", [*looks, look])
    except (UserError, OSError) as error:
        what = error.what if isinstance(error, UserError) else str(error)
        observer.say(f"note: {seen} of these questions are the run's holdout; this look could not be written down: {what}")
        return
    observer.say(
        f"holdout seen {views} times: {seen} of these questions are the run's holdout, and whoever chooses by this score "
        f"chooses by it. `vlmerge report {run}` brings the page up to date"
    )


def _run_of(model: str) -> Path | None:
    path = Path(model).expanduser()
    return next((run for run in (path, path.absolute().parent) if (run / STORE_NAME).is_file()), None)
