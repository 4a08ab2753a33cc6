"""Promise 3: interrupted equals uninterrupted. Kill -9 anywhere, start again: the same run."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import ForkedRuns, contents, small_run, write_run

KILLED_RUN = Path(__file__).with_name("killed_run.py")
PLACES = [
    ("in-setting", 1), ("in-meta", 5), ("in-trial", 1), ("in-trial", 4), ("in-ask", 1), ("after-ask", 1), ("in-trial", 2),
    ("before-tell", 1), ("after-tell", 1), ("in-trial", 3), ("in-ask", 2), ("in-export", 1), ("in-export", 3), ("at-rename", 1),
]  # fmt: skip
KILLS = 20
MOST_STATEMENTS = 1500
"""About as many as a whole run of this size has; a run that goes on has fewer left."""


def start(run: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(KILLED_RUN), "never", "1", str(run), str(out)]
    # A test run in the background ignores SIGINT, and would hand that on.
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def killed(forked_runs: ForkedRuns, place: str, count: int, run: Path, out: Path, *more: str) -> bool:
    """Goes on with the run until the trap; False where the run ended before it."""
    out.parent.mkdir(exist_ok=True)
    status, said = forked_runs.run(place, count, run, out, *more)
    assert status in (0, -signal.SIGKILL), said
    assert not (out / "model").exists() or (out / "model" / "config.json").exists()
    return status == -signal.SIGKILL


@pytest.mark.slow
def test_a_run_killed_again_and_again_equals_an_uninterrupted_one(
    finished: Path, forked_runs: ForkedRuns, tmp_path: Path
) -> None:
    run, out = write_run(tmp_path, small_run()), tmp_path / "small"
    dice, kills = random.Random(1), 0
    for place, count in PLACES:
        kills += killed(forked_runs, place, count, run, out)
    assert kills == len(PLACES)
    assert not killed(forked_runs, "never", 1, run, out)
    assert contents(out) == contents(finished)
    # And anywhere at all: a new run as soon as one has ended, so that no number depends on how fast a machine is.
    turn, goes_on = 0, False
    while kills < KILLS or goes_on:
        turn += not goes_on
        out = tmp_path / str(turn) / "small"
        goes_on = killed(forked_runs, "at-statement", dice.randint(1, MOST_STATEMENTS), run, out)
        kills += goes_on
        if not goes_on:
            assert contents(out) == contents(finished)


@pytest.mark.slow
def test_interrupting_is_clean_and_says_how_to_go_on(finished: Path, tmp_path: Path) -> None:
    run, out = write_run(tmp_path, small_run()), tmp_path / "small"
    for interrupt in (signal.SIGINT, signal.SIGTERM):
        process = start(run, out)
        while process.poll() is None and not (out / "run.sqlite").exists():
            time.sleep(0.05)
        time.sleep(1.5 if interrupt == signal.SIGTERM else 0.5)
        process.send_signal(interrupt)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 130, output
        assert "To go on: vlmerge evolve" in output
        assert "Traceback" not in output
    process = start(run, out)
    assert process.communicate(timeout=300)[0] is not None
    assert contents(out) == contents(finished)
