"""What stands in each logger's own record, read back by its own reader: equal to the store, every step once."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from conftest import Kind, build

from vlmerge.config.run import LoggerSpec
from vlmerge.loggers import Logbook
from vlmerge.report import write_results
from vlmerge.run_folder import RunFolder
from vlmerge.store import STORE_NAME, Store

ALL = ("wandb", "tensorboard", "mlflow")
STEPS = 5
FAILED_IN = 3
"""The invented run has a failed candidate in this step."""


def tell(run: Path, told: int, *, finished: bool = False, forget: bool = False) -> list[str]:
    """A process that finds so many generations told; `forget`: it is killed before it remembers the last one."""
    said: list[str] = []
    with sqlite3.connect(run / STORE_NAME) as connection:
        hidden = connection.execute(
            "SELECT stage, generation, fitness FROM generations ORDER BY stage, generation LIMIT -1 OFFSET ?", (told,)
        ).fetchall()
        connection.executemany(
            "UPDATE generations SET fitness = NULL WHERE stage = ? AND generation = ?", [h[:2] for h in hidden]
        )
    connection.close()
    with Store.open(run / STORE_NAME) as store:
        logbook = Logbook([LoggerSpec(name=name) for name in ALL], RunFolder(run, store, False), said.append)
        logbook.tell()
        logbook.tell(finished=finished)
        if forget:
            logged = store.get("logged")
            store.set("logged", {name: {**state, "step": state["step"] - 1} for name, state in logged.items()})
        logbook.close(whole=finished)
    with sqlite3.connect(run / STORE_NAME) as connection:
        connection.executemany(
            "UPDATE generations SET fitness = ? WHERE stage = ? AND generation = ?", [(h[2], h[0], h[1]) for h in hidden]
        )
    connection.close()
    return said


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run told to every logger by five processes, one of them killed after step 3; without network."""
    for package in ALL:
        pytest.importorskip(package, reason=f"pip install 'vlmerge[{package}]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        import_module("wandb").teardown()  # It reads its settings once in a process: another test's would stand.
        run = build(tmp_path_factory.mktemp("logged"), Kind(generations=STEPS))
        said = tell(run, 0) + tell(run, 2) + tell(run, 3, forget=True)
        said += tell(run, STEPS, finished=True) + tell(run, STEPS, finished=True)
        assert said == []
        with Store.read_only(run / STORE_NAME) as store:
            write_results(store, run)
        yield run


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
            scores = [100 * score for score in generation.fitness if score is not None]
            best, mean = max(best, *scores), sum(scores) / len(scores)
            figures = {
                "search/best": best, "search/max": max(scores), "search/min": min(scores), "search/mean": mean,
                "search/deviation": math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores)),
                "search/step_size": generation.sigma, "search/seconds": generation.seconds,
                "search/failed": len(generation.fitness) - len(scores),
                "search/stage": generation.stage + 1, "search/generation": generation.generation + 1,
            }  # fmt: skip
            found.append(figures | {f"task/{t}/mean": 100 * sum(v) / len(v) for t, v in by_task.items() if v})
    return found


def rows_of(run: Path) -> dict[str, float]:
    rows = json.loads((run / "results.json").read_text())["rows"]
    return {f"final/{r['set']}/{r['task']}/{r['candidate'].replace(':', '_')}": r["score"] for r in rows}


def assert_equal(stored: dict[str, float], logged: dict[str, float]) -> None:
    assert {key: logged[key] for key in stored} == pytest.approx(stored, rel=1e-6)


def test_tensorboards_own_reader_finds_every_step_once(logged: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = logged
    read = EventAccumulator(str(run / "tensorboard"))
    read.Reload()
    expected = stored(run)
    assert len(expected) == STEPS
    assert expected[FAILED_IN - 1]["search/failed"] == 1
    steps = {key: [event.step for event in read.Scalars(key)] for key in expected[0]}
    assert steps == {key: list(range(1, STEPS + 1)) for key in expected[0]}
    for place, figures in enumerate(expected):
        assert_equal(figures, {key: read.Scalars(key)[place].value for key in figures})
    assert {key: read.Scalars(key)[0].value for key in rows_of(run)} == pytest.approx(rows_of(run), rel=1e-6)
    assert "table/text_summary" in read.Tags()["tensors"]


def test_mlflow_has_every_step_once(logged: Path) -> None:
    from mlflow import MlflowClient

    run = logged
    client = MlflowClient(tracking_uri=(run / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("vlmerge")
    assert experiment is not None
    (record,) = client.search_runs([experiment.experiment_id])
    assert record.info.status == "FINISHED"
    assert record.data.params["search.seed"] == "1"
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


def test_wandb_has_every_step_once_though_it_came_late(logged: Path) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    run = logged
    history, summary = {}, {}
    for file in sorted((run / "wandb").glob("offline-run-*/*.wandb")):
        for raw in wandb_records(file):
            record = Record.FromString(raw)
            values = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            if "search/best" in values:
                step = record.history.step.num
                if step in history:  # Offline nobody knows of the step that was written and not remembered: the same again.
                    assert step == FAILED_IN
                    assert {k: v for k, v in values.items() if k[0] != "_"} == {
                        k: v for k, v in history[step].items() if k[0] != "_"
                    }
                history[step] = values
            summary |= {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.summary.update}
    expected = stored(run)
    assert sorted(history) == list(range(1, STEPS + 1))
    for step, figures in enumerate(expected, 1):
        assert_equal(figures, history[step])
    assert_equal(rows_of(run), summary)
