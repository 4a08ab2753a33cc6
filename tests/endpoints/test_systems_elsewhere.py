"""Given answers, a server's answers, and several systems in one table: through the command line, as a person would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.test_commands import vlmerge

from vlmerge.endpoints import chat
from vlmerge.statistics import mean_interval

from .chat_server import ChatServer, Trouble, last_text, serving, shown

RIGHT = {"a": "赤です。", "b": "red", "c": "はい、青いです。", "d": "2です"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMERGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(chat, "FIRST_PAUSE", 0.01)


def given(path: Path, answers: dict[Any, Any]) -> Path:
    lines = [json.dumps({"id": identity, "answer": answer}, ensure_ascii=False) for identity, answer in answers.items()]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


# ── answers from a file ──


def test_given_answers_are_scored_by_the_task_s_own_metric(questions: Path, tmp_path: Path) -> None:
    answers = given(tmp_path / "theirs.jsonl", {"d": "", "b": "blue", "a": "赤です。", "c": "はい、青いです。"})
    (result,) = vlmerge("evaluate", "--answers", answers, "--task", questions, "--metric", "exact_match", "--json").json
    assert result["score"] == 50
    assert [answer["score"] for answer in result["answers"]] == [1, 0, 1, 0]
    assert (result["model"], result["decoding"]) == ("theirs", "answers given in theirs.jsonl")


def test_answers_that_do_not_fit_are_refused(questions: Path, tmp_path: Path) -> None:
    def refuses(answers: dict[Any, Any] | str, *words: str) -> None:
        path = tmp_path / "theirs.jsonl"
        if isinstance(answers, str):
            path.write_text(answers)
        else:
            given(path, answers)
        vlmerge("evaluate", "--answers", path, "--task", questions).refuses(str(path), *words)

    refuses({"a": "x", "d": "y"}, "2 of 4 questions have no answer", "b, c")
    refuses({**RIGHT, "e": "x", 7: "y"}, "2 answers belong to no question", "e, 7")
    refuses({**RIGHT, "a": None}, "line 1", "the answer a text")
    refuses('{"id": "a", "answer": "x"}\n{"id": "a", "answer": "y"}\n', "line 2", "twice")
    refuses("answer: x\n", "line 1", "no answer")
    vlmerge("evaluate", "--answers", tmp_path / "none.jsonl", "--task", questions).refuses("missing", "none.jsonl")
    fits = given(tmp_path / "theirs.jsonl", RIGHT)
    vlmerge("evaluate", "model", "--answers", fits, "--task", questions).refuses("one system", "--compare")
    vlmerge("evaluate", "--task", questions).refuses("nothing to score", "--endpoint")


# ── a server ──


def test_a_server_is_asked_with_pictures_and_its_answers_are_scored(questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "results" / "server.json"
    by_text = {"何色ですか?": "赤です。", "What colour?": "red", "青いですか?": "いいえ", "1+1は?": "2です"}
    with serving(ChatServer(lambda messages: by_text[last_text(messages)])) as server:
        command = ("evaluate", "--endpoint", server.url, "--task", questions, "--metric", "exact_match", "--preset", "sakana")
        (result,) = vlmerge(*command, "--out", out, "--json").json
        assert [len(shown(body["messages"])) for body in sorted(server.asked, key=lambda b: last_text(b["messages"]))] == [
            0,
            1,
            1,
            1,
        ]
        assert all(body["max_tokens"] == 512 and body["temperature"] == 0 for body in server.asked)
        assert len(server.asked) == 4
        assert vlmerge(*command, "--json").json == [result]
        assert len(server.asked) == 4, "what was said is kept"
    assert (result["score"], result["model"]) == (75, "tiny")
    assert "no beams and no repetition penalty" in result["decoding"]
    assert json.loads(out.read_text())["results"] == [result]


def test_an_interrupted_evaluation_goes_on(questions: Path) -> None:
    with serving(ChatServer(last_text, troubles=[Trouble(), Trouble(), Trouble(403, "stop")])) as server:
        command = ("evaluate", "--endpoint", server.url, "--task", questions, "--parallel", 1, "--model", "tiny")
        vlmerge(*command).refuses("403: stop", "question 'c'")
        assert len(server.asked) == 2
        assert vlmerge(*command).code == 0
        assert len(server.asked) == 4


def test_what_a_server_does_not_answer_counts_as_empty_and_is_told(questions: Path) -> None:
    no_text = {"message": {"content": None}, "finish_reason": "stop"}
    thinks = {"message": {"content": None, "reasoning_content": "…"}, "finish_reason": "length"}
    said = {"何色ですか?": "赤です。", "What colour?": Trouble(400, "too long"), "青いですか?": no_text, "1+1は?": thinks}
    with serving(ChatServer(lambda messages: said[last_text(messages)])) as server:
        command = ("evaluate", "--endpoint", server.url, "--task", questions, "--metric", "exact_match", "--json")
        ran = vlmerge(*command)
        (result,) = ran.json
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server, "answer", lambda _: no_text)
            vlmerge(*command, "--fresh").refuses("gives no answer", "content: null")
    assert "2 of 4 questions without an answer" in result["decoding"]
    assert "1 of 4 answers cut off before their first word" in result["decoding"]
    assert "--max-new-tokens" in ran.err
    assert result["score"] == 25
    assert [answer.get("withheld", "").partition(":")[0] for answer in result["answers"]] == [
        "", "it refuses the request", "it sends no text (content", "",
    ]  # fmt: skip


def test_finished_tasks_are_kept_where_a_later_one_fails(questions: Path, tmp_path: Path) -> None:
    other, out = questions.with_name("other.jsonl"), tmp_path / "kept.json"
    other.write_text('{"id": "x", "question": "wrong?", "answer": "no"}\n')
    with serving(ChatServer(lambda turns: Trouble(403, "stop") if last_text(turns) == "wrong?" else "2です")) as server:
        command = ("evaluate", "--endpoint", server.url, "--task", questions, "--task", other, "--out", out)
        ran = vlmerge(*command)
        vlmerge(*command, "--json").refuses("403: stop", "1 of 2 tasks are finished", str(out))
    assert ran.code == 2
    assert "mine: char_rougeL" in ran.out
    (kept,) = json.loads(out.read_text())["results"]
    assert (kept["task"], kept["questions"]) == ("mine", 4)


def test_options_that_change_nothing_are_refused(questions: Path, tmp_path: Path) -> None:
    vlmerge("evaluate", "model", "--task", questions, "--model", "x", "--fresh").refuses("--model and --fresh change nothing")
    vlmerge("evaluate", "model", "--task", questions, "--parallel", 8).refuses("--parallel changes nothing")
    answers = ("evaluate", "--answers", given(tmp_path / "a.jsonl", RIGHT), "--task", questions)
    vlmerge(*answers, "--max-new-tokens", 5).refuses("--max-new-tokens changes nothing with --answers")
    vlmerge("evaluate", "--compare", "a.json", "b.json", "--out", "c.json").refuses("--out changes nothing with --compare")


def test_what_is_wrong_with_a_server_is_said_without_a_traceback(
    questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(ChatServer(last_text, key="right", models=("one", "two"))) as server:
        command = ("evaluate", "--endpoint", server.url, "--task", questions)
        vlmerge(*command).refuses("several models", "one, two", "--model one")
        vlmerge(*command, "--model", "one").refuses("refuses the key", "--api-key-env")
        vlmerge(*command, "--model", "one", "--api-key-env", "NO_SUCH_KEY").refuses("NO_SUCH_KEY", "export")
        monkeypatch.setenv("A_KEY", "right")
        assert vlmerge(*command, "--model", "one", "--api-key-env", "A_KEY").code == 0
    assert all(b"right" not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


# ── several in one table ──


@pytest.fixture
def files(questions: Path, tmp_path: Path) -> list[Path]:
    """Results of three systems, the last one without the last question."""
    systems = {
        "good": (RIGHT, ()),
        "bad": ({**RIGHT, "a": "青です。", "b": "blue"}, ()),
        "part": ({name: RIGHT[name] for name in "abc"}, ("--limit", 3)),
    }
    for name, (answers, options) in systems.items():
        path = given(tmp_path / f"{name}.jsonl", answers)
        how = ("--task", questions, "--metric", "exact_match", "--out", tmp_path / f"{name}.json", *options)
        assert vlmerge("evaluate", "--answers", path, *how).code == 0
    return [tmp_path / f"{name}.json" for name in systems]


def test_systems_are_compared_on_what_all_have_answered(files: list[Path]) -> None:
    (table,) = vlmerge("evaluate", "--compare", *files[:2], "--json").json
    assert (table["questions"], table["left_out"]) == (4, 0)
    good, bad = table["systems"]
    assert (good["system"], good["score"]["mean"], good["difference"]) == ("good", 100, None)
    paired = mean_interval(np.array([-1.0, -1.0, 0.0, 0.0]), np.array([0, 0, 1, 2])).scaled(100)
    assert bad["difference"] == {"mean": paired.mean, "low": paired.low, "high": paired.high}
    (three,) = vlmerge("evaluate", "--compare", *files, "--json").json
    assert (three["questions"], three["left_out"]) == (3, 1)
    assert [round(one["score"]["mean"]) for one in three["systems"]] == [100, 33, 100]


def test_the_table_for_people_says_what_it_compares(files: list[Path]) -> None:
    shown = vlmerge("evaluate", "--compare", *files[:2])
    assert shown.code == 0
    for words in ("mine: 4 questions", "against good", "-50.0 [", "paired by question", "answers given in bad.jsonl"):
        assert words in shown.out


def test_what_cannot_be_compared_is_refused(files: list[Path], questions: Path, tmp_path: Path) -> None:
    answers = given(tmp_path / "again.jsonl", RIGHT)
    vlmerge("evaluate", "--answers", answers, "--task", questions, "--out", tmp_path / "other.json")
    vlmerge("evaluate", "--compare", files[0], tmp_path / "other.json").refuses(
        "different metrics", "char_rougeL", "exact_match"
    )
    text = files[1].read_text().replace("What colour?", "Which colour?")
    (tmp_path / "changed.json").write_text(text)
    vlmerge("evaluate", "--compare", files[0], tmp_path / "changed.json").refuses("question 'b' is not the same")
    vlmerge("evaluate", "--compare", files[0]).refuses("at least two")
    vlmerge("evaluate", "--compare", files[0], questions).refuses("no file of results", str(questions))
    vlmerge("evaluate", "--compare", files[0], tmp_path / "none.json").refuses("missing", "none.json")
    results = tmp_path / "results.json"
    for content, words in (
        ('{"schema": 1, "rows": []}', ("the results of a run", f"vlmerge evaluate {tmp_path / 'model'} --task")),
        ('{"kind": "other"}', ("found: kind: other",)),
        ("[1]", ("JSON without keys",)),
        ('{"kind": "vlmerge evaluation"}', ("found: no 'results'",)),
    ):
        results.write_text(content)
        vlmerge("evaluate", "--compare", files[0], results).refuses(*words)
