"""A look at a run's holdout is counted task by task, and is one look."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from conftest import Kind

from vlmerge.holdout import count_look
from vlmerge.store import STORE_NAME, Store


class Listening:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def holdout(run: Path) -> list[Any]:
    """The tasks of the holdout, as far as a look knows them: texts and groups of their questions."""
    with Store.read_only(run / STORE_NAME) as store:
        kept = store.questions("holdout")
    return [
        SimpleNamespace(questions=[each for each in kept if each.task == name])
        for name in dict.fromkeys(each.task for each in kept)
    ]


def looks(run: Path) -> tuple[int, list[int]]:
    with Store.read_only(run / STORE_NAME) as store:
        return store.get("holdout_views"), [look["questions"] for look in store.get("holdout_looks", [])]


def test_tasks_of_one_evaluation_are_one_look(make_run: Any) -> None:
    run, observer = make_run(Kind()), Listening()
    first, second = holdout(run)[:2]
    counts = [len(first.questions), len(second.questions)]
    begun = count_look(str(run), first, cast("Any", observer), None)
    assert begun is not None
    assert looks(run) == (2, counts[:1])
    assert count_look(str(run), second, cast("Any", observer), begun) == begun
    assert looks(run) == (2, [sum(counts)])
    count_look(str(run), first, cast("Any", observer), None)
    assert looks(run) == (3, [sum(counts), counts[0]])
    assert [line[:20] for line in observer.lines] == ["holdout seen 2 times", "holdout seen 2 times", "holdout seen 3 times"]
