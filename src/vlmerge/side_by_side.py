"""Several systems in one table: scores on the questions that all of them have answered, and paired differences to the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlmerge.errors import TaskError
from vlmerge.evaluations import Evaluation, read_evaluations
from vlmerge.statistics import LEVEL, Floats, Integers, Interval, holm, mean_draws, mean_interval, paired_p

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Compared:
    """One system on one task.

    Attributes:
        system: Its name.
        score: On the shared questions, 0 to 100, with its interval.
        difference: To the first system, in points, paired by question; None of the first itself.
        decoding: How its answers came about.
        p: Of the difference being zero, two-sided, adjusted by Holm for all that are told together; None of the first itself,
            and where a single picture says nothing of spread.
    """

    system: str
    score: Interval
    difference: Interval | None
    decoding: str
    p: float | None = None


@dataclass(frozen=True)
class Comparison:
    """One task.

    Attributes:
        task: Its name.
        metric: Name of the metric.
        metric_description: One line.
        questions: How many all systems have answered.
        left_out: How many only some have.
        systems: In the order of the files.
    """

    task: str
    metric: str
    metric_description: str
    questions: int
    left_out: int
    systems: tuple[Compared, ...]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "level": LEVEL}

    def table(self) -> Table:
        """For a terminal."""
        from rich.table import Table
        from rich.text import Text

        table = Table("system", self.metric, f"against {self.systems[0].system}", "p", "how answers came about")
        for one in self.systems:
            table.add_row(
                Text(one.system),
                _shown(one.score, "{:.1f}"),
                "" if one.difference is None else _shown(one.difference, "{:+.1f}"),
                "" if one.p is None else f"{one.p:.3f}",
                Text(one.decoding),
            )
        return table

    def lines(self) -> tuple[str, str]:
        """What stands above and below the table."""
        left_out = f" ({self.left_out} that not all have answered are left out)" if self.left_out else ""
        return (
            f"{self.task}: {self.questions} questions{left_out}",
            f"{self.metric_description}\n"
            f"In brackets: {LEVEL:.0%} intervals by bootstrap over pictures; differences are paired by question, "
            "p is adjusted by Holm",
        )


def compare(files: Sequence[Path]) -> list[Comparison]:
    """Tables of every task that all files have.

    Raises:
        TaskError: Fewer than two files; no task in common; other metrics, other questions under one id.
    """
    if len(files) < 2:
        raise TaskError(
            "a comparison needs at least two files",
            expected="files of `vlmerge evaluate … --out FILE.json`",
            found=f"{len(files)}",
            remedy="name two or more",
        )
    by_file = [{result.task: result for result in read_evaluations(file)} for file in files]
    tasks = [task for task in by_file[0] if all(task in results for results in by_file)]
    if not tasks:
        raise TaskError(
            "the files have no task in common",
            where=", ".join(map(str, files)),
            found="; ".join(", ".join(results) for results in by_file),
            remedy="evaluate the systems on one task",
        )
    return adjusted([compare_results(task, [results[task] for results in by_file], files) for task in tasks])


def adjusted(tables: Sequence[Comparison]) -> list[Comparison]:
    """The tables with their p-values adjusted by Holm for all comparisons in them."""
    known = [one.p for table in tables for one in table.systems if one.p is not None]
    values = iter(holm(known))
    return [
        replace(table, systems=tuple(one if one.p is None else replace(one, p=next(values)) for one in table.systems))
        for table in tables
    ]


def compare_results(task: str, results: Sequence[Evaluation], files: Sequence[Path]) -> Comparison:
    """One task's table; p-values are those of each comparison alone.

    Args:
        task: Its name.
        results: One of each system, the first of them what the others are compared with.
        files: Where they are from.

    Raises:
        TaskError: Other metrics, other questions under one id, or no question that all have answered.
    """
    answers = [{str(answer["id"]): answer for answer in result.answers} for result in results]
    first = results[0]
    for result, given, file in zip(results[1:], answers[1:], files[1:], strict=True):
        ours = f"{first.metric} ({first.metric_description})", f"{result.metric} ({result.metric_description})"
        if ours[0] != ours[1]:
            raise _unlike("scores by different metrics cannot be compared", task, files[0], file, *ours)
        for identity, answer in given.items():
            if identity in answers[0] and answers[0][identity]["question"] != answer["question"]:
                texts = str(answers[0][identity]["question"]), str(answer["question"])
                raise _unlike(f"question {identity!r} is not the same in both", task, files[0], file, *texts)
    shared = [identity for identity in answers[0] if all(identity in given for given in answers)]
    if not shared:
        found = f"{len(answers[0])} and {len(answers[1])} questions, none of them the same"
        raise _unlike("no question was answered by all", task, files[0], files[1], "shared ids", found)
    groups = np.unique([answers[0][identity]["group"] for identity in shared], return_inverse=True)[1].astype(np.int64)
    scores = np.array([[float(given[identity]["score"]) for identity in shared] for given in answers])
    behind = [scores[place] - scores[0] for place in range(len(results))]
    names = [result.model for result in results]
    shown = [name if names.count(name) == 1 else f"{name} ({file.stem})" for name, file in zip(names, files, strict=True)]
    return Comparison(
        task=task,
        metric=first.metric,
        metric_description=first.metric_description,
        questions=len(shared),
        left_out=len({identity for given in answers for identity in given}) - len(shared),
        systems=tuple(
            Compared(
                system=shown[place],
                score=mean_interval(scores[place], groups).scaled(100),
                difference=mean_interval(behind[place], groups).scaled(100) if place else None,
                decoding=results[place].decoding,
                p=_p(behind[place], groups) if place else None,
            )
            for place in range(len(results))
        ),
    )


def _p(differences: Floats, groups: Integers) -> float | None:
    drawn, pictures = mean_draws(differences, groups)
    return paired_p(drawn, pictures)


def _unlike(what: str, task: str, ours: Path, theirs: Path, expected: str, found: str) -> TaskError:
    remedy = "evaluate both with the same task, metric and version of vlmerge"
    return TaskError(what, where=f"task {task!r}, {ours} and {theirs}", expected=expected, found=found, remedy=remedy)


def _shown(value: Interval, form: str) -> str:
    between = "" if value.low is None or value.high is None else f" [{form.format(value.low)}, {form.format(value.high)}]"
    return form.format(value.mean) + between
