"""The checkpoint of a run, in the hands of someone who has never heard of this package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from vlmerge.errors import RunFolderError
from vlmerge.evolve import evolve
from vlmerge.export import export
from vlmerge.store import Store

from .conftest import FAMILY, Quiet, load, small_run

PLAIN = """
import json, sys

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, asked, written = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
processor = AutoProcessor.from_pretrained(folder)
answers = []
with open(asked, encoding="utf-8") as file:
    questions = json.load(file)
for question in questions:
    content = [{"type": "image"}, {"type": "text", "text": question["text"]}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    picture = Image.open(question["picture"]).convert("RGB")
    inputs = processor(images=picture, text=prompt, return_tensors="pt")
    ids = model.generate(**inputs, do_sample=False, max_new_tokens=16)
    answers.append(processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
assert "vlmerge" not in sys.modules
with open(written, "w", encoding="utf-8") as file:
    json.dump(answers, file)
"""


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_plain_transformers_gives_the_answers_that_were_scored(finished: Path, tmp_path: Path) -> None:
    asked: list[dict[str, str]] = []
    scored: list[str] = []
    with Store.read_only(finished / "run.sqlite") as store:
        winner = store.get("standing")["winner"]
        said = {(answer.task, answer.question): answer.text for answer in store.answers(winner, "holdout")}
        for question in store.questions("holdout"):
            (digest,) = question.pictures
            asked.append({"text": question.text, "picture": store.picture_origin(digest)})
            scored.append(said[question.task, question.question])
    assert len(asked) == 12
    assert len(set(scored)) > 1
    (tmp_path / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
    arguments = [finished / "model", tmp_path / "asked.json", tmp_path / "answers.json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "answers.json").read_text(encoding="utf-8")) == scored


def test_the_winner_is_exported_byte_for_byte_as_the_run_wrote_it(finished: Path, tmp_path: Path) -> None:
    chosen = export(finished, tmp_path / "again")
    with Store.read_only(finished / "run.sqlite") as store:
        assert chosen.trial == store.get("standing")["winner"]
    assert files(tmp_path / "again") == files(finished / "model")


def test_any_other_scored_trial_can_be_exported(finished: Path, tmp_path: Path) -> None:
    with Store.read_only(finished / "run.sqlite") as store:
        host = store.trial("host")
    assert host is not None
    assert export(finished, tmp_path / "host", host.trial) == host
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "host", FAMILY / "vlm"))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs), "the host's recipe is the host"
    winner = load_file(finished / "model" / "model.safetensors")
    assert any(ours[name].tobytes() != winner[name].tobytes() for name in ours)


def test_a_trial_that_is_not_there_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"trial 4711 cannot be exported(.|\n)*no such trial"):
        export(finished, tmp_path / "none", 4711)
    assert not (tmp_path / "none").exists()


def test_a_model_that_changed_since_is_refused(tmp_path: Path) -> None:
    for name in ("vlm", "ja", "base"):
        shutil.copytree(FAMILY / name, tmp_path / name)
    merge = {"models": [str(tmp_path / name) for name in ("vlm", "ja", "base")], "base_model": str(tmp_path / "base")}
    smallest = small_run(merge=merge, validation={"fraction": 0}, holdout=None, search={"max_fevals": 6, "population": 3})
    run = evolve(load(tmp_path, smallest), tmp_path / "run", Quiet())
    export(run, tmp_path / "before")
    assert files(tmp_path / "before") == files(run / "model")

    weights = tmp_path / "ja" / "model.safetensors"
    tensors = load_file(weights)
    changed = tensors["model.norm.weight"].copy()
    changed[0] += 1
    save_file({**tensors, "model.norm.weight": changed}, weights, metadata={"format": "pt"})
    with pytest.raises(RunFolderError, match="a model has changed since this run began"):
        export(run, tmp_path / "after")
    assert not (tmp_path / "after").exists()
