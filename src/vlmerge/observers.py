"""Who watches from Python: a terminal, a notebook, nobody; and downloads and writes as what they watch."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vlmerge.bench import Observer
    from vlmerge.checkpoint import Progress

WIDTH = 24
"""Signs of a notebook's bar."""
BETWEEN = 0.25
"""Seconds between two drawings of it."""


class Nobody:
    """Watches nothing: `observer=None`."""

    def say(self, line: str) -> None:
        """Nothing is said."""

    def begin(self, what: str, total: int | None) -> None:
        """Nothing is shown."""

    def advance(self, by: int = 1, note: str | None = None) -> None:
        """Nothing is shown."""

    def end(self) -> None:
        """Nothing is shown."""


class NotebookObserver:
    """Shows a run below a notebook's cell: lines, and for each step a bar that is drawn anew in its place."""

    def __init__(self) -> None:
        self._display: Any = import_module("IPython.display").display
        self._bar: Any = None
        self._what, self._note = "", ""
        self._total: int | None = None
        self._done = 0
        self._begun = self._drawn = 0.0

    def say(self, line: str) -> None:
        """Prints a line."""
        print(line)

    def begin(self, what: str, total: int | None) -> None:
        """Starts a bar."""
        self._what, self._note, self._total, self._done = what, "", total, 0
        self._begun = self._drawn = time.monotonic()
        self._bar = self._display(self._shown(), raw=True, display_id=True)

    def advance(self, by: int = 1, note: str | None = None) -> None:
        """Moves the bar."""
        self._done += by
        self._note = self._note if note is None else note
        if self._bar is not None and time.monotonic() - self._drawn >= BETWEEN:
            self._draw()

    def end(self) -> None:
        """Leaves the bar as it stands, without its note."""
        if self._bar is not None:
            self._note = ""
            self._draw()
            self._bar = None

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self._bar.update(self._shown(), raw=True)

    def _shown(self) -> dict[str, str]:
        seconds = round(time.monotonic() - self._begun)
        count, bar = f"{self._done}", ""
        if self._total:
            full = min(WIDTH, WIDTH * self._done // self._total)
            count, bar = f"{self._done}/{self._total}", "█" * full + "░" * (WIDTH - full) + "  "
        return {"text/plain": f"{self._what}  {bar}{count}  {seconds // 60}:{seconds % 60:02d}  {self._note}".rstrip()}


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (Jupyter, Colab, VS Code)."""
    if "IPython" not in sys.modules:
        return False
    shell: Any = import_module("IPython").get_ipython()
    return getattr(shell, "kernel", None) is not None


def observer_of(given: Observer | Literal["auto"] | None) -> Observer:
    """The observer that is meant.

    Args:
        given: One's own; `auto`: a notebook's or the terminal's; None: nobody.

    Raises:
        ConfigError: One's own lacks a method.
    """
    if given is None:
        return Nobody()
    if given != "auto":
        missing = [name for name in ("say", "begin", "advance", "end") if not callable(getattr(given, name, None))]
        if missing:
            from vlmerge.errors import ConfigError

            raise ConfigError(
                "this cannot watch",
                where="`observer`",
                expected="'auto', None, or an object with say(line), begin(what, total), advance(by, note) and end()",
                found=f"{type(given).__name__} without {', '.join(missing)}",
            )
        return given
    if in_notebook():
        return NotebookObserver()
    from vlmerge.terminal import TerminalObserver

    return TerminalObserver()


def progress_of(given: Observer | Literal["auto"] | None) -> Progress | None:
    """The same for downloads and writes."""
    if given is None:
        return None
    from vlmerge.terminal import ByteProgress

    return ByteProgress(observer_of(given))
