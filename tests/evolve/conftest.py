"""Real runs on the shipped family, small in candidates and questions so that the suite stays fast."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from vlmerge.config.run import RunConfig, load_run
from vlmerge.evolve import evolve

FAMILY = Path(__file__).parents[2] / "src" / "vlmerge" / "demo"
CLOCKS = {"finished_at", "seconds", "started_at", "machine"}
"""Columns and keys that hold times of the clock; everything else of two equal runs is equal."""


class Quiet:
    """Nobody watches; what was said is kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def begin(self, what: str, total: int | None) -> None: ...

    def advance(self, by: int = 1, note: str | None = None) -> None: ...

    def end(self) -> None: ...


def task(split: str, limit: int, language: str = "ja", **keys: Any) -> dict[str, Any]:
    """The first questions of one of the shipped sets."""
    fields = {"question": f"question_{language}", "answer": f"answer_{language}"}
    return {"name": str(FAMILY / "bench" / split / "questions.jsonl"), "limit": limit, "fields": fields, **keys}


def small_run(**changes: Any) -> dict[str, Any]:
    """A whole run: baselines, both stages, election, holdout, export."""
    run: dict[str, Any] = {
        "merge": {
            "models": [str(FAMILY / name) for name in ("vlm", "ja", "base")],
            "base_model": str(FAMILY / "base"),
        },
        "tasks": [task("search", 9)],
        "validation": [task("validation", 6)],
        "holdout": [task("holdout", 6), task("holdout", 6, "en", weight=0, label="English kept")],
        "search": {"max_fevals": 14, "global_fevals": 6, "population": 3},
        "decoding": {"max_new_tokens": 16},
        "runtime": {"device": "cpu", "threads": 1},
    }
    return {key: value for key, value in {**run, **changes}.items() if value is not None}


def write_run(folder: Path, run: dict[str, Any], name: str = "small.yaml") -> Path:
    """The run as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(yaml.safe_dump(run, allow_unicode=True), encoding="utf-8")
    return path


def load(folder: Path, run: dict[str, Any]) -> RunConfig:
    return load_run(write_run(folder, run))


def contents(run: Path) -> dict[str, Any]:
    """Everything that must be equal between equal runs: every table, the recipe, the model's bytes."""
    connection = sqlite3.connect(run / "run.sqlite")
    connection.row_factory = sqlite3.Row
    tables: dict[str, Any] = {}
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
        everything = [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]
        rows = [{key: value for key, value in row.items() if key not in CLOCKS} for row in everything]
        tables[name] = [row for row in rows if not (name == "meta" and row["key"] in CLOCKS)]
    connection.close()
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((run / "model").iterdir()) if path.is_file()
    }
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    results.pop("seconds_per_trial")
    return {"tables": tables, "recipe": (run / "recipe.yaml").read_text(), "model": files, "results": results}


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process of the test run that wants it makes, and that all others find: for reading."""
    place = factory.getbasetemp()
    folder = (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            making = folder.with_suffix(".making")
            make(making)
            making.rename(folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One uninterrupted run, for reading."""

    def make(folder: Path) -> None:
        evolve(load(folder, small_run()), folder / "small", Quiet())

    return made_once(tmp_path_factory, "finished", make) / "small"


class ForkedRuns:
    """Real processes that kill themselves at a chosen place (`killed_run.py`), without each importing everything anew."""

    def __init__(self) -> None:
        program = [sys.executable, str(Path(__file__).with_name("killed_run.py"))]
        self.parent = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, place: str, count: int, run: Path, out: Path, *more: str) -> tuple[int, str]:
        """Goes on with the run until it ends or the trap is reached; gives the exit status and what was said."""
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        said = out.with_name(f"{out.name}.said")
        print(json.dumps([str(said), place, str(count), str(run), str(out), *more]), file=self.parent.stdin, flush=True)
        status = self.parent.stdout.readline()
        assert status, "the parent of the runs has ended"
        return int(status), said.read_text(encoding="utf-8")

    def close(self) -> None:
        self.parent.communicate()


@pytest.fixture(scope="session")
def forked_runs() -> Iterator[ForkedRuns]:
    runs = ForkedRuns()
    yield runs
    runs.close()
