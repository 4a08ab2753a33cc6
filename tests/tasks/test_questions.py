"""Rows become questions, or an error that says which row and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vlmerge.config.run import TaskSpec
from vlmerge.errors import TaskError
from vlmerge.tasks import Task, check_pictures, load_task, load_tasks

Write = Callable[..., Path]


def paint(path: Path, colour: tuple[int, int, int] = (200, 30, 30), **options: Any) -> Path:
    Image.new("RGB", (6, 4), colour).save(path, **options)
    return path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes rows as JSONL beside two pictures, a.png and b.png."""
    paint(tmp_path / "a.png")
    paint(tmp_path / "b.png", (0, 0, 255))

    def writer(*rows: object, name: str = "mine.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows))
        return path

    return writer


def load(path: Path, **keys: Any) -> Task:
    return load_task(TaskSpec(name=str(path), **keys))


def refusal(path: Path, **keys: Any) -> str:
    with pytest.raises(TaskError) as caught:
        load(path, **keys)
    assert caught.value.remedy
    return caught.value.message()


def test_rows_keep_their_order_ids_pictures_and_references(write: Write, tmp_path: Path) -> None:
    path = write(
        {"id": 7, "image": "a.png", "question": "何色?", "answer": "赤"},
        "",
        {"image": "a.png", "question": "背景は?", "answers": ["白", "白色"], "kind": "bg"},
        {"images": ["a.png", "b.png"], "question": "違いは?", "answer": "色"},
        {"question": "1+1は?", "answer": 2},
    )
    task = load(path)
    questions = task.questions()
    assert [question.id for question in questions] == ["7", "3", "4", "5"]  # a row without id has its line's number
    assert [question.task for question in questions] == ["mine"] * 4
    assert [question.references for question in questions] == [("赤",), ("白", "白色"), ("色",), ("2",)]
    assert [len(question.pictures) for question in questions] == [1, 1, 2, 0]
    assert questions[0].pictures[0].path == tmp_path / "a.png"
    assert questions[0].pictures[0] is questions[1].pictures[0]  # decoded once
    assert questions[1].kind == "bg"
    assert task.source == str(path)
    assert task.score(questions[1], "白色") == 1.0
    assert task.aggregate([0.0, 1.0, 0.5]) == 0.5
    check_pictures(questions)


def test_limit_takes_the_first_after_the_choice_of_kinds(write: Write) -> None:
    rows = [{"image": "a.png", "question": f"q{i}", "answer": "x", "kind": "count" if i % 2 else "what"} for i in range(9)]
    path = write(*rows)
    assert [question.text for question in load(path, limit=3).questions()] == ["q0", "q1", "q2"]
    assert [question.text for question in load(path, limit=3, kinds=("count",)).questions()] == ["q1", "q3", "q5"]
    assert "of kinds what, count" in refusal(path, kinds=("colour",))


def test_one_file_is_two_tasks_by_its_fields(write: Write) -> None:
    row = {"image": "a.png", "question_ja": "何?", "answer_ja": "船", "question_en": "What?", "answer_en": "A ship"}
    path = write(row)
    japanese = TaskSpec(name=str(path), fields={"question": "question_ja", "answer": "answer_ja"})
    english = TaskSpec(name=str(path), fields={"question": "question_en", "answer": "answer_en"}, label="English kept")
    tasks = load_tasks([japanese, english])
    assert [task.name for task in tasks] == ["mine:question_ja", "English kept"]
    assert [task.questions()[0].text for task in tasks] == ["何?", "What?"]
    assert tasks[0].questions()[0].pictures[0] is tasks[1].questions()[0].pictures[0]
    with pytest.raises(TaskError, match="same name"):
        load_tasks([japanese, japanese])


def test_parquet_holds_paths_or_the_pictures_themselves(write: Write, tmp_path: Path) -> None:
    write()
    data = (tmp_path / "b.png").read_bytes()
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    image = pa.array([{"bytes": data, "path": "gone.png"}, {"bytes": None, "path": "a.png"}, None], struct)
    table = pa.table({"image": image, "question": ["q1", "q2", "q3"], "answers": [["x"], ["y", "z"], ["w"]]})
    pq.write_table(table, tmp_path / "mine.parquet")
    pq.write_table(pa.table({"picture": [data], "question": ["q"], "answer": ["x"]}), tmp_path / "raw.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")

    inside, beside, none = load(tmp_path / "mine.parquet").questions()
    assert inside.pictures[0].open().getpixel((0, 0)) == (0, 0, 255)
    assert beside.pictures[0].path == tmp_path / "a.png"
    assert none.pictures == ()
    assert (inside.id, beside.references) == ("1", ("y", "z"))
    raw = load(tmp_path / "raw.parquet", fields={"image": "picture"}).questions()[0]
    assert raw.group == inside.group
    assert "a task has no questions" in refusal(tmp_path / "empty.parquet")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"image": "a.png", "answer": "x"}, "a row has no question"),
        ({"image": "a.png", "question": "  ", "answer": "x"}, "a row has no question"),
        ({"image": "a.png", "question": "q"}, "a row has no answer"),
        ({"image": "a.png", "question": "q", "answer": None}, "a row has no answer"),
        ({"image": "a.png", "question": "q", "answer": " "}, "a row has no answer"),
        ({"image": "a.png", "question": "q", "answer": True}, "a row has no answer"),
        ({"image": "a.png", "question": "q", "answers": []}, "no reference answer"),
        ({"image": "a.png", "question": "q", "answers": ["x", ""]}, "a row has no answer"),
        ({"image": "c.png", "question": "q", "answer": "x"}, "a picture is not there"),
        ({"image": "http://localhost/c.png", "question": "q", "answer": "x"}, "download it"),
        ({"image": 3, "question": "q", "answer": "x"}, "neither a path nor"),
        ({"image": "a.png", "question": "q", "answer": "x", "id": "1"}, "two questions have one id"),
        ('{"image": "a.png", "question": "\\ud800", "answer": "x"}', "a row has no question"),
        ('{"image": ', "a line is not JSON"),
        ("[1]", "a line is not a question"),
    ],
)
def test_a_bad_row_is_named(write: Write, row: object, complaint: str) -> None:
    message = refusal(write({"id": "1", "image": "a.png", "question": "q", "answer": "x"}, row))
    assert complaint in message
    assert re.search(r"mine\.jsonl, line 2\b", message)


