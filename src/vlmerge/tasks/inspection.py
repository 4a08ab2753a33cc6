"""What to know of questions before a model answers any: how many, how long, what is there twice, what would leak."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median_low
from typing import TYPE_CHECKING, Any

from vlmerge.errors import TaskError
from vlmerge.tasks import (
    BUILT_IN,
    JUDGE,
    Leak,
    check_pictures,
    leak_between,
    lm_eval_name,
    load_task,
    metric_name,
    metric_named,
    split_by_image,
    task_name,
    task_questions,
    units,
)
from vlmerge.types import Question

if TYPE_CHECKING:
    from vlmerge.config.run import RunConfig, TaskSpec

FRACTION = 0.25
"""Part of the pictures that validation takes where a run does not say."""
SEED = 1
SHOWN = 3
"""Examples of a kind that are shown to people."""
RUN_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True)
class Lengths:
    """Characters of texts: the fewest, at most so many in half of them, the most."""

    least: int
    median: int
    most: int

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.least} characters each"
        return f"{self.least} to {self.most} characters, half of them at most {self.median}"


@dataclass(frozen=True)
class Inspection:
    """A task's questions, looked at.

    Attributes:
        name: Of the task.
        source: Where they come from.
        metric: What scores them.
        rows: Number of questions.
        pictures: Number of different pictures, by their pixels.
        without_picture: Questions without one.
        most_pictures: Pictures of the question that has most.
        kinds: Questions of each kind.
        splits: Splits of a built-in data set, and what each is.
        question: Lengths of questions.
        answer: Lengths of reference answers, all of them.
        duplicates: Ids of questions that ask the same about the same pictures.
        validation: Questions left to search on, and those set aside, with `validation: {fraction: 0.25}`; None where there are
            too few pictures for two sides.
        leaks: What stands in others, too.
    """

    name: str
    source: str
    metric: str
    rows: int
    pictures: int
    without_picture: int
    most_pictures: int
    kinds: Mapping[str, int]
    splits: Mapping[str, str]
    question: Lengths
    answer: Lengths
    duplicates: tuple[tuple[str, ...], ...]
    validation: tuple[int, int] | None
    leaks: tuple[Leak, ...]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        pictures = f"{self.pictures} different"
        if self.most_pictures > 1:
            pictures += f", up to {self.most_pictures} in one question"
        if self.without_picture:
            pictures += f"; {self.without_picture} questions have none"
        if self.validation is None:
            validation = "too few pictures (or texts) for two sides: name other questions under `validation:`"
        else:
            validation = (
                f"fraction {FRACTION:g} leaves {self.validation[0]} questions to search on, {self.validation[1]} to validate"
            )
        twice = [" = ".join(group) for group in self.duplicates]
        told = {
            "metric": self.metric,
            "pictures": pictures,
            "kinds": ", ".join(f"{kind} {count}" for kind, count in self.kinds.items()),
            "splits": "; ".join(f"{split}: {what}" for split, what in self.splits.items()),
            "questions": str(self.question),
            "answers": str(self.answer),
            "twice": "no question" if not twice else f"{len(twice)} questions: {_some(twice)}",
            "validation": validation,
        }
        listed = [f"{self.name}: {self.rows} questions ({self.source})"]
        listed += [f"  {label:<11} {text}" for label, text in told.items() if text]
        return listed + [f"  {'leak':<11} {leak}" for leak in self.leaks]


def inspect_task(spec: TaskSpec, against: Sequence[str] = (), search_path: Sequence[str] = ()) -> Inspection:
    """Looks at a task's questions; decodes each picture once.

    Args:
        spec: The task.
        against: Other files of questions, names of tasks, or run files, to be compared with.
        search_path: Folders with tasks of lm-eval.

    Raises:
        TaskError: Anything that would stop a run: a broken row or picture, a missing file, an unknown name.
    """
    source, metric, questions = _read(spec, search_path)
    shown = [picture.digest for question in questions for picture in question.pictures]
    try:
        validation = tuple(len(side) for side in split_by_image(questions, FRACTION, SEED))
    except TaskError:
        validation = None
    definition = BUILT_IN.get(spec.name)
    return Inspection(
        name=task_name(spec),
        source=source,
        metric=metric,
        rows=len(questions),
        pictures=len(set(shown)),
        without_picture=sum(not question.pictures for question in questions),
        most_pictures=max(len(question.pictures) for question in questions),
        kinds=dict(Counter(question.kind for question in questions if question.kind is not None)),
        splits=definition.splits if definition else {},
        question=_lengths(question.text for question in questions),
        answer=_lengths(reference for question in questions for reference in question.references),
        duplicates=_duplicates(questions),
        validation=None if validation is None else (validation[0], validation[1]),
        leaks=tuple(leak for other in against for leak in _leaks(spec, questions, other, search_path)),
    )


def _read(spec: TaskSpec, search_path: Sequence[str]) -> tuple[str, str, tuple[Question, ...]]:
    """Source, metric and questions of a task, its pictures whole; a judge is not needed for it."""
    if lm_eval_name(spec) is not None:
        task = load_task(spec, search_path=search_path)
        source, metric, questions = task.source, task.metric, tuple(task.questions())
    else:
        metric = metric_name(spec, None)
        if metric != JUDGE:
            metric_named(metric, f"task {spec.name!r}, metric")
        source, questions = task_questions(spec)
    check_pictures(questions)
    return source, metric, questions


def _lengths(texts: Iterable[str]) -> Lengths:
    counts = [len(text) for text in texts]
    return Lengths(min(counts), median_low(counts), max(counts))


def _duplicates(questions: Sequence[Question]) -> tuple[tuple[str, ...], ...]:
    asked: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for question in questions:
        asked.setdefault((units(question), question.text.strip()), []).append(question.id)
    return tuple(tuple(ids) for ids in asked.values() if len(ids) > 1)


def _leaks(spec: TaskSpec, questions: Sequence[Question], other: str, search_path: Sequence[str]) -> Iterable[Leak]:
    """What questions share with another file or task, or with each set of a run; a task is not compared with itself."""
    for label, others, folders in _others(other, search_path):
        theirs = _read(others, folders)[2]
        ours, them = ({(each.id, each.text) for each in some} for some in (questions, theirs))
        if _place(spec) == _place(others) and (ours <= them or them <= ours):
            continue
        if leak := leak_between(("checked", label), (task_name(spec), task_name(others)), questions, theirs):
            yield leak


def _place(spec: TaskSpec) -> tuple[str, str | None]:
    """Where a task's questions lie, however it is named."""
    place = Path(spec.path or spec.name)
    return (str(place.resolve()) if place.exists() else spec.name, spec.split)


def _others(other: str, search_path: Sequence[str]) -> Iterable[tuple[str, TaskSpec, Sequence[str]]]:
    from vlmerge.config.file_kinds import OF_A_RECIPE
    from vlmerge.config.run import TaskSpec, load_run
    from vlmerge.config.yaml_file import read_yaml

    if not other.endswith(RUN_ENDINGS):
        yield other, TaskSpec(name=other), search_path
        return
    if any(key in read_yaml(Path(other)).data for key in OF_A_RECIPE):
        raise TaskError(
            "a recipe has no questions",
            where=other,
            expected="a run file, a file of questions, or a task's name",
            remedy="name the run file that the questions would be searched with",
        )
    run: RunConfig = load_run(Path(other))
    for label, specs in (("tasks", run.tasks), ("validation", run.validation.tasks or ()), ("holdout", run.holdout)):
        for spec in specs:
            yield f"{label} of {other}", spec, run.task_search_path


def _some(texts: Sequence[str]) -> str:
    return "; ".join(texts[:SHOWN]) + (" …" if len(texts) > SHOWN else "")
