"""The contract of a task: questions, and a score for each answer; or a task that asks in a way of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from vlmerge.tasks.metrics import Scorer
from vlmerge.tasks.rouge import mean
from vlmerge.types import Question


class Described(Protocol):
    """What every task has: questions with their references, and how scores of questions become one.

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

    def aggregate(self, scores: Sequence[float]) -> float:
        """Score of the task, 0..1, from at least one score."""
        ...


class Task(Described, Protocol):
    """A task whose questions are put to the model as text with pictures, and whose answers are scored by themselves."""

    def score(self, question: Question, answer: str) -> float:
        """Score of an answer, 0..1; the best over the question's references."""
        ...


@dataclass(frozen=True)
class Said:
    """One question's outcome: what to keep as the answer, tokens written, score (0..1)."""

    text: str
    tokens: int
    score: float


@runtime_checkable
class AskingTask(Described, Protocol):
    """A task that makes its own prompts and asks them itself, through lm-eval's model object (`LiveModel.lm_eval`).

    Attributes:
        protocol: How it is asked, one phrase for tables.
        higher_is_better: Whether more of the metric is better.
    """

    @property
    def protocol(self) -> str: ...
    @property
    def higher_is_better(self) -> bool: ...

    def prompt(self, model: Any, question: Question) -> str:
        """A real prompt, as text."""
        ...

    def ask(self, model: Any, questions: Sequence[Question], progress: Callable[[int], None] | None = None) -> list[Said]:
        """One outcome per question, in their order."""
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
        return self.scorer(answer, question.references, question.options)

    def aggregate(self, scores: Sequence[float]) -> float:
        """The mean over questions."""
        return mean(scores)
