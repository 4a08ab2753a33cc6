"""`vlmerge tasks new` and `vlmerge tasks check`: a template that is a whole task, and what is found in questions."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow
from typer.testing import CliRunner

from vlmerge.cli import app
from vlmerge.config.run import TaskSpec, load_run
from vlmerge.errors import TaskError, UserError
from vlmerge.tasks.inspection import Inspection, inspect_task
from vlmerge.tasks.sets import load_sets
from vlmerge.tasks.template import write_template


def said(*words: object) -> str:
    done = CliRunner().invoke(app, ["tasks", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.output


def check(*words: object) -> dict[str, Any]:
    return json.loads(said("check", *words, "--json"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    said("new", tmp_path / "mine")
    return tmp_path / "mine"


def test_a_new_task_is_whole_and_its_run_is_one(folder: Path) -> None:
    assert sorted(file.name for file in folder.rglob("*.*")) == sorted(
        ["questions.jsonl", "holdout.jsonl", "run.yaml", "red-blue.png", "blue-green.png", "green-red.png"]
    )
    sets = load_sets(load_run(folder / "run.yaml"))
    assert [len(one.questions) for split in ("search", "validation", "holdout") for one in sets[split]] in (
        [2, 1, 1],
        [1, 2, 1],
    )
    found = check(folder / "questions.jsonl", "--against", folder / "run.yaml", "--against", folder / "holdout.jsonl")
    assert (found["rows"], found["pictures"], found["leaks"], found["duplicates"]) == (3, 2, [], [])
    assert found["kinds"] == {"left": 2, "right": 1}
    with pytest.raises(TaskError, match="something at the place"):
        write_template(folder)


def test_lengths_duplicates_kinds_and_splits_are_told(folder: Path) -> None:
    lines = [
        {"id": "a", "image": "pictures/red-blue.png", "question": "何色?", "answers": ["赤", "赤と青です。"]},
        {"id": "b", "image": "again.webp", "question": "何色?", "answer": "青"},
        {
            "id": "c",
            "images": ["pictures/red-blue.png", "pictures/green-red.png"],
            "question": "違いは何ですか?",
            "answer": "色です。",
        },
        {"id": "d", "question": "1+1は?", "answer": "2"},
    ]
    # The same picture in another file is the same picture.
    Pillow.open(folder / "pictures" / "red-blue.png").save(folder / "again.webp", lossless=True)
    file = folder / "own.jsonl"
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    found = check(file)
    assert (found["rows"], found["pictures"], found["without_picture"], found["most_pictures"]) == (4, 2, 1, 2)
    assert found["duplicates"] == [["a", "b"]]
    assert found["question"] == {"least": 3, "median": 3, "most": 8}
    assert found["answer"] == {"least": 1, "median": 1, "most": 6}
    assert found["validation"] == [1, 3]  # one question ties two pictures together
    told = said("check", file)
    for words in ("4 questions", "2 different, up to 2 in one question; 1 questions have none", "a = b", "leaves 1", "3 to 8"):
        assert words in told
    assert "\n  kinds " not in told


def test_what_stands_in_two_sets_is_found_by_its_pixels(folder: Path) -> None:
    Pillow.open(folder / "pictures" / "green-red.png").save(folder / "copy.webp", lossless=True)
    (folder / "other.jsonl").write_text('{"id": "x", "image": "copy.webp", "question": "?", "answer": "!"}\n')
    against_run = check(folder / "other.jsonl", "--against", folder / "run.yaml")
    (leak,) = against_run["leaks"]
    assert leak["sets"] == ["checked", f"holdout of {folder / 'run.yaml'}"]
    assert (leak["units"], leak["questions"], leak["same_questions"]) == (1, [1, 1], 0)
    (leak,) = check(folder / "other.jsonl", "--against", folder / "holdout.jsonl")["leaks"]
    assert leak["tasks"] == ["other", "holdout"]
    assert f"checked (other) and {folder / 'holdout.jsonl'} (holdout) share 1 pictures or texts" in said(
        "check", folder / "other.jsonl", "--against", folder / "holdout.jsonl"
    )
    # A copy of the questions is no second task; the file itself is.
    (folder / "again.jsonl").write_bytes((folder / "holdout.jsonl").read_bytes())
    assert check(folder / "again.jsonl", "--against", folder / "holdout.jsonl")["leaks"][0]["same_questions"] == 1
    assert check(folder / "holdout.jsonl", "--against", folder / "holdout.jsonl")["leaks"] == []


def test_a_judged_data_set_is_shown_without_a_judge(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("input,output,eval_aspect\nなぜ?,だから。,- 理由\n", encoding="utf-8")
    found: Inspection = inspect_task(TaskSpec(name="elyza-tasks-100", path=str(tmp_path)))
    assert (found.metric, found.rows, found.validation) == ("judge", 1, None)
    assert "splits      test: 100 instructions" in "\n".join(found.lines())
    assert "too few pictures (or texts) for two sides" in "\n".join(found.lines())


def test_what_is_no_task_is_told_with_what_to_name_instead(folder: Path) -> None:
    def refused(*words: object) -> str:
        done = CliRunner().invoke(app, ["tasks", "check", *map(str, words)])
        assert isinstance(done.exception, UserError), done.output
        return done.exception.message()

    questions = folder / "questions.jsonl"
    assert f"name the file: {questions}" in refused(folder)
    assert "unknown metric 'exact_mach'" in refused(questions, "--metric", "exact_mach")
    assert "write 'exact_match'" in refused(questions, "--metric", "exact_mach")
    assert "a file of questions has no splits" in refused(questions, "--split", "train")
    (folder / "recipe.yaml").write_text("merge_method: linear\nmodels: []\n")
    assert "a recipe has no questions" in refused(questions, "--against", folder / "recipe.yaml")
    assert "elsewhere to the working directory" in refused(folder / "nowhere.jsonl")
    assert "tasks check, task" in refused(questions, "--limit", 0)


def test_what_stops_a_run_stops_the_check(folder: Path) -> None:
    (folder / "pictures" / "red-blue.png").write_bytes(io.BytesIO(b"no picture").getvalue())
    with pytest.raises(TaskError, match="a picture cannot be read") as caught:
        inspect_task(TaskSpec(name=str(folder / "questions.jsonl")))
    assert "question '1'" in caught.value.message()
    done = CliRunner().invoke(app, ["tasks", "check", str(folder / "run.yaml")])
    assert "a run is no task" in str(done.exception)
