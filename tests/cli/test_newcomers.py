"""What goes wrong on a first day: exit code 2, no traceback, and a message that names the file and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from evolve.conftest import FAMILY, small_run, write_run

from .test_commands import PICTURE, vlmerge

PAIR = """
merge_method: linear
models:
  - {model: FIRST, parameters: {weight: 0.5}}
  - {model: SECOND, parameters: {weight: WEIGHT}}
"""


def recipe(folder: Path, first: object = FAMILY / "vlm", second: object = FAMILY / "ja", weight: float = 0.5) -> Path:
    text = PAIR.replace("FIRST", str(first)).replace("SECOND", str(second)).replace("WEIGHT", str(weight))
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


def test_weights_that_sum_to_zero(tmp_path: Path) -> None:
    vlmerge("merge", recipe(tmp_path, weight=-0.5), tmp_path / "out").refuses("sum to zero", "recipe.yaml", "normalize: false")


def test_a_slip_in_a_folders_name(tmp_path: Path) -> None:
    shutil.copytree(FAMILY / "ja", tmp_path / "models" / "llama-ja")
    for slip in ("models/lama-ja", "./models/lama-ja", tmp_path / "models" / "lama-ja"):
        done = vlmerge("check", recipe(tmp_path, second=slip))
        done.refuses("there is no such folder", str(tmp_path / "models"), "did you mean `llama-ja`")


def half(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def nothing(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def index_of_nothing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "pytorch_model-00001-of-00002.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (half, "cut short"),
        (nothing, "cut short"),
        (index_of_nothing, "pytorch_model-00001-of-00002.bin"),
    ],
)
def test_a_model_that_is_not_whole(spoil: Callable[[Path], None], named: str, tmp_path: Path) -> None:
    shutil.copytree(FAMILY / "ja", tmp_path / "ja")
    spoil(tmp_path / "ja")
    for command in (("check",), ("merge", tmp_path / "out")):
        vlmerge(command[0], recipe(tmp_path, second="./ja"), *command[1:]).refuses(
            named, str(tmp_path / "ja"), "download or copy"
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", ("a task has no questions",)),
        ('{"id": "1", "image": "whole.png", "question": "?"}', ("a row has no answer", "line 1")),
        ('{"id": "1", "image": "half.png", "question": "?", "answer": "!"}', ("a picture cannot be read", "half.png")),
        ('{"id": "1", "image": "none.png", "question": "?", "answer": "!"}', ("a picture is not there", "none.png")),
        ('{"id": "1", "image": ', ("a line is not JSON", "line 1")),
    ],
    ids=["empty", "no answer", "broken picture", "no picture", "no JSON"],
)
def test_questions_that_cannot_be_asked(text: str, named: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text(text)
    shutil.copy(PICTURE, tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes(Path(PICTURE).read_bytes()[:200])
    run = write_run(tmp_path, small_run(tasks=[{"name": "own.jsonl"}], validation={"fraction": 0}, holdout=None))
    vlmerge("evolve", run, "--out", tmp_path / "run").refuses(*named, str(tmp_path), "what to do")
    assert not (tmp_path / "run").exists()
    vlmerge("check", run).refuses(*named)


def test_names_that_nobody_knows_are_said_before_any_model_is_opened(tmp_path: Path) -> None:
    nowhere = {"models": [str(tmp_path / "none")]}
    for wrong, named in (
        ({"preset": "sakna"}, ("unknown preset", "'sakana'", "preset")),
        ({"tasks": [{"name": str(PICTURE), "metric": "rougel_ja"}]}, ("unknown metric", "'rougeL_ja'", "tasks[0].metric")),
        ({"tasks": ["ja-vlm-bench-in-the-wold"]}, ("unknown task", "'ja-vlm-bench-in-the-wild'", "tasks[0].name")),
    ):
        run = write_run(tmp_path, small_run(merge=nowhere, holdout=None, validation={"fraction": 0}, **wrong))
        vlmerge("evolve", run, "--out", tmp_path / "run").refuses(*named, str(run))
        vlmerge("check", run).refuses(*named, str(run))
    assert not (tmp_path / "run").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A path below a file: what permissions forbid says the same, but not to every user."""
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"
    vlmerge("merge", recipe(tmp_path), out).refuses("the output folder cannot be made", str(out), "choose another folder")
    vlmerge("evolve", write_run(tmp_path, small_run()), "--out", out).refuses("the run folder cannot be written", str(out))
