"""A judge's prompts, verdicts, budget, refusals and estimate; and a run that it scores, stops and goes on with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli.test_commands import vlmerge
from endpoints.chat_server import ChatServer, Trouble, last_text, serving, shown
from evolve.conftest import FAMILY, Quiet, load, small_run, task

from vlmerge.budgets import forecast, with_purses
from vlmerge.config.judge_block import budgets_of
from vlmerge.config.run import RunConfig, TaskSpec, dump_run, parse_run, parse_tasks
from vlmerge.endpoints import chat
from vlmerge.errors import ConfigError, EndpointError, RunFolderError, TaskError
from vlmerge.evolve import evolve
from vlmerge.hybrid import after_merging
from vlmerge.plan import Plan, PlannedStage
from vlmerge.run_folder import open_run
from vlmerge.store import SPLITS, STORE_NAME, ModelRecord, Store
from vlmerge.tasks import JUDGE_PROMPTS, JudgedTask, check_names, load_task
from vlmerge.tasks.judge import estimate, together
from vlmerge.tasks.purse import Purse
from vlmerge.tasks.sets import Asked, Sets, ask_tasks, load_sets
from vlmerge.tasks.verdicts import read_verdict
from vlmerge.types import Decoding

PLAIN = "Q {question} R {reference} A {answer} ({low}-{high})"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMERGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(chat, "FIRST_PAUSE", 0.01)


def strict(messages: list[dict[str, Any]]) -> str:
    """A judge that gives as many points as the answer has letters, from 1 to 5."""
    (answer,) = re.findall(r"A (.*) \(", last_text(messages), re.DOTALL)
    return f"Because.\nScore: {min(max(len(answer), 1), 5)}"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(ChatServer(strict)) as running:
        yield running


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    rows = [{"question": f"{number}?", "answer": f"={number}", "aspect": f"見る{number}"} for number in range(4)]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def judged(mine: Path, server: ChatServer, fields: dict[str, str] | None = None, **judge: Any) -> JudgedTask:
    block = {"endpoint": server.url, "model": "tiny", "prompt": PLAIN, **judge}
    loaded = load_task(TaskSpec(name=str(mine), judge=block, fields=fields or {}))  # type: ignore[arg-type]
    assert isinstance(loaded, JudgedTask)
    return loaded


def test_points_become_scores_and_a_verdict_is_asked_for_once(mine: Path, server: ChatServer) -> None:
    found = judged(mine, server)
    answers = ["", "ab", "abcd", "abcdefgh"]
    assert found.scores(found.questions(), answers) == [0, 0.25, 0.75, 1]
    assert len(server.asked) == 3, "an empty answer is worth nothing without asking"
    assert found.scores(found.questions(), answers) == [0, 0.25, 0.75, 1]
    again = judged(mine, server)
    assert again.score(again.questions()[1], "ab") == 0.25
    assert len(server.asked) == 3
    assert server.asked[0]["temperature"] == 0
    assert found.summary(found.questions(), found.verdicts(found.questions(), answers)) == "3.00 of 5 points"


def test_an_answer_cannot_put_anything_into_the_prompt_s_places(mine: Path, server: ChatServer) -> None:
    found = judged(mine, server)
    request = found.request(found.questions()[0], "{reference} {question}")
    assert request.turns[-1].text == "Q 0? R =0 A {reference} {question} (1-5)"


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("4", 4), ("**4**", 4), ("4点", 4), ("４", 4), ("4/5", 4), ("Score: 4", 4), ("score is 4.", 4), ("[[4]]", 4),
        ('{"score": 4, "reason": "of 2 things 1 is there"}', 4), ("点数:4\n理由: 2つのうち1つ", 4), ("採点: **4点**", 4),
        ("2つのうち1つだけです。\n4", 4), ("4\n2つのうち1つだけです。", 4), ("I give 4.", 4),
        ("Of 3 things 2 are there.\nScore: 4", 4), ("Score: 2-3", None),
        ("<think>Score: 1? No.</think>\n4", 4), ("Score: 2 at first, but finally Score: 4", 4), ("3.5", 3.5),
        ("Score (1 to 5): 4", 4), ("good", None), ("", None), ("9", None), ("between 2 and 3", None), ("-4", None),
    ],
)  # fmt: skip
def test_points_are_found_in_what_judges_write(text: str, points: float | None) -> None:
    verdict = read_verdict(text, 1, 5, "number")
    assert (verdict and verdict.points) == points


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("8 6\n説明", (8, 6)),
        ("8, 6.5", (8, 6.5)),
        ("8", None),
        ("8 11", None),
        ("8 6 7", None),
        ("Well.\n8 6", None),
        ("Assistant 1: 8\nAssistant 2: 7", None),
        ("**8 6**", (8, 6)),
        ("", None),
    ],
)
def test_two_scores_stand_in_the_first_line(text: str, pair: tuple[float, float] | None) -> None:
    verdict = read_verdict(text, 1, 10, "pair")
    assert (verdict and (verdict.reference, verdict.points)) == pair


@pytest.mark.parametrize(
    ("text", "cut", "points"),
    [
        ("<think>\nI need to score 1", True, None),
        ("<think>Two of five.</think>\n4", False, 4),
        ("The answer names only 2 of the colours that", True, None),
        ("It names 2", False, 2),
        ("Score: 4\n\nKey points:\n1. wrong colour", False, 4),
        ("評価: 5段階中3点", False, None),
        ("評価：3", False, 3),
    ],
)
def test_a_number_on_the_way_is_no_verdict(text: str, cut: bool, points: float | None) -> None:
    verdict = read_verdict(text, 1, 5, "number", cut=cut)
    assert (verdict and verdict.points) == points


def test_the_odd_answer_that_a_judge_cannot_judge_has_the_lowest_points(tmp_path: Path) -> None:
    rows = [{"id": f"{number}", "question": f"q{number}", "answer": "a"} for number in range(12)]
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with serving(ChatServer(lambda turns: "no idea" if "broken" in str(turns) else "5")) as server:
        found = judged(path, server)
        answers = ["broken", *["fine"] * 11]
        assert found.scores(found.questions(), answers) == [0, *[1] * 11]
        with pytest.raises(TaskError, match="gives no points"):
            found.scores(found.questions(), ["broken too", "broken as well", *["fine"] * 10])
        assert found.scores(found.questions()[:3], ["broken", "fine", "fine"]) == [0, 1, 1], "a race asks three of them first"


def test_an_answer_that_a_judge_refuses_has_the_lowest_points_and_stops_nothing(mine: Path) -> None:
    filtered = Trouble(400, '{"error": {"message": "filtered", "code": "content_filter"}}')
    with serving(ChatServer(lambda turns: filtered if "filth" in str(turns) else "5")) as server:
        found = judged(mine, server, budget=4, parallel=1)
        with pytest.raises(EndpointError, match=r"(?s)refuses the request.*filtered \(content_filter\)"):
            found.scores(found.questions(), ["filth"] * 4)
        assert found.purse.spent == 0, "nobody worked on these"
        assert found.scores(found.questions(), ["filth", "fine", "filth!", "fine"]) == [0, 1, 0, 1]
        assert found.scores(found.questions(), ["more filth"] * 4) == [0] * 4, "it has judged others: these are like that"
        assert found.purse.spent == 2
        (verdict, *_) = found.verdicts(found.questions()[:1], ["more filth"])
        assert "filtered (content_filter)" in verdict.text


def test_what_nobody_was_there_to_judge_is_not_counted(mine: Path, server: ChatServer) -> None:
    gone = judged(mine, server, endpoint="http://127.0.0.1:1/v1", budget=9)
    with pytest.raises(EndpointError, match="refused"):
        gone.scores(gone.questions(), ["a", "b", "c", "d"])
    assert gone.purse.spent == 0
    server.troubles[:] = [Trouble(500)] * 6
    silent = judged(mine, server, budget=9, parallel=1)
    with pytest.raises(EndpointError, match="6 attempts"):
        silent.scores(silent.questions(), ["a", "b", "c", "d"])
    assert silent.purse.spent == 1, "whether it worked on that one, nobody knows"


def test_a_judge_without_points_is_asked_again_and_then_refused(mine: Path) -> None:
    said = iter(["Quite good.", "5", "Hm.", "Hm, hm.", *["Nice."] * 99])
    with serving(ChatServer(lambda _: next(said))) as server:
        found = judged(mine, server, parallel=1)
        first, second = found.questions()[:2]
        assert found.score(first, "x") == 1
        roles = [message["role"] for message in server.asked[1]["messages"]]
        assert roles == ["user", "assistant", "user"]
        with pytest.raises(TaskError) as caught:
            found.score(second, "x")
    for words in ("gives no points", "question '2'", "Hm.", "Hm, hm."):
        assert words in caught.value.message()


def test_the_budget_counts_verdicts_and_says_how_to_go_on(mine: Path, server: ChatServer) -> None:
    server.troubles[:] = [Trouble(500)]
    found = judged(mine, server, budget=3, parallel=1)
    with pytest.raises(EndpointError) as caught:
        found.scores(found.questions(), ["a", "b", "c", "d"])
    assert len(server.asked) == 3
    for words in ("budget is used up", "at most 3", "raise `judge.budget`", "is kept"):
        assert words in caught.value.message()
    more = judged(mine, server, budget=3)
    assert more.scores(more.questions(), ["a", "b", "c", "d"]) == [0, 0, 0, 0]
    assert len(server.asked) == 4, "what was judged before costs nothing"
    counts: list[int] = []
    purse = Purse(9, 7, counts.append)
    purse.take()
    assert counts == [8]


def test_pictures_are_shown_only_on_request(server: ChatServer) -> None:
    spec = {"name": task("holdout", 1)["name"], "fields": task("holdout", 1)["fields"], "limit": 1}
    for wanted in (False, True):
        block = {"endpoint": server.url, "model": "tiny", "prompt": PLAIN, "pictures": wanted}
        found = load_task(TaskSpec(**spec, judge=block))  # type: ignore[arg-type]
        assert isinstance(found, JudgedTask)
        found.score(found.questions()[0], "abc")
        assert len(shown(server.asked[-1]["messages"])) == int(wanted)


# ── published prompts ──


def test_elyza_s_prompt_holds_all_parts_and_needs_what_to_look_for(mine: Path, server: ChatServer) -> None:
    found = judged(mine, server, {"context": "aspect"}, prompt="elyza-tasks-100")
    (turn,) = found.request(found.questions()[2], "答え").turns
    assert turn.text.startswith("あなたは採点者です。")
    for part in ("# 問題\n2?\n", "# 正解例\n=2\n", "問題固有の採点基準\n見る2\n", "# 回答\n答え\n"):
        assert part in turn.text
    with pytest.raises(TaskError, match=r"fields: \{context: …\}"):
        judged(mine, server, prompt="elyza-tasks-100")


def test_heron_bench_is_relative_to_the_reference_by_kind_of_question(tmp_path: Path) -> None:
    rows = [
        {"question": str(n), "answer": "gpt", "context": "5 sentences", "kind": kind}
        for n, kind in enumerate(["conv", "conv", "detail"])
    ]
    path = tmp_path / "heron.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    said = {"0": "8 4", "1": "10 5\nWell", "2": "10, 9"}

    def judge(messages: list[dict[str, Any]]) -> str:
        return said[last_text(messages).partition("[Question]\n")[2][0]]

    with serving(ChatServer(judge)) as server:
        found = judged(path, server, prompt="japanese-heron-bench")
        verdicts = found.verdicts(found.questions(), ["x", "y", "z"])
        assert (
            found.summary(found.questions(), verdicts)
            == "6.00 of 10 points; 70.0 % of the reference's (conv 50.0, detail 90.0)"
        )
        assert found.scores(found.questions(), ["x", "y", "z"]) == pytest.approx([3 / 9, 4 / 9, 8 / 9])
    system, user = server.asked[0]["messages"]
    assert (system["role"], server.asked[0]["max_tokens"]) == ("system", 1024)
    assert user["content"].startswith("[Context]\n5 sentences\n\n[Question]\n")
    assert user["content"].index("[Assistant 1]\ngpt") < user["content"].index("[Assistant 2]\n")


def test_every_prompt_has_its_places_and_a_scale_that_goes_up() -> None:
    for name, prompt in JUDGE_PROMPTS.items():
        assert prompt.name == name
        assert {"question", "answer", "reference"} <= set(re.findall(r"\{(\w+)\}", prompt.template))
        assert prompt.low < prompt.high
        assert prompt.source


# ── what is refused ──


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"model": "m"}, "`endpoint` is missing"),
        ({"endpoint": "ftp://x", "model": "m"}, "no address of a server"),
        ({"endpoint": "http://x/v1", "model": "m", "scale": [5, 1]}, "go up"),
        ({"endpoint": "http://x/v1", "model": "m", "prompt": "How good is {anwser}?"}, "{anwser}"),
        ({"endpoint": "http://x/v1", "model": "m", "prompt": "Is it good?"}, "{answer}"),
        ({"endpoint": "http://x/v1", "model": "m", "budget": 0}, "budget"),
        ({"endpoint": "http://x/v1", "model": "m", "temprature": 0}, "temperature"),
    ],
)
def test_a_block_that_cannot_be_used_is_refused(block: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_run(small_run(holdout=[{"name": "x.jsonl", "judge": block}]), "run.yaml", Path("/"))
    assert words in caught.value.message()


def test_a_key_that_stands_where_its_name_should_is_not_repeated() -> None:
    block = {"endpoint": "http://x/v1", "model": "m", "api_key_env": "sk-proj-12345"}
    with pytest.raises(ConfigError) as caught:
        parse_run(small_run(holdout=[{"name": "x.jsonl", "judge": block}]), "run.yaml", Path("/"))
    assert "name of an environment variable" in caught.value.message()
    assert "12345" not in caught.value.message()


def test_judges_and_other_metrics_and_lm_eval_do_not_mix() -> None:
    block = {"endpoint": "http://x/v1", "model": "m"}
    for keys in ({"judge": block, "metric": "rougeL"}, {"metric": "judge"}):
        with pytest.raises(ConfigError, match="judge"):
            parse_run(small_run(holdout=[{"name": "x.jsonl", **keys}]), "run.yaml", Path("/"))
    with pytest.raises(TaskError, match="scores by itself"):
        check_names({"tasks[0]": TaskSpec(name="lm-eval:gsm8k", judge=block)}, None)  # type: ignore[arg-type]
    named = {**block, "prompt": "elyza-task-100"}
    with pytest.raises(TaskError, match="write 'elyza-tasks-100'"):
        check_names({"tasks[0]": TaskSpec(name="x.jsonl", judge=named)}, None)  # type: ignore[arg-type]


def test_a_judge_in_the_search_needs_a_budget() -> None:
    block = {"endpoint": "http://x/v1", "model": "m"}
    with pytest.raises(ConfigError, match=r"tasks\[0\] asks a judge in the search, and nothing says how often"):
        parse_run(small_run(tasks=[task("search", 3, judge=block)]), "run.yaml", Path("/"))
    config = parse_run(small_run(tasks=[task("search", 3, judge={**block, "budget": 9})]), "run.yaml", Path("/"))
    assert isinstance(config, RunConfig)
    assert config.tasks[0].judge is not None
    assert "api_key_env" in dump_run(config)


def test_a_judge_has_one_budget_for_all_tasks_of_a_run() -> None:
    block = {"endpoint": "http://x/v1", "model": "m"}

    def parsed(search: dict[str, Any], holdout: dict[str, Any]) -> RunConfig:
        blocks = {"tasks": [task("search", 3, judge=search)], "holdout": [task("holdout", 3, judge=holdout)]}
        return parse_run(small_run(**blocks), "run.yaml", Path("/"))

    assert parsed(block, {**block, "budget": 9}), "said once"
    assert parsed({**block, "budget": 9}, {**block, "budget": 9})
    with pytest.raises(ConfigError, match=r"(?s)the judge m at http://x/v1 has two budgets.*`budget: 9` and `budget: 8`"):
        parsed({**block, "budget": 9}, {**block, "budget": 8})
    with pytest.raises(ConfigError, match="nothing says how often"):
        parsed(block, {**block, "model": "another", "budget": 9})


def test_evaluate_has_one_budget_for_all_tasks(mine: Path, server: ChatServer, tmp_path: Path) -> None:
    again = tmp_path / "again.jsonl"
    again.write_bytes(mine.read_bytes())
    block = {"endpoint": server.url, "model": "tiny", "prompt": PLAIN, "budget": 6}
    specs = parse_tasks([{"name": str(each), "judge": block} for each in (mine, again)], "here")
    first, second = (one.task for one in ask_tasks(specs, preset=None, max_new_tokens=None))
    assert isinstance(first, JudgedTask)
    assert isinstance(second, JudgedTask)
    first.scores(first.questions(), ["a", "b", "c", "d"])
    with pytest.raises(EndpointError, match="budget is used up"):
        second.scores(second.questions(), ["e", "f", "g", "h"])
    assert len(server.asked) == 6


# ── estimates ──


def test_an_estimate_counts_verdicts_tokens_and_cost(mine: Path, server: ChatServer) -> None:
    found = judged(mine, server, price={"input": 2.0, "output": 1000.0}, budget=10)
    guessed = estimate(found, found.questions(), 3)
    assert guessed.requests == 12
    assert guessed.tokens == 12 * 60
    assert guessed.cost == pytest.approx((guessed.prompt_tokens * 2.0 + 720 * 1000.0) / 1e6)
    for words in ("about 12 verdicts", "about 0.72 at the given price", "budget 10 verdicts (less than that"):
        assert words in guessed.line()
    small = replace(guessed, requests=6)
    assert "less than that" not in small.line()
    (both,) = together([small, replace(small, budget=None)])
    assert (both.requests, both.budget, both.cost) == (12, 10, pytest.approx(2 * (small.cost or 0)))
    assert "budget 10 verdicts (less than that" in both.line(), "a budget is for all sets, not for each"


def test_a_forecast_counts_what_a_front_and_finalists_are_asked(mine: Path, server: ChatServer) -> None:
    found = judged(mine, server)
    asked = Asked(found, found.questions(), 1.0, None, Decoding())
    plan = Plan((PlannedStage("global", 3, 10),), ("host", "grid"), 5, {}, finalists=5)
    for split, one, front in (("search", 16, 16), ("validation", 8, 16), ("holdout", 5, 16)):
        sets = replace(Sets((), (), (), (), None), **{split: (asked,)})
        requests = [forecast(sets, each)[0].requests for each in (plan, replace(plan, front=12))]
        assert requests == [4 * one, 4 * front], split


def test_evaluate_says_what_a_judge_takes_and_shows_its_verdicts(mine: Path, server: ChatServer, tmp_path: Path) -> None:
    answers = tmp_path / "theirs.jsonl"
    answers.write_text("\n".join(json.dumps({"id": n, "answer": "abc"}) for n in range(1, 5)))
    keys = (f"endpoint={server.url}", "model=tiny", f"prompt={PLAIN}", "scale=[0,6]", "price={input: 1, output: 1}")
    command = ("evaluate", "--answers", answers, "--task", mine, *(word for key in keys for word in ("--judge", key)))
    shown = vlmerge(*command)
    assert "about 4 verdicts" in shown.err
    assert "judge 50.0" in shown.out
    assert "3.00 of 6 points" in shown.out
    assert f"judge tiny at {server.url}" in shown.out
    (result,) = vlmerge(*command, "--json").json
    assert result["answers"][0] | {"points": 3, "verdict": "Because.\nScore: 3"} == result["answers"][0]
    assert len(server.asked) == 4


# ── a run ──


def run_with(server: ChatServer, **judge: Any) -> dict[str, Any]:
    """A run of few merges and questions, judged in the search and on the holdout."""
    block = {"endpoint": server.url, "model": "tiny", "prompt": PLAIN, **judge}
    return small_run(
        merge={"models": [str(FAMILY / name) for name in ("vlm", "ja")], "space": {"groups": 1, "separate": []}},
        tasks=[task("search", 2, judge=block)],
        validation={"fraction": 0.0},
        holdout=[task("holdout", 1, judge={key: value for key, value in block.items() if key != "budget"})],
        search={"max_fevals": 2, "global_fevals": 0, "population": 2},
        decoding={"max_new_tokens": 4},
    )


def scores(folder: Path) -> list[Any]:
    with Store.read_only(folder / STORE_NAME) as store:
        return [(trial.label, store.answers(trial.trial, split)) for trial in store.trials() for split in SPLITS]


@pytest.mark.slow
def test_a_run_stops_at_its_budget_goes_on_with_more_and_ends_like_one_that_never_stopped(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evolve(load(tmp_path / "a", run_with(server, budget=999)), tmp_path / "whole", Quiet())
    asked = len(server.asked)
    monkeypatch.setenv("VLMERGE_CACHE", str(tmp_path / "another"))
    observer = Quiet()
    with pytest.raises(EndpointError, match="budget is used up"):
        evolve(load(tmp_path / "b", run_with(server, budget=7)), tmp_path / "run", observer)
    assert len(server.asked) == asked + 7
    assert any(f"judge tiny at {server.url}: about" in line and "budget 7" in line for line in observer.lines)
    with pytest.raises(RunFolderError, match="another configuration"):
        evolve(load(tmp_path / "b", run_with(server, budget=7, scale=[1, 6])), tmp_path / "run", Quiet())
    finished = evolve(load(tmp_path / "b", run_with(server, budget=500, parallel=2)), tmp_path / "run", Quiet())
    assert len(server.asked) == 2 * asked, "every verdict is paid once"
    assert scores(finished) == scores(whole)
    assert "budget: 500" in (finished / "run.yaml").read_text()
    with Store.read_only(finished / STORE_NAME) as store:
        assert sum(store.get("judged").values()) == asked
        assert {record.metric for record in store.tasks()} == {"judge"}
        assert all("judged by tiny at" in record.source for record in store.tasks())


def test_a_judge_has_one_budget_over_both_parts_of_a_run(server: ChatServer, tmp_path: Path) -> None:
    run = run_with(server) | {"path": {"models": ["winner", str(FAMILY / "ja")]}}
    run["holdout"][0]["judge"]["budget"] = 9  # Said there alone: the part without a holdout has it all the same.
    config = load(tmp_path, run)
    who = next(iter(budgets_of(task.judge for task in config.holdout if task.judge is not None)))

    def first(part: RunConfig, inside: Path) -> Path:
        with open_run(inside) as folder:
            purse = purse_of(part, folder.store)
            assert (purse.limit, purse.spent) == (9, 0)
            for _ in range(5):
                purse.take()
            host = str(part.models[0])
            models = [ModelRecord(host, "vlm", True, False, host, None, "", None, "llava", 1)]
            texts = {key: dump_run(part) for key in ("config_asked", "config")}
            folder.store.record_setting(models, [], [], {}, {**texts, "finished": True})
        return inside

    with open_run(tmp_path / "out") as folder:
        purse = purse_of(after_merging(config, folder, first), folder.store)
        assert (purse.limit, purse.spent) == (9, 5)
        purse.take()
        # After a kill it neither forgets what the second part has paid nor counts the first part's again.
        assert purse_of(after_merging(config, folder, lambda _, inside: inside), folder.store).spent == 6
        assert folder.store.get("judged") == {who: 6}


def purse_of(config: RunConfig, store: Store) -> Purse:
    judge = with_purses(load_sets(config), store).search[0].task
    assert isinstance(judge, JudgedTask)
    return judge.purse


def test_check_says_what_the_judges_of_a_run_would_be_asked(server: ChatServer, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(run_with(server, budget=7)))
    shown = vlmerge("check", path)
    assert shown.code == 0, shown.err
    assert len(re.findall(r"judge tiny at \S+: about", shown.out)) == 1
    (judge,) = vlmerge("check", path, "--json").json["judges"]
    assert judge["budget"] == 7
    assert judge["requests"] > 7
    assert server.tries == 0
