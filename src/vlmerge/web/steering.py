"""Stopping a run and going on with it, from a page: the run itself stays the business of a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from vlmerge.errors import RunFolderError
from vlmerge.run_folder import CONFIG_NAME, ask_to_stop, is_worked_on, readable_store
from vlmerge.store import Store

LOG_NAME = "evolve.log"
"""What a run that was started from a page prints."""

LAST_LINES = 12


class Steering:
    """Stops a run and starts it again; knows the process that it started.

    Args:
        folder: The run folder.
        lang: Language of the run's page.
    """

    def __init__(self, folder: Path, lang: str) -> None:
        self._folder = folder
        self._lang = lang
        self._started: subprocess.Popen[bytes] | None = None

    @property
    def starting(self) -> bool:
        """Whether a process was started that has not ended."""
        return self._started is not None and self._started.poll() is None

    @property
    def trouble(self) -> str | None:
        """The last lines of a process that was started here and ended with an error."""
        if self._started is None or self._started.poll() in (None, 0, 130):
            return None
        log = self._folder / LOG_NAME
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        return "\n".join(lines[-LAST_LINES:]) or None

    def stop(self) -> None:
        """Asks the run to stop when its candidate is finished.

        Raises:
            RunFolderError: Nobody works on it.
        """
        ask_to_stop(self._folder)

    def go_on(self) -> None:
        """Starts `vlmerge evolve` on the run as it is recorded, in a process that outlives this one.

        Raises:
            RunFolderError: Somebody works on it, it is finished, or its run.yaml is not there.
        """
        if self.starting or is_worked_on(self._folder):
            raise RunFolderError(
                "another process works on this run folder",
                where=str(self._folder),
                expected="nobody at work here",
                found="its lock is taken",
                remedy="wait for it or stop it",
            )
        config = self._folder / CONFIG_NAME
        if not config.is_file() or _finished(self._folder):
            raise RunFolderError(
                "this run cannot go on from here",
                where=str(self._folder),
                expected=f"a run that is not finished, with its {CONFIG_NAME}",
                found="a finished run" if config.is_file() else f"no {CONFIG_NAME}",
                remedy="start it with `vlmerge evolve`",
            )
        command = [sys.executable, "-m", "vlmerge", "evolve", str(config), "--out", str(self._folder), "--lang", self._lang]
        with (self._folder / LOG_NAME).open("ab") as log:
            self._started = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the server's terminal is not for it.
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )


def _finished(folder: Path) -> bool:
    with Store.read_only(readable_store(folder)) as store:
        return bool(store.get("finished"))
