"""Two trials side by side: the questions that both were asked, what each answered, who was right, where the words differ."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from vlmerge.report.examples import TIE
from vlmerge.report.phrases import Phrases
from vlmerge.store import AnswerRecord, QuestionRecord, Split, Store
from vlmerge.web.progress import named, weights_of
from vlmerge.web.sight import visible_sets

Only = Literal["all", "differ", "gain", "loss", "same"]
MOST = 12
"""Questions that a page gets at once."""

LONGEST = 2000
"""Characters of an answer whose words are compared; what is longer is shown without marks."""


@dataclass(frozen=True)
class Chosen:
    """What a person wants to compare.

    Attributes:
        a: A trial.
        b: Another one.
        split: The set; None: the freshest that both were asked.
        task: Only this task.
        kind: Only questions of this kind.
        only: Which questions: `gain` where A is better, `loss` where B is, `differ` where the words differ, `same` where not.
        first: How many to leave out from the start.
    """

    a: int
    b: int
    split: Split | None = None
    task: str | None = None
    kind: str | None = None
    only: Only = "all"
    first: int = 0


def read_only(text: str | None) -> Only:
    """The choice that a text names; `all` for anything else."""
    return next((only for only in get_args(Only) if only == text), "all")


def compare(store: Store, chosen: Chosen, say: Phrases) -> dict[str, Any] | None:
    """The comparison as plain values; None where there is no such trial.

    Args:
        store: The run's store.
        chosen: What to compare.
        say: The page's language.
    """
    trials = [store.trial(chosen.a), store.trial(chosen.b)]
    both = [trial for trial in trials if trial is not None]
    if len(both) < 2:
        return None
    sets: list[Split] = [split for split in visible_sets(store) if all(store.has_answers(trial.trial, split) for trial in both)]
    split = chosen.split if chosen.split in sets else sets[-1] if sets else None
    asked = [] if split is None else _asked(store, split, chosen)
    kinds, tasks = Counter(one.question.kind for one in asked if one.question.kind), Counter(one.question.task for one in asked)
    kept = [one for one in asked if chosen.task in (None, one.question.task) and (chosen.kind in (None, one.question.kind))]
    counts: dict[Only, int] = {only: sum(one.counts_as(only) for one in kept) for only in cast(Sequence[Only], get_args(Only))}
    shown = [one for one in kept if one.counts_as(chosen.only)]
    return {
        "sides": [
            {
                "trial": trial.trial,
                "label": trial.label,
                "name": named(trial, say),
                "reason": trial.reason,
                "mean": round(100 * sum(one.said[at].score for one in kept) / len(kept), 1) if kept else None,
                "weights": weights_of(store, trial.recipe, say),
            }
            for at, trial in enumerate(both)
        ],
        "sets": sets,
        "set": split,
        "tasks": dict(sorted(tasks.items())),
        "kinds": dict(sorted(kinds.items())),
        "counts": counts,
        "questions": len(kept),
        "first": chosen.first,
        "items": [one.plain() for one in shown[chosen.first : chosen.first + MOST]],
        "more": max(0, len(shown) - chosen.first - MOST),
    }


@dataclass(frozen=True)
class _Asked:
    """A question with the answers of A and B."""

    question: QuestionRecord
    said: tuple[AnswerRecord, AnswerRecord]

    @property
    def outcome(self) -> Literal["gain", "loss", "tie"]:
        apart = self.said[0].score - self.said[1].score
        return "tie" if abs(apart) < TIE else "gain" if apart > 0 else "loss"

    def counts_as(self, only: Only) -> bool:
        """Whether the question is one of those that a person wants to see."""
        same = self.said[0].text == self.said[1].text
        return {"all": True, "differ": not same, "same": same}.get(only, self.outcome == only)

    def plain(self) -> dict[str, Any]:
        a, b = self.said
        return {
            "question": self.question.text,
            "task": self.question.task,
            "kind": self.question.kind,
            "references": self.question.references,
            "pictures": self.question.pictures,
            "outcome": self.outcome,
            "same": a.text == b.text,
            "said": [
                {"score": round(100 * answer.score, 1), "words": words}
                for answer, words in zip(self.said, marked(a.text, b.text), strict=True)
            ],
        }


def _asked(store: Store, split: Split, chosen: Chosen) -> list[_Asked]:
    answers = [
        {(answer.task, answer.question): answer for answer in store.answers(trial, split)} for trial in (chosen.a, chosen.b)
    ]
    found: list[_Asked] = []
    for question in store.questions(split):
        key = (question.task, question.question)
        if all(key in side for side in answers):
            found.append(_Asked(question, (answers[0][key], answers[1][key])))
    return found


def marked(ours: str, theirs: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Both texts in pieces, each with whether the other text has it not; words, and single characters of Japanese."""
    if ours == theirs or max(len(ours), len(theirs)) > LONGEST:
        return [(ours, False)], [(theirs, False)]
    left, right = _words(ours), _words(theirs)
    pieces: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for tag, first, last, start, end in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for side, words in zip(pieces, ("".join(left[first:last]), "".join(right[start:end])), strict=True):
            if words:
                side.append((words, tag != "equal"))
    return pieces


def _words(text: str) -> list[str]:
    return re.findall(r"[\x21-\x7e\u00c0-\u024f]+|\s+|.", text)
