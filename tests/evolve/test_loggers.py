"""Loggers are told what the store holds, once, also by a run that was interrupted; none of them changes or stops a run."""

from __future__ import annotations

import json
import math
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vlmerge.loggers
from vlmerge.config.run import parse_run
from vlmerge.errors import ConfigError
from vlmerge.evolve import evolve
from vlmerge.store import STORE_NAME, Store

from .conftest import Quiet, contents, load, small_run

ALL = ["wandb", "tensorboard", "mlflow"]
STEPS = 4


class Impatient(Quiet):
    """Somebody who presses Ctrl-C after the second generation."""

    def say(self, line: str) -> None:
        super().say(line)
        if line.startswith(("global 2/", "groups 1/")):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Quiet]]:
    """A run with every logger, interrupted twice, once with a step that was logged and not remembered; without network."""
    for package in ALL:
        pytest.importorskip(package, reason=f"pip install 'vlmerge[{package}]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("logged")
        config = load(folder, small_run(loggers=["tensorboard", "mlflow"]))
        out, watcher = folder / "small", Quiet()
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                evolve(config, out, Impatient())
            with Store.open(out / STORE_NAME) as store:  # As if it had been killed before it remembered the last step.
                logged = store.get("logged")
                store.set("logged", {name: {**state, "step": state["step"] - 1} for name, state in logged.items()})
        config = load(folder, small_run(loggers=ALL))  # One more, late.
        evolve(config, out, watcher)
        evolve(config, out, watcher)  # Finished: nothing more to tell.
        yield out, watcher


def stored(run: Path) -> list[dict[str, float]]:
    """The figures of every generation, worked out here from the tables."""
    found, best = [], -math.inf
    with Store.read_only(run / STORE_NAME) as store:
        trials = store.trials()
        for generation in store.generations():
            members = [t for t in trials if (t.stage, t.generation) == (generation.stage, generation.generation)]
            by_task = {
                task.task: [sum(a.score for a in answers) / len(answers) for t in members
                            if (answers := store.answers(t.trial, "search", task.task))]
                for task in store.tasks("search")
            }  # fmt: skip
            scores = [100 * score for score in generation.fitness]
            best, mean = max(best, *scores), sum(scores) / len(scores)
            figures = {
                "search/best": best, "search/max": max(scores), "search/min": min(scores), "search/mean": mean,
                "search/deviation": math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores)),
                "search/step_size": generation.sigma, "search/seconds": generation.seconds, "search/failed": 0,
                "search/stage": generation.stage + 1, "search/generation": generation.generation + 1,
            }  # fmt: skip
            found.append(figures | {f"task/{t}/mean": 100 * sum(v) / len(v) for t, v in by_task.items()})
    return found


def rows_of(run: Path) -> dict[str, float]:
    rows = json.loads((run / "results.json").read_text())["rows"]
    return {f"final/{r['set']}/{r['task']}/{r['candidate'].replace(':', '_')}": r["score"] for r in rows}


def assert_equal(stored: dict[str, float], logged: dict[str, float]) -> None:
    assert {key: logged[key] for key in stored} == pytest.approx(stored, rel=1e-6)


def test_a_run_with_loggers_is_the_run_without(logged: tuple[Path, Quiet], finished: Path) -> None:
    one, two = contents(logged[0]), contents(finished)
    for each in (one, two):
        names = ("logged", "config", "config_asked")
        each["tables"]["meta"] = [row for row in each["tables"]["meta"] if row["key"] not in names]
        each["tables"]["generations"] = [{**row, "seconds": None} for row in each["tables"]["generations"]]
    assert one == two
    assert not [line for line in logged[1].lines if "left out" in line]


def test_tensorboards_own_reader_finds_every_step_once(logged: tuple[Path, Quiet]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = logged[0]
    read = EventAccumulator(str(run / "tensorboard"))
    read.Reload()
    expected = stored(run)
    assert len(expected) == STEPS
    steps = {key: [event.step for event in read.Scalars(key)] for key in expected[0]}
    assert steps == {key: list(range(1, STEPS + 1)) for key in expected[0]}
    for place, figures in enumerate(expected):
        assert_equal(figures, {key: read.Scalars(key)[place].value for key in figures})
    assert {key: read.Scalars(key)[0].value for key in rows_of(run)} == pytest.approx(rows_of(run), rel=1e-6)
    assert "table/text_summary" in read.Tags()["tensors"]


def test_mlflow_has_every_step_once(logged: tuple[Path, Quiet]) -> None:
    from mlflow import MlflowClient

    run = logged[0]
    client = MlflowClient(tracking_uri=(run / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("vlmerge")
    assert experiment is not None
    (record,) = client.search_runs([experiment.experiment_id])
    assert record.info.status == "FINISHED"
    assert record.data.params["search.max_fevals"] == "14"
    expected = stored(run)
    for key in expected[0]:
        history = sorted(client.get_metric_history(record.info.run_id, key), key=lambda metric: metric.step)
        assert [metric.step for metric in history] == list(range(1, STEPS + 1))
        assert [metric.value for metric in history] == pytest.approx([figures[key] for figures in expected])
    assert {key: record.data.metrics[key] for key in rows_of(run)} == pytest.approx(rows_of(run))


def wandb_records(file: Path) -> Iterator[bytes]:
    """The records of a file of wandb's: LevelDB's log format behind seven bytes."""
    data, place, whole = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


def test_wandb_has_every_step_once_though_it_came_late(logged: tuple[Path, Quiet]) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    run = logged[0]
    history, summary = {}, {}
    for file in sorted((run / "wandb").glob("offline-run-*/*.wandb")):
        for raw in wandb_records(file):
            record = Record.FromString(raw)
            values = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            if "search/best" in values:
                assert record.history.step.num not in history
                history[record.history.step.num] = values
            summary |= {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.summary.update}
    expected = stored(run)
    assert sorted(history) == list(range(1, STEPS + 1))
    for step, figures in enumerate(expected, 1):
        assert_equal(figures, history[step])
    assert_equal(rows_of(run), summary)


def test_a_logger_that_fails_is_told_once_and_left_out(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 'vlmerge[wandb]'")
    pytest.importorskip("mlflow", reason="pip install 'vlmerge[mlflow]'")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
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
