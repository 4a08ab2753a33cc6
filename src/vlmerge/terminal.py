"""What people see in a terminal: progress bars, lines, tables, errors. Where there is no terminal, plain lines."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from vlmerge.bench import Observer
    from vlmerge.listings import Listing
    from vlmerge.side_by_side import Comparison
    from vlmerge.store import Split, Store

SPLITS: tuple[Split, ...] = ("holdout", "validation", "search")
"""Sets in the order in which a question to try is taken from them."""


def console(*, error: bool = False) -> Console:
    """A rich console on standard output, or on standard error."""
    from rich.console import Console

    return Console(stderr=error, highlight=False, soft_wrap=not sys.stdout.isatty())


def print_error(error: UserError) -> None:
    """What happened, where, expected, found, what to do: on standard error, without a traceback."""
    from rich.text import Text

    first, *rest = error.message().splitlines()
    screen = console(error=True)
    screen.print(Text.assemble(("error: ", "bold red"), (first, "bold")))
    for line in rest:
        screen.print(Text(line))


def print_json(value: Any) -> None:
    """Plain values for scripts, on standard output."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_listing(listing: Listing) -> None:
    """A table of what is built in."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*listing.heads)
    for row in listing.rows:
        table.add_row(*map(Text, row))
    console().print(table)


def print_comparisons(tables: Sequence[Comparison]) -> None:
    """Prints tables of systems, each with what stands above and below it."""
    screen = console()
    for table in tables:
        above, below = table.lines()
        screen.print(above, markup=False)
        screen.print(table.table())
        screen.print(below, markup=False)


def print_outcome(folder: Path, shown: Path) -> None:
    """A run's table, where its page and model are, and a command that asks the winner.

    Args:
        folder: The run folder.
        shown: The same as the person named it.
    """
    from vlmerge.report import results_table
    from vlmerge.store import STORE_NAME, Store

    screen = console()
    with Store.read_only(folder / STORE_NAME) as store:
        screen.print(results_table(store))
        line = _ask_line(store, shown)
    screen.print(f"page:  {shown / 'report.html'}", markup=False)
    screen.print(f"model: {shown / 'model'}", markup=False)
    if line:
        screen.print(f"try:   {line}", markup=False)


def _ask_line(store: Store, shown: Path) -> str | None:
    """A command that asks the winner one of the run's own questions."""
    for split in SPLITS:
        for question in store.questions(split):
            for digest in question.pictures:
                origin = store.picture_origin(digest)
                if Path(origin).is_file():
                    return shlex.join(["vlmerge", "ask", str(shown / "model"), origin, question.text])
    return None


class TerminalObserver:
    """Shows a run: one progress bar for the step under way, and lines above it."""

    def __init__(self) -> None:
        self._console = console(error=True)
        self._progress: Any = None
        self._task: Any = None

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        from rich.text import Text

        self._console.print(Text(line))

    def begin(self, what: str, total: int | None) -> None:
        """Starts a bar; without a terminal, a line."""
        if not self._console.is_terminal:
            self.say(what if total is None else f"{what} ({total})")
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task(what, total=total, note="")
        self._progress.start()

    def advance(self, by: int = 1, note: str | None = None) -> None:
        """Moves the bar."""
        if self._progress is not None:
            self._progress.update(self._task, advance=by, **({} if note is None else {"note": note}))

    def end(self) -> None:
        """Takes the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class ByteProgress:
    """Shows downloads and writes (checkpoint.Progress) as bars, one for each label; without an observer in the terminal."""

    def __init__(self, observer: Observer | None = None) -> None:
        self._observer = TerminalObserver() if observer is None else observer
        self._label: str | None = None
        self._done = 0

    def __call__(self, label: str, done: int, total: int) -> None:
        """Bytes done so far under a label."""
        megabytes = max(1, round(total / 1e6))
        if label != self._label:
            self._observer.end()
            self._label, self._done = label, 0
            self._observer.begin(f"{label} (MB)", megabytes)
        now = min(round(done / 1e6), megabytes)
        self._observer.advance(now - self._done)
        self._done = now
        if done >= total:
            self._observer.end()
            self._label = None
