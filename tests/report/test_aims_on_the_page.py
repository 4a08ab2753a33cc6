"""Constraints, fronts and archives on the page: what was wanted beside a score, and what became of it."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from vlmerge.aims.wanted import KEY
from vlmerge.report import results_table, write_report
from vlmerge.report.archive import archive
from vlmerge.report.phrases import Language
from vlmerge.store import STORE_NAME, Store

CONSTRAINTS = [
    {"task": "pictures-en", "at_least": 1.2, "of": "host"},
    {"task": "pictures-ja", "language": "ja", "at_least": 0.5},
    {"task": "pictures-en", "at_most": 1.0},
]
OBJECTIVES = [{"tasks": {"pictures-ja": 1.0}, "label": "Japanese"}, {"tasks": {"pictures-en": 2.0}}]


def wanting(finished: Path, folder: Path, **aims: Any) -> Path:
    """The invented run, as if it had had aims; its page written."""
    shutil.copy(finished / STORE_NAME, folder / STORE_NAME)
    with Store.open(folder / STORE_NAME) as store:
        store.set(KEY, {"constraints": [], "objectives": [], "sharing": False, **aims})
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def constrained(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wanting(finished, tmp_path_factory.mktemp("constrained"), constraints=CONSTRAINTS)


@pytest.fixture(scope="module")
def fronted(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wanting(finished, tmp_path_factory.mktemp("fronted"), objectives=OBJECTIVES)


def table_text(folder: Path, lang: Language = "en") -> str:
    from rich.console import Console

    console = Console(width=200, record=True, file=io.StringIO())
    with Store.read_only(folder / STORE_NAME) as store:
        console.print(results_table(store, lang=lang))
    return console.export_text()


def test_a_broken_constraint_is_told_everywhere(constrained: Path) -> None:
    results = json.loads((constrained / "results.json").read_text())
    by_row = {(row["candidate"], row["set"], row["task"]): row["score"] for row in results["rows"]}
    assert [(one["task"], one["set"]) for one in results["constraints"]][:3] == [
        ("pictures-en", split) for split in ("holdout", "validation", "search")
    ]
    assert len(results["constraints"]) == 9
    for one in results["constraints"]:
        assert one["held"] == (one["value"] >= one["bound"] if one["side"] == "at_least" else one["value"] <= one["bound"])
        assert one["low"] <= one["value"] <= one["high"]
        if one["of"] == "host":
            own, host = (by_row[name, one["set"], "pictures-en"] for name in ("winner", "host"))
            assert one["value"] == pytest.approx(100 * own / host, abs=1e-3)
            assert one["score"] == pytest.approx(own, abs=1e-3)
        elif one["language"]:
            assert 90 < one["value"] <= 100  # A few answers of the invented run are markup.
    assert results["feasible"] is False
    page, terminal = (constrained / "report.html").read_text(), table_text(constrained)
    assert "No finalist keeps every constraint on the validation questions" in page
    assert "pictures-en: at least 120 % of the host&#39;s score" in page
    assert "outside the constraints" in page
    assert "pictures-en: at least 120 % of the host's score:" in terminal
    assert "not held (holdout)" in terminal
    assert "ホストのスコアの 120 % 以上" in table_text(constrained, "ja")


def test_a_run_without_aims_says_nothing_of_them(finished: Path) -> None:
    results, page = json.loads((finished / "results.json").read_text()), (finished / "report.html").read_text()
    assert not {"constraints", "feasible", "front"} & set(results)
    assert "outside the constraints" not in page


def test_a_front_has_its_picture_its_table_and_its_commands(fronted: Path) -> None:
    results = json.loads((fronted / "results.json").read_text())
    front = results["front"]
    assert front["objectives"] == ["Japanese", "pictures-en"]
    points = [[one["score"] for one in point["sets"]["search"]["scores"].values()] for point in front["points"]]
    assert len(points) > 1
    assert points == sorted(points)
    assert [each[1] for each in points] == sorted((each[1] for each in points), reverse=True)
    by_row = {(row["trial"], row["set"], row["task"]): row["score"] for row in results["rows"]}
    for point in front["points"]:
        for split, found in point["sets"].items():
            for name, task in (("Japanese", "pictures-ja"), ("pictures-en", "pictures-en")):
                assert found["scores"][name]["score"] == pytest.approx(by_row[point["trial"], split, task], abs=1e-3)
                assert found["scores"][name]["low"] <= found["scores"][name]["score"] <= found["scores"][name]["high"]
    assert (fronted / "figures" / "front.png").stat().st_size > 1000
    page, terminal = (fronted / "report.html").read_text(), table_text(fronted)
    for point in front["points"]:
        assert f"vlmerge export . OUT --trial {point['trial']}" in page
        assert f"trial {point['trial']} (" in terminal
        # A hand-set merge is called after a row of the tables only where that row is this very merge.
        rows = {row["trial"] for row in results["rows"]}
        assert point["trial"] in rows or (point["label"] in page and f"trial {point['trial']} ({point['label']})" in terminal)


def test_of_a_task_of_which_less_is_better_the_archive_keeps_the_lowest(finished: Path, tmp_path: Path) -> None:
    shutil.copy(finished / STORE_NAME, tmp_path / STORE_NAME)
    with Store.read_only(finished / STORE_NAME) as store:
        before = archive(store)
    connection = sqlite3.connect(tmp_path / STORE_NAME)
    with connection:
        connection.execute("UPDATE tasks SET weight = -1 WHERE task = 'pictures-en'")
    connection.close()
    with Store.read_only(tmp_path / STORE_NAME) as store:
        cells = archive(store)
    best = min(cell.scores["pictures-en"] for cell in before)
    assert min(cell.scores["pictures-en"] for cell in cells if cell.task == "pictures-en") <= best
    for kept, now in zip(before, cells, strict=True):
        assert (kept.task, kept.within) == (now.task, now.within)
        assert now.scores["pictures-en"] <= kept.scores["pictures-en"] if now.task == "pictures-en" else now == kept
    assert cells != before


def test_the_archive_keeps_the_best_of_every_cell(finished: Path) -> None:
    with Store.read_only(finished / STORE_NAME) as store:
        cells = archive(store)
        assert {cell.task for cell in cells} == {"pictures-ja", "pictures-en"}
        for cell in cells:
            (other, (low, high)) = next(iter(cell.within.items()))
            assert low <= cell.scores[other] <= high
            alike = [each for each in cells if each.within == cell.within and each.task == cell.task]
            assert alike == [cell]
        best = max(cells, key=lambda cell: cell.scores["pictures-en"])
    results = json.loads((finished / "results.json").read_text())
    english = [row["score"] for row in results["rows"] if (row["set"], row["task"]) == ("search", "pictures-en")]
    assert best.scores["pictures-en"] == pytest.approx(max(english), abs=1e-3)
    assert [(cell["task"], cell["trial"]) for cell in results["archive"]] == [(cell.task, cell.trial) for cell in cells]
    assert f"vlmerge export . OUT --trial {best.trial}" in (finished / "report.html").read_text()
