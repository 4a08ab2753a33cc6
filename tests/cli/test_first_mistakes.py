"""What people type by mistake is told in words, and touches nothing that is theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlmerge.errors import UserError
from vlmerge.store import STORE_NAME, Store
from vlmerge.web.watch import Watched

from .test_commands import vlmerge


def test_results_never_take_the_place_of_another_file(tmp_path: Path) -> None:
    vlmerge("tasks", "new", str(tmp_path / "mine"))
    rows = [json.loads(line) for line in (tmp_path / "mine/questions.jsonl").read_text().splitlines()]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({"id": row["id"], "answer": "x"}) + "\n" for row in rows))
    told = ("evaluate", "--answers", str(answers), "--task", str(tmp_path / "mine/questions.jsonl"), "--out")
    before = (tmp_path / "mine/run.yaml").read_bytes()
    found = vlmerge(*told, str(tmp_path / "mine/run.yaml"))
    assert (found.code, (tmp_path / "mine/run.yaml").read_bytes()) == (2, before)
    assert "was not touched" in found.err
    assert vlmerge(*told, str(tmp_path / "results.json")).code == 0
    assert vlmerge(*told, str(tmp_path / "results.json")).code == 0, "its own results it may write again"


@pytest.mark.parametrize("verb", ["new", "export"])
def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("")
    vlmerge("tasks", "new", str(tmp_path / "mine"))
    between = [str(tmp_path / "mine/questions.jsonl")] if verb == "export" else []
    found = vlmerge("tasks", verb, *between, str(tmp_path / "file/x"))
    assert found.code == 2
    assert "cannot be made" in found.err


def test_models_beside_one_need_a_page() -> None:
    found = vlmerge("ask", "a", "b.png", "c?", "--beside", "d")
    assert found.code == 2
    assert "--web" in found.err


def test_options_of_the_page_and_of_one_question_do_not_mix() -> None:
    vlmerge("ask", "a", "b.png", "c?", "--port", 80, "--lang", "ja").refuses("--port and --lang change nothing without --web")
    vlmerge("ask", "a", "b.png", "c?", "--web").refuses("IMAGE and QUESTION change nothing with --web")


def test_watch_says_what_it_waits_for(tmp_path: Path) -> None:
    waiting = Watched(tmp_path, "en", "token").waiting
    assert waiting is not None
    assert f"no run in {tmp_path} yet" in waiting
    assert f"vlmerge evolve RUN.yaml --out {tmp_path}/NAME" in waiting
    (tmp_path / "mine").mkdir()
    with Store.create(tmp_path / "mine" / STORE_NAME):
        pass
    assert Watched(tmp_path, "en", "token").waiting is None


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from vlmerge.runtime.live import choose_placement

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no GPU that torch can use"):
        choose_placement("cuda", host_dtype="float16")


def test_check_takes_the_folder_of_tasks_that_evolve_takes() -> None:
    found = vlmerge("check", "--help")
    assert "--task-search-path" in found.out