def test_a_picture_that_is_not_one_is_named_with_its_question(write: Write, tmp_path: Path) -> None:
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    path = write(
        {"image": "a.png", "question": "q", "answer": "x"}, {"id": "bad", "image": "c.png", "question": "q", "answer": "x"}
    )
    questions = load(path).questions()  # loading finds files and opens none
    with pytest.raises(TaskError, match=r"c\.png \(question 'bad' of task mine\)"):
        check_pictures(questions)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_task_is_refused(write: Write, content: str) -> None:
    path = write()
    path.write_text(content)
    assert "a task has no questions" in refusal(path)


def test_files_that_are_missing_broken_or_of_another_form(tmp_path: Path) -> None:
    assert "is missing" in refusal(tmp_path / "no.jsonl")
    (tmp_path / "a.csv").write_text("question,answer\n")
    assert "form that is not read" in refusal(tmp_path / "a.csv")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    assert "cannot be read" in refusal(tmp_path / "a.parquet")
    (tmp_path / "latin.jsonl").write_bytes('{"question": "né", "answer": "x"}'.encode("latin-1"))
    assert "line 1" in refusal(tmp_path / "latin.jsonl")


def test_fields_that_nothing_corresponds_to(write: Write) -> None:
    path = write({"image": "a.png", "question": "q", "answer": "x"})
    assert "fields question, answer" in refusal(write({"question": "q", "answer": "x"}), fields={"image": "photo"})
    assert "write 'question'" in refusal(path, fields={"questoin": "question_ja"})
    assert "'frage'" in refusal(path, fields={"question": "frage"})


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bom.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "q", "answer": "x"}\n')
    assert load(path).questions()[0].text == "q"
