"""Data sets by the real `datasets` library: the built-ins' own columns, as folders and files on disk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as Pillow

from vlmerge.config.run import TaskSpec
from vlmerge.errors import TaskError
from vlmerge.tasks import check_pictures, load_task

TEXT = Value("string")
WILD = Features({"page_url": TEXT, "image_url": TEXT, "image": Image(), "question": TEXT, "answer": TEXT})
VISUAL_GENOME = Features(
    {
        "image_id": Value("int64"),
        "url": Value("string"),
        "width": Value("int64"),
        "height": Value("int64"),
        "coco_id": Value("float64"),
        "flickr_id": Value("float64"),
        "qas": List(
            {
                "a_objects": List(Value("null")),
                "answer": Value("string"),
                "q_objects": List(Value("null")),
                "qa_id": Value("int64"),
                "question": Value("string"),
            }
        ),
        "image": Image(),
    }
)


def encoded(colour: tuple[int, int, int], form: str = "PNG") -> dict[str, Any]:
    buffer = io.BytesIO()
    Pillow.new("RGB", (8, 6), colour).save(buffer, form)
    return {"bytes": buffer.getvalue(), "path": None}


def wild(rows: int = 3) -> Dataset:
    return Dataset.from_list(
        [
            {
                "page_url": f"https://example.org/{i}",
                "image_url": f"https://example.org/{i}.jpg",
                "image": encoded((i * 40, 0, 0), "JPEG"),
                "question": f"これは何ですか? {i}",
                "answer": f"写真{i}です。",
            }
            for i in range(rows)
        ],
        features=WILD,
    )


def genome_question(number: int, turn: int) -> dict[str, Any]:
    return {"a_objects": [], "answer": f"答え{turn}", "q_objects": [], "qa_id": number, "question": f"質問{turn}"}


def visual_genome(first: int) -> Dataset:
    return Dataset.from_list(
        [
            {
                "image_id": first + i,
                "url": "https://example.org/a.jpg",
                "width": 8,
                "height": 6,
                "coco_id": None,
                "flickr_id": None,
                "qas": [genome_question(10 * (first + i) + j, j) for j in range(i + 1)],
                "image": encoded((0, first % 250, i * 40)),
            }
            for i in range(3)
        ],
        features=VISUAL_GENOME,
    )


@pytest.fixture(autouse=True)
def quiet_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keeps the library's cache out of the home folder, and its bars off the screen."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets-cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def genome_folder(tmp_path: Path) -> Path:
    DatasetDict({"train": visual_genome(100), "test": visual_genome(200)}).save_to_disk(str(tmp_path / "vg"))
    return tmp_path / "vg"


def test_the_wild_bench_from_a_folder_of_parquet(tmp_path: Path) -> None:
    (tmp_path / "wild" / "data").mkdir(parents=True)
    wild().to_parquet(str(tmp_path / "wild" / "data" / "test-00000-of-00001.parquet"))
    task = load_task(TaskSpec(name="ja-vlm-bench-in-the-wild", path=str(tmp_path / "wild")))
    questions = task.questions()
    assert (task.name, task.metric) == ("ja-vlm-bench-in-the-wild", "rougeL_ja")
    assert task.source.endswith("wild, split test")
    assert [question.id for question in questions] == ["1", "2", "3"]
    assert questions[1].references == ("写真1です。",)
    assert questions[1].pictures[0].open().size == (8, 6)
    assert len({question.group for question in questions}) == 3
    assert task.score(questions[1], "写真1です。") == 1.0
    assert task.score(questions[1], "A photograph, number 1.") == 0.0
    check_pictures(questions)


def test_visual_genome_lists_several_questions_with_each_picture(genome_folder: Path) -> None:
    task = load_task(TaskSpec(name="ja-vg-vqa-500", path=str(genome_folder), split="train"))
    questions = task.questions()
    assert [question.id for question in questions] == ["1000", "1010", "1011", "1020", "1021", "1022"]
    assert [question.text for question in questions][-3:] == ["質問0", "質問1", "質問2"]
    assert questions[3].pictures[0] is questions[5].pictures[0]
    assert load_task(TaskSpec(name="ja-vg-vqa-500", path=str(genome_folder))).questions()[0].id == "2000"  # test, as published


def test_under_the_published_protocol_only_the_first_question_of_each_picture_counts(genome_folder: Path) -> None:
    spec = TaskSpec(name="ja-vg-vqa-500", path=str(genome_folder), split="train", preset="sakana")
    assert [question.id for question in load_task(spec).questions()] == ["1000", "1010", "1020"]
    limited = TaskSpec(name="ja-vg-vqa-500", path=str(genome_folder), split="train", limit=2)
    assert [question.id for question in load_task(limited).questions()] == ["1000", "1010"]


def test_a_single_parquet_file_will_do(tmp_path: Path) -> None:
    visual_genome(300).to_parquet(str(tmp_path / "vg.parquet"))
    task = load_task(TaskSpec(name="ja-vg-vqa-500", path=str(tmp_path / "vg.parquet"), preset="sakana"))
    assert [question.id for question in task.questions()] == ["3000", "3010", "3020"]


def test_a_folder_is_a_data_set_of_ones_own(tmp_path: Path, genome_folder: Path) -> None:
    wild().save_to_disk(str(tmp_path / "own"))
    task = load_task(TaskSpec(name=str(tmp_path / "own")))
    assert (task.name, task.metric, len(task.questions())) == ("own", "char_rougeL", 3)
    for split, complaint in ((None, "several splits"), ("validation", "no split 'validation'")):
        with pytest.raises(TaskError, match=complaint) as caught:
            load_task(TaskSpec(name=str(genome_folder), split=split))
        assert "train, test" in caught.value.message()


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskError, match="cannot be read as a data set"):
        load_task(TaskSpec(name="ja-vg-vqa-500", path=str(tmp_path / "empty")))


def test_a_built_in_copy_with_other_columns_is_refused(tmp_path: Path) -> None:
    wild().save_to_disk(str(tmp_path / "wild"))
    with pytest.raises(TaskError, match="a list in 'qas'"):
        load_task(TaskSpec(name="ja-vg-vqa-500", path=str(tmp_path / "wild")))
