"""What `vlmerge tasks export` writes: the code of every metric, alone; and what it refuses."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from vlmerge.config.run import TaskSpec
from vlmerge.errors import TaskError
from vlmerge.tasks import METRICS, Task, load_task
from vlmerge.tasks.harness_export import CODE, export_asked
from vlmerge.types import Decoding


def loaded(folder: Path) -> Any:
    """`utils.py`, as lm-eval loads it: under no name of its own."""
    spec = importlib.util.spec_from_file_location("nobody", folder / "utils.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("metric", METRICS)
def test_the_code_of_every_metric_is_written_out(metric: str, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text(
        '{"question": "いくつ?", "answers": ["3つの赤い船です。", "3"]}\n'
        '{"question": "どれ?", "options": ["赤い船", "青い船", "3"], "answer": "青い船"}\n',
        encoding="utf-8",
    )
    task: Any = load_task(TaskSpec(name=str(tmp_path / "own.jsonl"), metric=metric))
    exported = export_asked(task, Decoding(num_beams=5, repetition_penalty=1.5), None, "x", tmp_path / "out")
    utils = loaded(tmp_path / "out")
    documents = utils.questions()["test"]
    scores = set()
    for answer in ("3つの赤い船です。", "答えはBです。", "B", "赤い船", "よって、答えは3つです。", "three red ships", ""):
        for question, document in zip(task.questions(), documents, strict=True):
            score = utils.score(document, [answer])
            assert score == {metric: task.score(question, answer)}
            scores.add(score[metric])
    assert len(scores) > 1
    tree = ast.parse((tmp_path / "out" / "utils.py").read_text(encoding="utf-8"))
    names = [each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert names
    assert not [name for name in names if name.startswith("vlmerge")]
    text = (tmp_path / "out" / "x.yaml").read_text(encoding="utf-8")
    assert "num_beams: 5" in text
    assert "repetition_penalty: 1.5" in text
    assert exported.files == ("x.yaml", "utils.py", "questions.jsonl")
    needed = re.findall(r"import_module\(\"(\w+)\"\)", (tmp_path / "out" / "utils.py").read_text(encoding="utf-8"))
    assert sorted(each.replace("_", "-") for each in set(needed)) == sorted(CODE[metric].packages.split())


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"question": "<image>?", "answer": "a"}\n', encoding="utf-8")
    task: Task = load_task(TaskSpec(name=str(tmp_path / "own.jsonl")))  # type: ignore[assignment]
    with pytest.raises(TaskError, match="lm-eval's sign for a picture"):
        export_asked(task, Decoding(), None, None, tmp_path / "out")
    with pytest.raises(TaskError, match="a preset's prompt cannot be exported"):
        export_asked(task, Decoding(), "vicuna_v1", None, tmp_path / "out")
    with pytest.raises(TaskError, match="a plain name"):
        export_asked(task, Decoding(), None, "a/b", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(TaskError, match="is not empty"):
        export_asked(task, Decoding(), None, None, tmp_path)
