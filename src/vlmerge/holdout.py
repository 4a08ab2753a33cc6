"""How often a run's holdout was looked at. The first look is the run's own; whatever scores its questions again is counted."""

from __future__ import annotations

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


def count_look(model: str, asked: Asked, observer: Observer, begun: str | None) -> str | None:
    """Counts a look at the holdout of a finished run, where a run's winner is scored on questions of it, and says so.

    It is called task by task, before a score is told: whoever interrupts has looked. All tasks together are one look.

    Args:
        model: What is scored: a run folder, or the folder `model` in one. Another model, or a copy elsewhere, is nobody's.
        asked: One of its tasks.
        observer: Who is told.
        begun: What this gave for the tasks before; None: nothing, or there are none.

    Returns:
        When the look began that is written down; None: there is none.
    """
    run = _run_of(model)
    if run is None:
        return begun
    with Store.read_only(readable_store(run)) as store:
        if not store.get("holdout_views"):
            return begun
        kept = {(question.text, question.group) for question in store.questions("holdout")}
    seen = sum((question.text, question.group) in kept for question in asked.questions)
    if not seen:
        return begun
    at = begun or datetime.now(UTC).isoformat(timespec="microseconds")
    try:
        with open_run(run) as folder:
            views, looks = int(folder.store.get("holdout_views")), _looks(folder.store)
            before = next((look for look in looks if look["at"] == begun), None)
            if before is None:
                views += 1
                looks.append({"by": "evaluate", "at": at, "questions": seen})
            else:
                before["questions"] += seen
            with folder.store.transaction():
                folder.store.set("holdout_views", views)
                folder.store.set("holdout_looks", looks)
    except (UserError, OSError) as error:
        what = error.what if isinstance(error, UserError) else str(error)
        observer.say(f"note: {seen} of these questions are the run's holdout; this look could not be written down: {what}")
        return begun
    observer.say(
        f"holdout seen {views} times: {seen} of these questions are the run's holdout, and whoever chooses by this score "
        f"chooses by it. `vlmerge report {run}` brings the page up to date"
    )
    return at


def _looks(store: Store) -> list[dict[str, Any]]:
    return list(store.get("holdout_looks", []))


def _run_of(model: str) -> Path | None:
    path = Path(model).expanduser()
    return next((run for run in (path, path.absolute().parent) if (run / STORE_NAME).is_file()), None)
