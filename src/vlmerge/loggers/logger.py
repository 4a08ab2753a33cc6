"""The contract of a logger: opened with what the run is, given figures by step, closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vlmerge.config.run import LoggerSpec


@dataclass(frozen=True)
class Begun:
    """The run that a logger is opened for.

    Attributes:
        name: Of the run.
        folder: Its folder.
        config: The run as used, as plain values.
        spec: The logger's own settings.
        known_as: What the logger called its record of this run when it was opened before; None at first.
        step: Steps that it was given before and has kept; 0 at first. The next one is `step + 1`.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    spec: LoggerSpec
    known_as: str | None
    step: int


class Logger(Protocol):
    """One place where a run is watched. Whatever it raises, but for an interrupt, only ends the logging."""

    @property
    def known_as(self) -> str:
        """What to open it by again."""
        ...

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Figures of a step. Steps come in order, from `Begun.step + 1`.

        After a kill between a logger's writing and the run's remembering it, a step comes once more, with the same figures. It
        should stand once, as far as the place can tell what it has.
        """
        ...

    def finish(self, figures: Mapping[str, float], head: Sequence[str], table: Sequence[Sequence[str | float | None]]) -> None:
        """The run is over: its final scores, and the rows of its table."""
        ...

    def flush(self) -> None:
        """What was given is where it belongs when this returns."""
        ...

    def close(self, *, whole: bool) -> None:
        """Nothing more comes from this process; `whole`: the run is finished."""
        ...


class Open(Protocol):
    """How a logger is opened; for the registry."""

    def __call__(self, begun: Begun) -> Logger: ...
