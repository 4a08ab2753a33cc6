"""Starts `vlmerge evolve` in a process that kills itself (SIGKILL) at a chosen place. Not a test; tests start it.

python killed_run.py PLACE COUNT RUN.yaml OUT [HAND_SET]: dies at the COUNT-th time PLACE is reached; places are listed below.
HAND_SET: only the first so many hand-set merges are tried.

python killed_run.py: for many runs. Imports everything once, without computing anything, and forks a process for each line of
its input: a JSON list of the file for what the run says, and the arguments above. Answers with the exit status of the process.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from vlmerge.bench import Bench
from vlmerge.cli import main
from vlmerge.store import Store

READ_BEFORE = (
    "vlmerge.evolve", "vlmerge.export", "vlmerge.terminal", "vlmerge.runtime.live", "vlmerge.methods.kernels.compiled",
    "vlmerge.report", "matplotlib.figure", "scipy.stats", "cma",
    "transformers.models.llava.modeling_llava", "transformers.models.clip.modeling_clip",
    "transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto",
)  # fmt: skip
"""Modules whose import takes most of the time that a process needs before it begins."""
LONGEST = 300
"""Seconds after which a forked process that hangs is ended, with a status that no test expects."""


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(function: Any, count: int, *, after: bool) -> Any:
    """The function, but the process dies before (or after) its count-th call."""
    calls = 0

    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and not after:
            die()
        result = function(*args, **kwargs)
        if calls == count:
            die()
        return result

    return called


def watched(connect: Any, count: int) -> Any:
    """`sqlite3.connect`, but the process dies before the count-th statement that any connection runs."""
    left = count

    def step(_statement: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()

    def connected(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(step)
        return connection

    return connected


def arrange(place: str, count: int) -> None:
    """Sets the trap."""
    match place:
        case "in-trial":  # a trial and its answers are written, and not committed
            Store.record_answers = dying(Store.record_answers, count, after=True)  # type: ignore[method-assign]
        case "in-part":  # a candidate in a race has answered one more block, and it is not committed
            Store.update_trial = dying(Store.update_trial, count, after=True)  # type: ignore[method-assign]
        case "in-ask":
            Store.record_ask = dying(Store.record_ask, count, after=False)  # type: ignore[method-assign]
        case "after-ask":
            Store.record_ask = dying(Store.record_ask, count, after=True)  # type: ignore[method-assign]
        case "before-tell":
            Store.record_tell = dying(Store.record_tell, count, after=False)  # type: ignore[method-assign]
        case "after-tell":
            Store.record_tell = dying(Store.record_tell, count, after=True)  # type: ignore[method-assign]
        case "in-setting":
            Store.record_setting = dying(Store.record_setting, count, after=False)  # type: ignore[method-assign]
        case "in-meta":
            Store._set = dying(Store._set, count, after=True)  # type: ignore[method-assign]
        case "in-simple":  # a simpler recipe is written down, and not asked
            Bench.enter = dying(Bench.enter, count, after=True)  # type: ignore[method-assign]
        case "in-moving":  # a record learns that its folder was moved, and it is not committed
            Store.relocate = dying(Store.relocate, count, after=True)  # type: ignore[method-assign]
        case "in-export":  # weights are written beside, the folder has not its name yet
            shutil.copyfile = dying(shutil.copyfile, count, after=True)
        case "at-rename":
            Path.replace = dying(Path.replace, count, after=True)  # type: ignore[method-assign]
        case "at-statement":  # anywhere in the store's work: BEGIN, an INSERT of many, COMMIT, a reading of the report
            sqlite3.connect = watched(sqlite3.connect, count)
        case "never":
            pass
        case _:
            raise SystemExit(f"unknown place {place}")


def fork_for_each_line() -> list[str] | None:
    """Gives a forked process its arguments; gives None at the end of the input."""
    for name in READ_BEFORE:
        import_module(name)
    for line in sys.stdin:
        said, *arguments = json.loads(line)
        process = os.fork()
        if process == 0:
            signal.alarm(LONGEST)
            with Path(os.devnull).open() as nothing, Path(said).open("w") as file:
                os.dup2(nothing.fileno(), 0)
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            return arguments
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
    return None


def evolve_until(place: str, count: str, run: str, out: str, hand_set: str = "") -> None:
    arrange(place, int(count))
    if hand_set:
        loop = import_module("vlmerge.evolve")
        listed, few = loop.baselines, int(hand_set)
        loop.baselines = lambda *given: listed(*given)[:few]
    sys.argv = ["vlmerge", "evolve", run, "--out", out]
    main()


arguments = sys.argv[1:] or fork_for_each_line()
if arguments:
    evolve_until(*arguments)
