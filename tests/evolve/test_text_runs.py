"""Language models among themselves, asked in text: validation and holdout as in any run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlmerge.errors import TaskError
from vlmerge.evolve import evolve
from vlmerge.store import Store

from .conftest import FAMILY, Quiet, load, small_run

THINGS = ("cat", "pizza", "ship", "melon", "rocket", "dog", "apple", "car")


def texts(folder: Path, name: str, places: range) -> dict[str, Any]:
    """Questions about what a passage says, a passage of its own for each."""
    rows = [
        {
            "question": f"There is a {THINGS[place]} on the left. There is a {THINGS[place - 1]} on the right."
            "<q>What is on the left?<a>",
            "answer": f"A {THINGS[place]} is on the left.",
        }
        for place in places
    ]
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return {"name": str(path)}


def text_run(folder: Path, search: range, validation: range, holdout: range) -> dict[str, Any]:
    return small_run(
        merge={"models": [str(FAMILY / "base"), str(FAMILY / "ja")], "base_model": str(FAMILY / "base")},
        tasks=[texts(folder, "search", search)],
        validation=[texts(folder, "validation", validation)],
        holdout=[texts(folder, "holdout", holdout)],
        search={"max_fevals": 6, "global_fevals": 3, "population": 3},
    )


def test_a_text_run_elects_on_validation_and_claims_on_holdout(tmp_path: Path) -> None:
    run = text_run(tmp_path, range(3), range(3, 5), range(5, 8))
    folder = evolve(load(tmp_path, run), tmp_path / "run", Quiet())
    with Store.read_only(folder / "run.sqlite") as store:
        assert store.get("elected_on") == "validation"
        winner = store.get("standing")["winner"]
        assert len(store.answers(winner, "holdout")) == 3
        assert not any(question.pictures for question in store.questions())
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert {row["set"] for row in results["rows"] if row["candidate"] == "winner"} == {"search", "validation", "holdout"}
    assert results["holdout_views"] == 1
    assert (folder / "report.html").is_file()


def test_a_text_on_both_sides_is_refused(tmp_path: Path) -> None:
    """There is no picture to tell them apart by: the text is what is held out."""
    run = text_run(tmp_path, range(3), range(3, 5), range(2, 5))
    with pytest.raises(TaskError, match="not disjoint"):
        evolve(load(tmp_path, run), tmp_path / "run", Quiet())
