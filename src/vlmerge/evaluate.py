"""A live model × tasks → answers and scores. The same function scores a candidate of a run and a finished checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from vlmerge.errors import CandidateFailure
from vlmerge.store import AnswerRecord, Split
from vlmerge.types import Answer, Decoding, Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vlmerge.tasks.sets import Asked


class Answering(Protocol):
    """What evaluation needs of a live model."""

    def answer(
        self, questions: Sequence[Question], decoding: Decoding, progress: Callable[[int], None] | None = None
    ) -> Iterator[Answer]: ...


def evaluate(
    live: Answering, tasks: Sequence[Asked], split: Split, progress: Callable[[int], None] | None = None
) -> list[AnswerRecord]:
    """Asks and scores.

    Args:
        live: The model.
        tasks: What to ask.
        split: Name of the set, for the record.
        progress: Told the number of answers after each batch.

    Returns:
        One record per question, tasks and questions in order.

    Raises:
        CandidateFailure: Every answer is empty, or the model failed.
    """
    records: list[AnswerRecord] = []
    for asked in tasks:
        answers: Mapping[str, Answer] = {
            answer.question.id: answer for answer in live.answer(asked.questions, asked.decoding, progress)
        }
        for question in asked.questions:
            answer = answers[question.id]
            score = asked.task.score(question, answer.text)
            records.append(AnswerRecord(split, asked.task.name, question.id, answer.text, answer.tokens, score))
    if records and not any(record.text.strip() for record in records):
        raise CandidateFailure("every answer is empty")
    return records


def total(tasks: Sequence[Asked], records: Sequence[AnswerRecord]) -> float:
    """The set's score (0 to 1 for positive weights): each task's aggregate, weighted, over the sum of the weights' sizes."""
    weights = math.fsum(abs(asked.weight) for asked in tasks)
    parts: list[float] = []
    for asked in tasks:
        if asked.weight:
            scores = [record.score for record in records if record.task == asked.task.name]
            parts.append(asked.weight * asked.task.aggregate(scores))
    return math.fsum(parts) / weights
