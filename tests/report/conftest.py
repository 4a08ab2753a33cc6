"""A run that might have been: real pictures and questions, invented candidates and answers, some of the answers hostile."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from vlmerge.report import write_report
from vlmerge.store import (
    STORE_NAME,
    AnswerRecord,
    ModelRecord,
    QuestionRecord,
    Split,
    Store,
    TaskRecord,
    Trial,
)

BENCH = Path(__file__).parents[2] / "src" / "vlmerge" / "demo" / "bench"
HOSTILE = "<script>alert(1)</script>&\"'`$x_1$\x00\x1b[31m{{ 7*7 }}<img src=http://evil.example/x.png onerror=alert(2)>"
SIZES: dict[Split, int] = {"search": 16, "validation": 10, "holdout": 16}

RECIPE = """merge_method: linear
models:
- model: /models/vlm
  parameters:
    weight:
    - {{filter: embed_tokens, value: {a}}}
    - {{filter: layers.0., value: 0.43}}
    - {{filter: layers.1., value: 0.43}}
    - {{filter: layers.2., value: 0.43}}
    - {{value: 0.55}}
- model: /models/ja
  parameters: {{weight: 0.66}}
- model: /models/base
  parameters: {{weight: -0.04}}
parameters: {{normalize: false}}
dtype: float16
"""

BASELINES = {
    "host": (0.10, 0.95), "swap:ja": (0.62, 0.05), "swap:base": (0.45, 0.8), "swap_scaled:ja": (0.74, 0.06),
    "equal": (0.71, 0.9),
    "grid": (0.74, 0.84), "chat_vector:ja": (0.70, 0.5), "global": (0.83, 0.88), "winner": (0.87, 0.86), "mean": (0.87, 0.86),
    "best": (0.85, 0.8),
}  # fmt: skip
"""Invented shares of right answers, Japanese and English."""


@dataclass(frozen=True)
class Kind:
    """What sort of run to invent."""

    holdout: bool = True
    contaminated: bool = False
    finished: bool = True
    generations: int = 14
    scenes: dict[Split, int] | None = None
    task: str = "pictures-ja"


def build(folder: Path, kind: Kind = Kind()) -> Path:
    """Invents a run and writes its store into `folder`."""
    lot = random.Random(7)
    splits: list[Split] = ["search", "validation", *(["holdout"] if kind.holdout else [])]
    questions: list[QuestionRecord] = []
    thumbnails: dict[str, tuple[str, bytes]] = {}
    for split in splits:
        rows = [json.loads(line) for line in (BENCH / split / "questions.jsonl").read_text().splitlines()]
        scenes = (kind.scenes or SIZES)[split]
        for language, task in (("ja", kind.task), ("en", "pictures-en")):
            for number, row in enumerate(rows):
                if int(row["image"][:3]) >= scenes:
                    continue
                digest = f"{split}/{row['image']}"
                if digest not in thumbnails:
                    thumbnails[digest] = (digest, _thumbnail(BENCH / split / row["image"]))
                text, answer = row[f"question_{language}"], row[f"answer_{language}"]
                questions.append(QuestionRecord(split, task, f"{number}", text, (answer,), row["kind"], digest, (digest,)))
    tasks = [
        TaskRecord(
            split,
            name,
            "char_rouge_l",
            weight,
            label,
            "greedy, at most 128 tokens",
            f"<s><image><q>{name}<a>",
            "questions.jsonl",
        )
        for split in splits
        for name, weight, label in ((kind.task, 1.0, None), ("pictures-en", 0.0, "English kept"))
    ]
    models = [
        ModelRecord("/models/vlm", "vlm", True, False, "/models/vlm", None, "a" * 64, "apache-2.0", "llava", 5_370_000),
        ModelRecord("/models/ja", "ja", False, False, "/models/ja", "0123456789abcdef", "b" * 64, "llama2", "llama", 3_340_000),
        ModelRecord("/models/base", "base", False, True, "/models/base", None, "c" * 64, None, "llama", 3_340_000),
    ]
    meta = {
        "config": "search: {seed: 1}\n", "name": "demo <run>", "budget": 40 + 10 * 14, "seed": 1, "vlmerge": "0.1.0",
        "layers": 6,
        "stages": [{"name": "global", "budget": 40}, {"name": "groups", "budget": 140}],
        "machine": {"cpu": "2 cores"}, "contaminated": ["3 pictures stand on both sides"] if kind.contaminated else [],
    }  # fmt: skip
    store = Store.create(folder / STORE_NAME)
    store.record_setting(models, tasks, questions, thumbnails, meta)

    def answers(quality: tuple[float, float], wanted: Sequence[Split], only_counted: bool = False) -> list[AnswerRecord]:
        found: list[AnswerRecord] = []
        for question in questions:
            english = question.task == "pictures-en"
            if question.split not in wanted or (english and only_counted):
                continue
            luck = random.Random(question.group).uniform(-0.15, 0.15) - (0.03 if question.split == "holdout" else 0.0)
            right = lot.random() < quality[1 if english else 0] + luck
            others = [other for other in questions if other.task == question.task]
            text = question.references[0] if right else lot.choice(others).references[0]
            if lot.random() < 0.03:
                text = HOSTILE
            score = 1.0 if right and text != HOSTILE else round(lot.uniform(0, 0.7), 3)
            found.append(AnswerRecord(question.split, question.task, question.question, text, 9, score))
        return found

    def record(
        label: str, what: str, records: Sequence[AnswerRecord], place: tuple[int, int, int] | None = None, fail: str = ""
    ) -> int:
        number = store.next_trial()
        stage, generation, position = place or (None, None, None)
        seconds = {"merge": 0.01, "answer": 1.0, "score": 0.02}
        recipe = RECIPE.format(a=0.4 + number / 1000)
        store.record_trial(
            Trial(number, label, what, stage, generation, position, None, recipe, "failed" if fail else "scored", fail or None,
                  seconds, "2026-01-01T00:00:00Z"),  # pyright: ignore[reportArgumentType]
            records,
        )  # fmt: skip
        return number

    places: dict[str, int] = {}
    for name, quality in BASELINES.items():
        if name not in ("global", "winner", "best", "mean"):
            label = {"grid": "grid@0.4", "swap_scaled:ja": "swap_scaled:ja@1.13"}.get(name, name)
            places[name] = record(label, "baseline", answers(quality, ["search", *(splits[1:] if kind.finished else [])]))
    record("grid@0.5", "baseline", answers((0.7, 0.8), ["search"]))
    top: dict[int, tuple[float, int]] = {}
    for generation in range(kind.generations):
        stage, step = (0, generation) if generation < 4 else (1, generation - 4)
        fitness: list[float | None] = []
        store.record_ask(stage, step, [(0.1,)] * 10)
        for position in range(10):
            label = f"stage-{stage}/{step:03}/{position:02}"
            if (generation, position) == (2, 3):
                record(label, "searched", [], (stage, step, position), fail="NaN in the merged weights")
                fitness.append(None)
                continue
            quality = 0.87 - 0.34 * 0.72**generation - abs(lot.gauss(0, 0.07)) * 0.85**generation
            given = answers((quality, 0.8), ["search"], only_counted=True)
            number = record(label, "searched", given, (stage, step, position))
            score = sum(answer.score for answer in given) / len(given)
            fitness.append(score)
            top[stage] = max(top.get(stage, (0.0, 0)), (score, number))
        if kind.finished or generation < kind.generations - 1:
            store.record_tell(stage, step, fitness, (0.1,), 0.1, 12.0)
    if kind.finished:
        fresh = splits[1:]
        places["global"], places["best"] = top[0][1], top[1][1]
        for name in ("global", "best"):
            store.record_answers(places[name], answers(BASELINES[name], fresh))
        places["mean"] = record("mean", "mean", answers(BASELINES["mean"], splits))
        places["winner"] = places["mean"]
        for key, value in {
            "standing": places, "finished": True, "elected_on": "validation", "holdout_views": 1 if kind.holdout else 0,
            "left_out": {"chat_vector:base": "no base: it is the base itself"},
            "notes": {"tensors_merged": 57, "kept": {"/models/ja has none": 93},
                      "dropped": {"/models/base": {"not in the host": 2}}},
        }.items():  # fmt: skip
            store.set(key, value)
    store.close()
    return folder


def _thumbnail(path: Path) -> bytes:
    buffer = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, its report written."""
    folder = build(tmp_path_factory.mktemp("finished"))
    write_report(folder)
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[[Kind], Path]:
    """Invents any other run."""
    return lambda kind: build(tmp_path, kind)
