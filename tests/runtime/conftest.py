"""Small real checkpoints to run: the ones that ship with the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlmerge.config.model_ref import ModelRef
from vlmerge.merge import Prepared, prepare_models
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.types import Picture, Question

FAMILY = Path(__file__).parents[2] / "src" / "vlmerge" / "demo"


@pytest.fixture(scope="session")
def family() -> Prepared:
    """A VLM, a Japanese LM and their base, opened and paired."""
    refs = [ModelRef(str(FAMILY / name)) for name in ("vlm", "ja", "base")]
    return prepare_models(refs, base=refs[2])


@pytest.fixture
def live(family: Prepared) -> LiveModel:
    return LiveModel.load(family, choose_placement("cpu", batch_size=16, host_dtype="float16"))


def questions(split: str, language: str, count: int) -> list[Question]:
    """The first questions of one of the shipped sets."""
    folder = FAMILY / "bench" / split
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()[:count]]
    return [
        Question(
            row["id"], language, row[f"question_{language}"], (Picture(folder / row["image"]),), (row[f"answer_{language}"],)
        )
        for row in rows
    ]
