"""The table of all rows: what stands in it, in which order, for the page and the terminal alike."""

from __future__ import annotations

from dataclasses import dataclass

from vlmerge.report.results import ALL, SPLITS, Row, is_hand_set
from vlmerge.report.view import RunView
from vlmerge.standing import FRONT
from vlmerge.store import Split, TaskRecord


@dataclass(frozen=True)
class Kept:
    """A column for a task that is shown beside the score and is no part of it."""

    set: Split
    task: str
    heading: str


@dataclass(frozen=True)
class Line:
    """One candidate.

    Attributes:
        candidate: Its name in results.json.
        trial: Its trial.
        is_winner: Whether it is the very trial that won.
        cells: Its row on each set of the table; None where it was not scored there.
        shown: Its row on the set that differences and the plot are of.
        kept: Its rows on the tasks that are no part of the score.
    """

    candidate: str
    trial: int
    is_winner: bool
    cells: tuple[Row | None, ...]
    shown: Row | None
    kept: tuple[Row | None, ...]


@dataclass(frozen=True)
class ScoreTable:
    """Candidates by sets: found by search first, then set by hand."""

    sets: tuple[Split, ...]
    shown: Split | None
    kept: tuple[Kept, ...]
    searched: tuple[Line, ...]
    by_hand: tuple[Line, ...]

    @property
    def lines(self) -> tuple[Line, ...]:
        """All of them, in order."""
        return self.searched + self.by_hand


def score_table(view: RunView) -> ScoreTable:
    """Lays the rows of a run out."""
    scored = {row.set for row in view.rows}
    sets: tuple[Split, ...] = tuple(split for split in SPLITS if split in scored)
    shown: Split | None = view.claim.set or (sets[-1] if sets else None)
    kept = tuple(
        Kept(task.split, task.task, task.label or task.task) for task in view.tasks if task.weight == 0 and task.split == shown
    )
    index = {(row.candidate, row.set, row.task): row for row in view.rows}

    def line(candidate: str, trial: int) -> Line:
        return Line(
            candidate=candidate,
            trial=trial,
            is_winner=candidate != "winner" and view.standing.get("winner") == trial,
            cells=tuple(index.get((candidate, split, ALL)) for split in sets),
            shown=None if shown is None else index.get((candidate, shown, ALL)),
            kept=tuple(index.get((candidate, column.set, column.task)) for column in kept),
        )

    # A front's members have a table of their own.
    lines = [line(candidate, trial) for candidate, trial in view.standing.items() if not candidate.startswith(FRONT)]
    lines = [each for each in lines if any(cell is not None for cell in (*each.cells, *each.kept))]
    return ScoreTable(
        sets=sets,
        shown=shown,
        kept=kept,
        searched=tuple(each for each in lines if not is_hand_set(each.candidate)),
        by_hand=tuple(each for each in lines if is_hand_set(each.candidate)),
    )


@dataclass(frozen=True)
class TaskTable:
    """Candidates by tasks, on one set."""

    set: Split
    tasks: tuple[TaskRecord, ...]
    lines: tuple[tuple[str, tuple[Row | None, ...]], ...]


def task_tables(view: RunView) -> list[TaskTable]:
    """One table per set that has several tasks; the sets in order."""
    index = {(row.candidate, row.set, row.task): row for row in view.rows}
    tables: list[TaskTable] = []
    for split in SPLITS:
        tasks = tuple(task for task in view.tasks if task.split == split)
        own = [name for name in view.standing if not name.startswith(FRONT)]
        names = [name for name in own if any((name, split, task.task) in index for task in tasks)]
        if len(tasks) > 1 and names:
            lines = tuple((name, tuple(index.get((name, split, task.task)) for task in tasks)) for name in names)
            tables.append(TaskTable(split, tasks, lines))
    return tables


def forest_scale(view: RunView) -> tuple[float, float]:
    """Ends of the axis of the interval plot: round numbers around the better rows; a row far below them stands at its edge."""
    rows = sorted((row for row in view.rows if row.set == view.claim.set and row.task == ALL), key=lambda row: row.score)
    better = rows[len(rows) // 4 :]
    if not better:
        return 0.0, 100.0
    low = min(row.score if row.low is None else row.low for row in better)
    high = max(row.score if row.high is None else row.high for row in better)
    # Where the better rows all have 100, the axis still has a length.
    return min(95.0, max(0.0, 5 * (low // 5))), min(100.0, 5 * (high // 5 + 1))
