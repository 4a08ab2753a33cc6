"""What a system scores on a task, with its interval, its protocol and every answer: made, written to a file, read back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from vlmerge import __version__
from vlmerge.atomic import write_text
from vlmerge.errors import TaskError
from vlmerge.tasks.judge import JudgedTask, estimate, together

if TYPE_CHECKING:
    from vlmerge.tasks.sets import Asked

KIND = "vlmerge evaluation"
"""What such a file says of itself."""

Keep: TypeAlias = "Callable[[Sequence[Evaluation]], None]"
"""Told all results so far when another task is finished: what comes after it may fail."""

ENTRIES = ("id", "question", "answer", "score", "group")
"""What every answer in it has."""


@dataclass(frozen=True)
class Evaluation:
    """A system's score on one task, 0 to 100, with its bootstrap interval (clustered by picture) and its protocol.

    Attributes:
        model: What the system is called: a model's folder or hub id, or the name that was given.
        task: Name of the task.
        metric: Name of the metric.
        metric_description: One line for tables.
        score: 0 to 100.
        low: Lower end of its interval; None where a single picture says nothing of spread.
        high: Upper end.
        level: Coverage aimed at.
        questions: How many.
        decoding: How answers came about.
        prompt: A real prompt, as an example.
        source: Where the questions are from.
        answers: One entry per question: id, question, references, answer, score (0 to 1), group (what is resampled together);
            of a server that gave none also why (`withheld`).
        judged: Of a judge: the figure as publications give it.
    """

    model: str
    task: str
    metric: str
    metric_description: str
    score: float
    low: float | None
    high: float | None
    level: float
    questions: int
    decoding: str
    prompt: str
    source: str
    answers: tuple[Mapping[str, Any], ...]
    judged: str | None = None

    def __repr__(self) -> str:
        return f"Evaluation({self.model!r}: {self.line().partition(chr(10))[0]})"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def line(self) -> str:
        """For a terminal."""
        between = "" if self.low is None or self.high is None else f" [{self.low:.1f}, {self.high:.1f}]"
        judged = f": {self.judged}" if self.judged else ""
        return (
            f"{self.task}: {self.metric} {self.score:.1f}{between} on {self.questions} questions{judged}\n"
            f"  {self.metric_description}\n  {self.decoding}; prompt {self.prompt!r}"
        )


def evaluation(
    model: str,
    asked: Asked,
    texts: Sequence[str],
    scores: Sequence[float],
    protocol: tuple[str, str],
    withheld: Sequence[str] = (),
) -> Evaluation:
    """One task's result.

    Args:
        model: What the system is called.
        asked: The task with its questions.
        texts: One answer per question.
        scores: One score per question, 0..1.
        protocol: How answers came about, and a prompt as an example.
        withheld: Why there is no answer, per question; empty where there is one.
    """
    import numpy as np

    from vlmerge.statistics import LEVEL, mean_interval

    groups = np.unique([question.group for question in asked.questions], return_inverse=True)[1]
    spread = mean_interval(np.array(scores), groups)
    more: list[dict[str, Any]] = [{"withheld": reason} if reason else {} for reason in withheld or [""] * len(texts)]
    judged = None
    if isinstance(asked.task, JudgedTask):
        verdicts = asked.task.verdicts(asked.questions, texts)  # All of them are kept: nobody is asked again.
        points = [{"points": verdict.points, "verdict": verdict.text} for verdict in verdicts]
        more = [one | two for one, two in zip(more, points, strict=True)]
        judged = asked.task.summary(asked.questions, verdicts)
    return Evaluation(
        model=model,
        task=asked.task.name,
        metric=asked.task.metric,
        metric_description=asked.task.metric_description,
        score=100 * asked.task.aggregate(scores),
        low=None if spread.low is None else 100 * spread.low,
        high=None if spread.high is None else 100 * spread.high,
        level=LEVEL,
        questions=len(scores),
        decoding=protocol[0],
        prompt=protocol[1],
        source=asked.task.source,
        answers=tuple(
            {"id": question.id, "question": question.text, "references": question.references}
            | {"answer": text, "score": score, "group": question.group}
            | own
            for question, text, score, own in zip(asked.questions, texts, scores, more, strict=True)
        ),
        judged=judged,
    )


def say_what_it_takes(asked: Sequence[Asked], observer: Any) -> None:
    """Says before anything is asked what judges would cost; raises EndpointError for a judge whose key is not there."""
    judged = [(one.task, one.questions) for one in asked if isinstance(one.task, JudgedTask)]
    for task, _ in judged:
        _ = task.endpoint
    for each in together(estimate(task, questions, 1) for task, questions in judged):
        observer.say(each.line())


def require_place(path: Path) -> None:
    """Raises TaskError where results cannot be written, before anything is asked."""
    there = next(folder for folder in (path.parent, *path.parent.absolute().parents) if folder.exists())
    if path.is_dir() or not there.is_dir() or not os.access(there, os.W_OK):
        raise TaskError(
            "the results cannot be written there",
            where=str(path),
            expected="a file in a folder that can be written",
            found="a folder" if path.is_dir() else f"{there}, which cannot be written",
            remedy="name a file, for example results.json",
        )
    if path.exists() and KIND not in path.read_text(encoding="utf-8", errors="replace")[:200]:
        raise TaskError(
            "there is a file already, and it holds no results of `vlmerge evaluate`",
            where=str(path),
            expected="a new file, or results that were written before",
            remedy="name another file; this one was not touched",
        )


def keeping(path: Path) -> Keep:
    """Writes results to a file, as far as they are; raises TaskError at once where it cannot be written."""
    require_place(path)
    return lambda results: write_evaluations(path, results)


def write_evaluations(path: Path, results: Sequence[Evaluation]) -> None:
    """Writes results to a file that `read_evaluations` reads; its folder is made."""
    content = {"kind": KIND, "vlmerge": __version__, "results": [result.plain() for result in results]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def read_evaluations(path: Path) -> list[Evaluation]:
    """Reads a file of `vlmerge evaluate --out`.

    Raises:
        TaskError: There is none, or it is something else.
    """
    what = f"a file that `vlmerge evaluate --out {path.name}` has written"
    if not path.is_file():
        raise TaskError("a file of results is missing", where=str(path), expected=what, remedy="correct the path")
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or cast("dict[str, Any]", content).get("kind") != KIND:
            raise _other_results(path, content, what)
        names = {each.name for each in fields(Evaluation)}
        results: list[Evaluation] = []
        for given in cast("list[dict[str, Any]]", content["results"]):
            answers: Any = tuple(cast("list[Mapping[str, Any]]", given["answers"]))
            if not all(entry in answer for answer in answers for entry in ENTRIES):
                raise ValueError("an answer without " + " or ".join(ENTRIES))
            known: dict[str, Any] = {name: value for name, value in given.items() if name in names}
            known["answers"] = answers
            results.append(Evaluation(**known))
        return results
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else str(error)[:200]
        raise _no_results(path, what, found) from error


def _other_results(path: Path, found: Any, what: str) -> TaskError:
    """Of a run's own results.json, or of any other JSON."""
    if not isinstance(found, dict):
        return _no_results(path, what, "JSON without keys")
    content = cast("dict[str, Any]", found)
    if "rows" in content and "schema" in content:
        model, file = path.with_name("model"), f"{path.absolute().parent.name}.json"
        return TaskError(
            "these are the results of a run, without the answers that a comparison needs",
            where=str(path),
            expected=what,
            remedy=f"score its winner on the task:  vlmerge evaluate {model} --task … --out {file}",
        )
    other = f"kind: {content['kind']}" if "kind" in content else f"JSON with {', '.join(list(content)[:5]) or 'nothing in it'}"
    return _no_results(path, what, other)


def _no_results(path: Path, expected: str, found: str) -> TaskError:
    return TaskError("this is no file of results", where=str(path), expected=expected, found=found, remedy="evaluate again")
