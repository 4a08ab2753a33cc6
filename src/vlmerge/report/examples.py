"""Figure 2's questions: gains, losses and ties of the winner against the best baseline, drawn by lot and not by taste."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vlmerge.report.results import Row, is_hand_set
from vlmerge.store import AnswerRecord, QuestionRecord, Split, Store

Outcome = Literal["gain", "loss", "tie"]
OUTCOMES: tuple[Outcome, ...] = ("gain", "loss", "tie")

TIE = 0.005
"""Scores closer than half a point of 100 are a tie."""


@dataclass(frozen=True)
class Said:
    """What one candidate answered, and its score in points of 100."""

    candidate: str
    text: str
    score: float


@dataclass(frozen=True)
class Example:
    """One question with its picture and the answers of the host, the best baseline and the winner (in this order)."""

    outcome: Outcome
    question: QuestionRecord
    said: tuple[Said, ...]
    thumbnails: tuple[bytes, ...]


@dataclass(frozen=True)
class Examples:
    """The questions that were drawn, and how many of each outcome there are in all.

    Attributes:
        set: The set that they are from.
        winner: Candidate whose gains and losses these are: `winner`, or `best` while there is none.
        baseline: The candidate that it is compared with.
        counts: Questions by outcome, all of them.
        shown: The drawn ones: gains, losses, ties.
    """

    set: Split
    winner: str
    baseline: str
    counts: dict[Outcome, int]
    shown: tuple[Example, ...]


def read_examples(store: Store, rows: Sequence[Row], seed: int, each: int = 6) -> Examples | None:
    """Draws up to `each` questions of every outcome, no picture twice within one outcome; None before there is a comparison.

    Args:
        store: The run's store.
        rows: All rows of it.
        seed: Seed of the draw.
        each: Most questions per outcome.
    """
    order: tuple[Split, ...] = ("holdout", "validation", "search")
    for split in order:
        signs = {task.task: math.copysign(1, task.weight) for task in store.tasks(split) if task.weight}
        on_it = {row.candidate: row for row in rows if row.set == split and row.task == "all"}
        winner = next((name for name in ("winner", "best", "global") if name in on_it), None)
        by_hand = [row for name, row in on_it.items() if is_hand_set(name)]
        if winner is None or not by_hand:
            continue
        baseline = max(by_hand, key=lambda row: row.score).candidate
        names = [*(["host"] if "host" in on_it and baseline != "host" else []), baseline, winner]
        answers = {name: _by_question(store.answers(on_it[name].trial, split)) for name in names}
        judged: dict[Outcome, list[QuestionRecord]] = {outcome: [] for outcome in OUTCOMES}
        for question in store.questions(split):
            key = (question.task, question.question)
            if question.task in signs and all(key in found for found in answers.values()):
                gained = signs[question.task] * (answers[winner][key].score - answers[baseline][key].score)
                judged[_outcome(gained)].append(question)
        drawn: list[tuple[Outcome, QuestionRecord]] = [
            (outcome, question) for outcome in OUTCOMES for question in _draw(judged[outcome], f"{seed}:{outcome}", each)
        ]
        return Examples(
            set=split,
            winner=winner,
            baseline=baseline,
            counts={outcome: len(found) for outcome, found in judged.items()},
            shown=tuple(_example(store, outcome, question, answers) for outcome, question in drawn),
        )
    return None


def _example(
    store: Store, outcome: Outcome, question: QuestionRecord, answers: dict[str, dict[tuple[str, str], AnswerRecord]]
) -> Example:
    key = (question.task, question.question)
    said = tuple(Said(name, found[key].text, 100 * found[key].score) for name, found in answers.items())
    return Example(outcome, question, said, tuple(store.thumbnail(digest) for digest in question.pictures))


def _draw(questions: Sequence[QuestionRecord], seed: str, most: int) -> list[QuestionRecord]:
    """A seeded lot: shuffles, then takes the first of each picture."""
    shuffled = list(questions)
    random.Random(seed).shuffle(shuffled)
    by_picture: dict[str, QuestionRecord] = {}
    for question in shuffled:
        by_picture.setdefault(question.group, question)
    return list(by_picture.values())[:most]


def _outcome(difference: float) -> Outcome:
    if abs(difference) < TIE:
        return "tie"
    return "gain" if difference > 0 else "loss"


def _by_question(answers: Sequence[AnswerRecord]) -> dict[tuple[str, str], AnswerRecord]:
    return {(answer.task, answer.question): answer for answer in answers}
