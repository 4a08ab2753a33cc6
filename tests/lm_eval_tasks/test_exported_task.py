"""A task of ours that was exported: lm-eval's own harness gives the same score on the same weights, with no line of vlmerge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_tasks import FAMILY, QUESTIONS
from test_lm_eval_scores import ours

from vlmerge.config.run import TaskSpec
from vlmerge.tasks import load_task
from vlmerge.tasks.harness_export import export_asked
from vlmerge.types import Decoding

JAPANESE = {"question": "question_ja", "answer": "answer_ja"}
SPEC: dict[str, Any] = {"name": str(QUESTIONS), "fields": JAPANESE, "limit": 8, "label": "demo questions"}


@pytest.mark.parametrize(("metric", "model"), [("char_rougeL", "vlm"), ("rougeL_ja", "vlm"), ("char_rougeL", "ja")])
def test_lm_eval_says_the_same_of_an_exported_task(
    metric: str, model: str, tmp_path: Path, lm_eval_says: Callable[..., dict[str, Any]]
) -> None:
    spec = {**SPEC, "metric": metric}
    kind = "hf-multimodal"
    if model == "ja":  # a language model is asked without pictures
        rows = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()[:8]]
        lines = [json.dumps({key: row[field] for key, field in JAPANESE.items()}, ensure_ascii=False) for row in rows]
        (tmp_path / "text.jsonl").write_text("\n".join(lines), encoding="utf-8")
        spec, kind = {"name": str(tmp_path / "text.jsonl"), "label": "demo questions", "metric": metric}, "hf"
    found = ours(FAMILY / model, tmp_path, **spec)
    exported = export_asked(load_task(TaskSpec(**spec)), Decoding(), None, None, tmp_path / "out")
    assert (exported.name, f"--model {kind} " in exported.command) == ("demo_questions", True)
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    said = lm_eval_says(FAMILY / model, "demo_questions", tmp_path / "elsewhere", model=kind, apply_chat_template=True)
    samples = said["samples"]["demo_questions"]
    assert [sample["doc"]["id"] for sample in samples] == [answer["id"] for answer in found.answers]
    assert [sample[metric] for sample in samples] == [pytest.approx(answer["score"]) for answer in found.answers]
    assert 100 * said["results"]["demo_questions"][f"{metric},none"] == pytest.approx(found.score)
    assert samples[0]["arguments"][0][0] == found.prompt
    assert len({answer["score"] for answer in found.answers}) > 1
