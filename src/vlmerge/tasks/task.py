"""The contract of a task, and the one kind there is so far: questions with reference answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vlmerge.tasks.metrics import Scorer
from vlmerge.tasks.rouge import mean
from vlmerge.types import Question


class Task(Protocol):
    """Questions with their references, and the way to score an answer.

    Attributes:
        name: Unique within its set; its `label`, or made from its file, data set and question field.
        metric: Name of the metric.
        metric_description: One line for tables: tokens and gate.
        source: File, or data set with split, for the record.
    """

    @property
    def name(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def metric_description(self) -> str: ...
    @property
    def source(self) -> str: ...

    def questions(self) -> Sequence[Question]:
        """All questions, in the order of the source, at least one."""
        ...

    def score(self, question: Question, answer: str) -> float:
        """Score of an answer, 0..1; the best over the question's references."""
        ...

    def aggregate(self, scores: Sequence[float]) -> float:
        """Score of the task, 0..1, from at least one score."""
        ...


@dataclass(frozen=True)
class ReferenceTask:
    """A task whose questions carry reference answers."""

    name: str
    metric: str
    metric_description: str
    source: str
    asked: tuple[Question, ...] = field(repr=False)
    scorer: Scorer = field(repr=False)

    def questions(self) -> tuple[Question, ...]:
        """All questions, in the order of the source."""
        return self.asked

    def score(self, question: Question, answer: str) -> float:
        """Score of an answer, 0..1; the best over the question's references."""
        return self.scorer(answer, question.references)

    def aggregate(self, scores: Sequence[float]) -> float:
        """The mean over questions."""
        return mean(scores)
