"""The table at a run's end says what the page says."""

import io
from collections.abc import Callable
from pathlib import Path

from conftest import Kind
from rich.console import Console

from vlmerge.report import results_table, rows
from vlmerge.store import STORE_NAME, AnswerRecord, Store


def printed(folder: Path, lang: str = "en", width: int = 110) -> str:
    console = Console(file=io.StringIO(), width=width)
    with Store.read_only(folder / STORE_NAME) as store:
        console.print(results_table(store, lang=lang, width=width))  # pyright: ignore[reportArgumentType]
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_every_row_stands_with_its_scores_and_the_claim_below(finished: Path) -> None:
    text = printed(finished)
    with Store.read_only(finished / STORE_NAME) as store:
        for row in rows(store):
            if row.task == "all" and row.set == "holdout":
                assert f"{row.score:.1f} [{row.low:.1f}, {row.high:.1f}]" in text
    for said in ("winner", "host, unmerged", "ja swapped in, scaled", "English", "kept", "holdout", "winner − row"):
        assert said in text
    flat = " ".join(text.split())
    assert "questions that the search never saw." in flat
    assert "winner − one weight per model:" in flat


def test_a_narrow_terminal_gets_the_freshest_set_whole(finished: Path) -> None:
    text = printed(finished, width=80)
    with Store.read_only(finished / STORE_NAME) as store:
        for row in rows(store):
            if row.task == "all" and row.set == "holdout":
                assert f"{row.score:.1f} [{row.low:.1f}, {row.high:.1f}]" in text
    assert "validation" not in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_contamination_is_said(make_run: Callable[[Kind], Path]) -> None:
    assert "CONTAMINATED" in printed(make_run(Kind(contaminated=True, generations=5)))


def test_no_holdout_no_claim(make_run: Callable[[Kind], Path]) -> None:
    assert "No claim: this run has no holdout." in " ".join(printed(make_run(Kind(holdout=False, generations=5))).split())


def test_a_run_that_goes_on_has_a_table(make_run: Callable[[Kind], Path]) -> None:
    text = printed(make_run(Kind(finished=False, generations=2)), "ja")
    assert "均等な重み" in text
    assert "探索を続けています。" in text


def test_a_run_that_goes_on_says_which_step_it_is_at(make_run: Callable[[Kind], Path]) -> None:
    folder = make_run(Kind(finished=False, generations=2))

    def said() -> str:
        return " ".join(printed(folder).split())

    assert "The search goes on." in said()
    with Store.open(folder / STORE_NAME) as store:
        store.set("budget", 20)
    assert "the winner is being chosen on validation" in said()
    with Store.open(folder / STORE_NAME) as store:
        places = {"winner": 1, "host": 1, "equal": 2}
        store.set("standing", places)
    assert "the holdout is being scored" in said()
    with Store.open(folder / STORE_NAME) as store:
        for trial in set(places.values()):
            questions = store.questions("holdout")
            store.record_answers(trial, [AnswerRecord("holdout", one.task, one.question, "", 0, 0.0) for one in questions])
    assert "the winner is being written" in said()


def test_the_claim_names_the_row_that_won_be_it_one_without_a_search(finished: Path, make_run: Callable[[Kind], Path]) -> None:
    assert "The winner (distribution mean) scores" in " ".join(printed(finished).split())
    folder = make_run(Kind(generations=5))
    with Store.open(folder / STORE_NAME) as store:
        standing = store.get("standing")
        store.set("standing", {**standing, "winner": standing["host"]})
    assert "The winner (host, unmerged) scores" in " ".join(printed(folder).split())
