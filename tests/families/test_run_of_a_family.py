"""A whole run on a family that is not LLaVA: checked, evolved, exported, asked."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import pytest
import yaml
from askable import ASKABLE, paint, write_askable, write_askable_lm

from vlmerge.cli import main
from vlmerge.store import Store

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def vlmerge(*arguments: object) -> str:
    """The command in this process; what it prints."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        patch.setattr(sys, "argv", ["vlmerge", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stopped:
            main()
    assert stopped.value.code == 0, out.getvalue()
    return out.getvalue()


def test_paligemma_evolves_from_check_to_export(tmp_path: Path) -> None:
    write_askable(tmp_path / "vlm", "paligemma")
    for seed, name in enumerate(("ja", "base"), 2):
        write_askable_lm(tmp_path / name, ASKABLE["paligemma"].tiny.lm, seed)
    pictures = paint(tmp_path / "pictures")
    sets: dict[str, list[dict[str, object]]] = {}
    for name, picture in zip(("search", "validation", "holdout"), pictures, strict=True):
        rows = [{"question": words, "answer": "▁w7 ▁w9", "image": str(picture)} for words in ("▁w3 ▁w7", "▁w9")]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        sets[name] = [{"name": f"./{name}.jsonl"}]
    run = {
        "merge": {"models": ["./vlm", "./ja", "./base"], "base_model": "./base", "dtype": "float32"},
        "tasks": sets["search"], "validation": sets["validation"], "holdout": sets["holdout"],
        "search": {"max_fevals": 6, "global_fevals": 3, "population": 3},
        "decoding": {"max_new_tokens": 8},
        "runtime": {"device": "cpu", "threads": 1},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")

    line = "answers: by the model's own generate, because its decoder reads the prompt in both directions"
    assert line in vlmerge("check", tmp_path / "run.yaml")
    out = tmp_path / "out"
    vlmerge("evolve", tmp_path / "run.yaml", "--out", out)

    with Store.read_only(out / "run.sqlite") as store:
        trials = store.trials()
        winner = store.get("standing")["winner"]
        scored = {answer.question: answer.text for answer in store.answers(winner, "holdout")}
    assert sum(trial.kind == "searched" for trial in trials) == 6
    assert all(trial.status == "scored" for trial in trials)
    asked = json.loads(vlmerge("evaluate", out, "--task", tmp_path / "holdout.jsonl", "--max-new-tokens", 8, "--json"))
    answers = {row["id"]: row["answer"] for each in asked for row in each["answers"]}
    assert answers == scored
    assert any(scored.values())
