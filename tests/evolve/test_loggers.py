"""Loggers and a run: it is the same with them, goes on where they do, and none of them stops it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

import vlmerge.loggers
from vlmerge.config.run import parse_run
from vlmerge.errors import ConfigError
from vlmerge.evolve import evolve
from vlmerge.store import STORE_NAME, Store

from .conftest import Quiet, contents, load, small_run


class Impatient(Quiet):
    """Somebody who presses Ctrl-C in the second stage."""

    def say(self, line: str) -> None:
        super().say(line)
        if line.startswith("groups 1/"):
            raise KeyboardInterrupt


def test_a_run_with_a_logger_is_the_run_without(finished: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'vlmerge[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, watcher = tmp_path / "small", Quiet()
    with pytest.raises(KeyboardInterrupt):
        evolve(load(tmp_path, small_run()), run, Impatient())  # The logger comes late.
    assert evolve(load(tmp_path, small_run(loggers=["tensorboard"])), run, watcher) == run
    one, two = contents(run), contents(finished)
    for each in (one, two):
        names = ("logged", "config", "config_asked")
        each["tables"]["meta"] = [row for row in each["tables"]["meta"] if row["key"] not in names]
    assert one == two
    assert not [line for line in watcher.lines if "left out" in line]
    read = EventAccumulator(str(run / "tensorboard"))
    read.Reload()
    with Store.read_only(run / STORE_NAME) as store:
        told = [max(100 * score for score in each.fitness if score is not None) for each in store.generations()]
    assert [event.step for event in read.Scalars("search/max")] == list(range(1, len(told) + 1))
    assert [event.value for event in read.Scalars("search/max")] == pytest.approx(told, rel=1e-6)
    assert "loggers:\n- name: tensorboard" in (run / "run.yaml").read_text()


def test_a_logger_that_fails_is_told_once_and_left_out(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="pip install 'vlmerge[wandb]'")
    pytest.importorskip("mlflow", reason="pip install 'vlmerge[mlflow]'")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    wandb.teardown()  # It reads its settings once in a process: another test's would stand.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    watcher = Quiet()
    loggers = ["wandb", {"name": "mlflow", "uri": "http://127.0.0.1:9"}]
    started = time.perf_counter()
    evolve(load(tmp_path, small_run(loggers=loggers)), run, watcher)
    assert time.perf_counter() - started < 60
    told = [line for line in watcher.lines if "left out" in line]
    assert [line.split()[0] for line in told] == ["wandb", "mlflow"]
    assert "wandb login" in told[0]
    assert "127.0.0.1" in told[1]


def test_a_logger_without_its_package_is_refused_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vlmerge.loggers.logbook.PACKAGES, "wandb", "no_such_package_of_wandb")
    with pytest.raises(ConfigError, match=r"pip install 'vlmerge\[wandb\]'"):
        evolve(load(tmp_path, small_run(loggers=["wandb"])), tmp_path / "run", Quiet())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("loggers", "message"),
    [
        (["wandb", {"name": "wandb", "project": "p"}], "every logger once"),
        ([{"name": "tensorboard", "project": "p"}], "tensorboard has no `project`"),
        (["wandbb"], "wandb"),
    ],
)
def test_settings_of_loggers_are_checked(loggers: list[object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_run(small_run(loggers=loggers), "run.yaml", tmp_path)
