"""Names, metrics, presets and limits of tasks; what is not known is refused with what is near."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import pytest

from vlmerge.config.run import TaskSpec
from vlmerge.errors import TaskError
from vlmerge.tasks import (
    BUILT_IN,
    METRICS,
    PRESETS,
    check_names,
    describe_tasks,
    load_task,
    metric_named,
    preset_named,
    task_name,
)

HOLDOUT = Path(str(resources.files("vlmerge"))) / "demo" / "bench" / "holdout" / "questions.jsonl"
JAPANESE = {"question": "question_ja", "answer": "answer_ja"}


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"question": "1+1は?", "answer": "2です"}\n{"question": "2+2は?", "answer": "4です"}\n')
    return str(path)


def refusal(**keys: object) -> str:
    with pytest.raises(TaskError) as caught:
        load_task(TaskSpec(**keys))  # type: ignore[arg-type]
    return caught.value.message()


@pytest.mark.parametrize(
    ("keys", "run_preset", "metric"),
    [
        ({}, None, "char_rougeL"),
        ({"preset": "sakana"}, None, "rougeL_ja"),
        ({}, "colab-2024", "rougeL"),
        ({"preset": "sakana"}, "colab-2024", "rougeL_ja"),
        ({"preset": "sakana", "metric": "exact_match"}, "colab-2024", "exact_match"),
    ],
)
def test_the_task_s_metric_goes_before_its_preset_s_and_the_run_s(
    mine: str, keys: dict[str, str], run_preset: str | None, metric: str
) -> None:
    task = load_task(TaskSpec(name=mine, **keys), preset=run_preset)  # type: ignore[arg-type]
    assert task.metric == metric
    assert task.metric_description == METRICS[metric].description


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_leaves_nothing_is_refused(mine: str, limit: int) -> None:
    from vlmerge.tasks.questions import Reading, read_questions
    from vlmerge.tasks.rows import open_file

    with pytest.raises(TaskError, match="may not ask anything"):
        read_questions(open_file(Path(mine)), Reading(task="t", limit=limit))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ja-vlm-bench-in-the-wlid", "ja-vlm-bench-in-the-wild"),
        ("JA-VG-VQA-500", "ja-vg-vqa-500"),
        ("ja_vg_vqa_500", "ja-vg-vqa-500"),
    ],
)
def test_an_unknown_task_names_the_nearest(name: str, near: str) -> None:
    assert f"write {near!r}" in refusal(name=name)


def test_a_name_that_nothing_has_is_told_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(name="my_own_lm_eval_task")
    assert "a built-in task" in message
    assert "hf:org/name" in message
    monkeypatch.setattr("vlmerge.tasks.harness_index.installed", lambda: False)
    message = refusal(name="my_own_lm_eval_task")
    assert "tasks of lm-evaluation-harness need that installed" in message
    assert "pip install 'vlmerge[lm-eval]'" in message


def test_unknown_metrics_and_presets_name_the_nearest(mine: str) -> None:
    assert "write 'rougeL_ja'" in refusal(name=mine, metric="rougel_jp")
    assert "write 'sakana'" in refusal(name=mine, preset="sakna")
    with pytest.raises(TaskError, match="one of char_rougeL"):
        metric_named("bleu")
    with pytest.raises(TaskError, match="choose a preset"):
        preset_named("")


@pytest.mark.parametrize("name", ["hf:name", "hf:", "hf:a/b/c"])
def test_a_hub_name_without_its_owner_is_refused(name: str) -> None:
    assert "not named in full" in refusal(name=name)


@pytest.mark.parametrize(
    ("name", "fields", "label", "expected"),
    [
        ("/x/animals.jsonl", {}, None, "animals"),
        ("/x/animals.v2.parquet", {"question": "q"}, None, "animals.v2:q"),
        ("/x/animals.jsonl", {"answer": "a"}, None, "animals"),
        ("hf:org/name:easy@v1", {}, None, "org/name"),
        ("ja-vg-vqa-500", {}, None, "ja-vg-vqa-500"),
        ("ja-vg-vqa-500", {}, "VG", "VG"),
    ],
)
def test_names(name: str, fields: dict[str, str], label: str | None, expected: str) -> None:
    assert task_name(TaskSpec(name=name, fields=fields, label=label)) == expected


def test_presets_are_the_published_protocols() -> None:
    sakana, colab = PRESETS["sakana"], PRESETS["colab-2024"]
    assert sakana.decoding.describe() == "5 beams, repetition penalty 1.5, at most 512 tokens"
    assert colab.decoding.describe().startswith("sampling at temperature 0.2")
    assert (colab.decoding.max_new_tokens, colab.template, colab.metric) == (256, "vicuna_v1", "rougeL")
    assert (sakana.template, sakana.metric, sakana.first_question_per_image) == (None, "rougeL_ja", True)
    assert all(preset.name == name and preset.metric in METRICS for name, preset in PRESETS.items())


def test_every_built_in_is_described() -> None:
    rows = describe_tasks()
    assert [row.name for row in rows] == list(BUILT_IN)
    for row, definition in zip(rows, BUILT_IN.values(), strict=True):
        assert row.metric in METRICS
        assert definition.split in definition.splits
        assert all((row.what, row.licence, row.good_for, row.languages))


def test_420_questions_load_quickly() -> None:
    load_task(TaskSpec(name=str(HOLDOUT), fields=JAPANESE, limit=1))  # imports
    start = time.perf_counter()
    task = load_task(TaskSpec(name=str(HOLDOUT), fields=JAPANESE))
    assert time.perf_counter() - start < 0.5
    assert len(task.questions()) == 420
    assert len({id(question.pictures[0]) for question in task.questions()}) == 140


def test_nothing_heavy_is_loaded_before_it_is_needed(mine: str) -> None:
    code = f"""
import sys
from vlmerge.config.run import TaskSpec
from vlmerge.tasks import load_task
heavy = "torch transformers datasets matplotlib fugashi fasttext emoji neologdn pyarrow rouge_score".split()
loaded = lambda: [name for name in heavy if name in sys.modules]
tasks = [load_task(TaskSpec(name={mine!r}, metric=metric)) for metric in ("char_rougeL", "exact_match", "rougeL", "rougeL_ja")]
print(loaded())
for task in tasks:
    task.score(task.questions()[0], "2です")
    print(task.metric, loaded())
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "[]",
        "char_rougeL []",
        "exact_match []",
        "rougeL ['fugashi', 'emoji', 'neologdn']",
        "rougeL_ja ['fugashi', 'fasttext', 'emoji', 'neologdn']",
    ], done.stderr


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"metric": "rougel_jp"}, "tasks[1].metric"),
        ({"preset": "sakna"}, "tasks[1].preset"),
        ({"name": "ja-vg-vqa-50"}, "tasks[1].name"),
    ],
)
def test_names_are_checked_before_anything_is_read(mine: str, wrong: dict[str, str], where: str) -> None:
    unreadable = TaskSpec(name="/nowhere/first.jsonl")
    with pytest.raises(TaskError) as caught:
        check_names({"tasks[0]": unreadable, "tasks[1]": TaskSpec.model_validate({"name": mine, **wrong})}, None, "run.yaml")
    assert caught.value.where == f"run.yaml, {where}"
    with pytest.raises(TaskError, match="sakana"):
        check_names({"tasks[0]": unreadable}, "sakna")
