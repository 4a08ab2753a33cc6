"""The three sets of a run: what the search may look at, what picks the winner, what is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vlmerge.config.judge_block import budgets_of
from vlmerge.config.problems import nearest
from vlmerge.errors import TaskError
from vlmerge.tasks import AskingTask, JudgedTask, check_names, lm_eval_name, load_tasks, preset_named, task_name
from vlmerge.tasks.hub import Commits
from vlmerge.tasks.purse import Purse
from vlmerge.tasks.questions import Pictures, check_pictures
from vlmerge.tasks.splits import Leak, contamination, split_by_image
from vlmerge.types import Decoding, Question

if TYPE_CHECKING:
    from vlmerge.config.run import RunConfig, TaskSpec
    from vlmerge.store import Split
    from vlmerge.tasks import Task


@dataclass(frozen=True)
class Asked:
    """A task as a run asks it: its share of the questions, its weight, how answers are generated.

    Attributes:
        task: The task.
        questions: Those of its questions that belong to the set, in order.
        weight: Weight in the set's score; 0 is shown, not counted.
        label: Heading of its column, where it has one of its own.
        decoding: How answers are generated, where the task does not ask by itself.
    """

    task: Task | AskingTask
    questions: tuple[Question, ...]
    weight: float
    label: str | None
    decoding: Decoding

    @property
    def protocol(self) -> str:
        """How answers come about, one phrase for tables."""
        return self.task.protocol if isinstance(self.task, AskingTask) else self.decoding.describe()


def narrowed(tasks: Sequence[Asked], wanted: Callable[[Asked, Question], bool]) -> tuple[Asked, ...]:
    """The tasks with those of their questions alone that are wanted; a task without any is left out."""
    found = (replace(one, questions=tuple(each for each in one.questions if wanted(one, each))) for one in tasks)
    return tuple(one for one in found if one.questions)


@dataclass(frozen=True)
class Sets:
    """The questions of a run.

    Attributes:
        search: What candidates are scored on.
        validation: What picks the winner; empty: the search's own score does.
        holdout: What is reported; empty: no claim.
        leaks: What stands in two sets, if the run allows it.
        template: Prompt that the preset forces, or None.
        commits: Commits of the hub data sets that were read.
    """

    search: tuple[Asked, ...]
    validation: tuple[Asked, ...]
    holdout: tuple[Asked, ...]
    leaks: tuple[Leak, ...]
    template: str | None
    commits: Mapping[str, str] = field(default_factory=dict[str, str])

    def __getitem__(self, split: Split) -> tuple[Asked, ...]:
        return {"search": self.search, "validation": self.validation, "holdout": self.holdout}[split]

    def counted(self, split: Split) -> int:
        """Questions of a set's tasks that count in its score."""
        return sum(len(asked.questions) for asked in self[split] if asked.weight)


def check_run_names(config: RunConfig, file: str | None = None) -> None:
    """Raises TaskError for a name in a run that nobody knows, with its key: at once, since reading and loading take long."""
    blocks = {"tasks": config.tasks, "validation": config.validation.tasks or (), "holdout": config.holdout}
    keyed = {f"{block}[{place}]": spec for block, specs in blocks.items() for place, spec in enumerate(specs)}
    check_names(keyed, config.preset, file, config.task_search_path)
    check_aims(config, file)


def check_aims(config: RunConfig, file: str | None = None) -> None:
    """Refuses aims over tasks that the search does not ask, or that validation tasks of their own leave out.

    Raises:
        TaskError: With the key and the nearest name.
    """
    searched = [task_name(spec) for spec in config.tasks]
    validated = None if config.validation.tasks is None else [task_name(spec) for spec in config.validation.tasks]
    for key, name in _aimed_tasks(config):
        for block, names in (("tasks", searched), ("validation", validated)):
            if names is None or name in names:
                continue
            close = nearest(name, names)
            label = f"give the same task there `label: {name}`"
            raise TaskError(
                f"an aim is over a task that `{block}` does not have",
                where=f"{f'{file}: ' if file else ''}search.{key}",
                expected=f"one of {', '.join(names)}",
                found=name,
                remedy=f"did you mean `{close}`?"
                if close
                else label
                if block == "validation"
                else "name one of these, or add it to `tasks` (weight 0: asked, no part of the score)",
            )


def aims_without_holdout(config: RunConfig) -> list[str]:
    """Notes on aims whose tasks the holdout does not ask: what was found of them there cannot be told."""
    held = [task_name(spec) for spec in config.holdout]
    lost = dict.fromkeys(name for _, name in _aimed_tasks(config) if held and name not in held)
    return [
        f"the holdout does not ask {name}, which `search` aims at: what becomes of it there will not be known "
        f"(a task of the holdout with `label: {name}` would tell)"
        for name in lost
    ]


def _aimed_tasks(config: RunConfig) -> list[tuple[str, str]]:
    """Key and task of every aim that names one."""
    constraints = [(f"constraints[{at}]", each.task) for at, each in enumerate(config.search.constraints)]
    objectives = [(f"objectives[{at}]", name) for at, each in enumerate(config.search.objectives) for name in each.tasks]
    return [(key, name) for key, name in (*constraints, *objectives) if name is not None]


def load_sets(config: RunConfig, commits: Mapping[str, str] | None = None) -> Sets:
    """Loads, checks and splits a run's questions.

    Args:
        config: The run.
        commits: Commits of hub data sets that the run has begun with: a branch that has moved since changes nothing.

    Raises:
        TaskError: An empty task, a broken picture, or (unless the run allows it) a picture or text on two sides.
    """
    check_run_names(config)
    pictures: Pictures = {}
    read: Commits = dict(commits or {})
    search = _load(config, config.tasks, pictures, read)
    if config.validation.tasks is not None:
        validation = _load(config, config.validation.tasks, pictures, read)
    else:
        search, validation = _split(search, config.validation.fraction, config.search.seed)
    holdout = _load(config, config.holdout, pictures, read)
    for asked in (*search, *validation, *holdout):
        check_pictures(asked.questions)
    leaks = contamination(_questions(search), _questions(validation), _questions(holdout))
    if leaks and not config.allow_contaminated_holdout:
        raise TaskError(
            "the sets of this run are not disjoint, so no score would be honest",
            where="tasks, validation, holdout",
            expected="no picture (and no text without picture) in two sets",
            found="\n    ".join(str(leak) for leak in leaks),
            remedy="use other questions, or set `allow_contaminated_holdout: true`: every table is then marked CONTAMINATED",
        )
    return Sets(search, validation, holdout, leaks, template_of(config.every_task, config.preset), read)


def check_eyes(sets: Sets, host: str) -> None:
    """For a host without eyes: raises TaskError if any question has a picture."""
    for split in ("search", "validation", "holdout"):
        for asked in sets[split]:
            for question in asked.questions:
                if question.pictures:
                    raise TaskError(
                        "the questions have pictures, and none of the models can see",
                        where=f"task {asked.task.name!r}, question {question.id!r}",
                        expected="a vision-language model among the models, or questions without pictures",
                        found=f"the host {host}, a language model",
                        remedy="add a vision-language model to the run, or ask text questions",
                    )


def ask_tasks(
    specs: Sequence[TaskSpec], *, preset: str | None, max_new_tokens: int | None, search_path: Sequence[str] = ()
) -> tuple[Asked, ...]:
    """Loads tasks outside a run, e.g. to score a finished model; raises TaskError like `load_sets`."""
    check_names({f"task {spec.name!r}": spec for spec in specs}, preset, search_path=search_path)
    purses = {who: Purse(most) for who, most in budgets_of(spec.judge for spec in specs if spec.judge is not None).items()}
    tasks = load_tasks(specs, preset=preset, search_path=search_path)
    asked: list[Asked] = []
    for spec, task in zip(specs, tasks, strict=True):
        if isinstance(task, AskingTask) and (preset is not None or max_new_tokens is not None):
            raise TaskError(
                "how a task of lm-eval is asked stands in its own YAML",
                where=f"task {task.name!r}",
                found="`preset`" if preset is not None else "`max_new_tokens`",
                remedy="leave that out, or change `generation_kwargs` in a copy of the task",
            )
        name = spec.preset or preset
        decoding = preset_named(name).decoding if name else Decoding()
        if max_new_tokens is not None:
            decoding = replace(decoding, max_new_tokens=max_new_tokens)
        if isinstance(task, JudgedTask):
            task = replace(task, purse=purses[task.judge.who])
        asked.append(Asked(task, tuple(task.questions()), spec.weight, spec.label, decoding))
        check_pictures(asked[-1].questions)
    return tuple(asked)


def _load(config: RunConfig, specs: Sequence[TaskSpec], pictures: Pictures, commits: Commits) -> tuple[Asked, ...]:
    tasks = load_tasks(specs, preset=config.preset, pictures=pictures, commits=commits, search_path=config.task_search_path)
    for spec, task in zip(specs, tasks, strict=True):
        if isinstance(task, AskingTask) and not task.higher_is_better and spec.weight > 0:
            raise TaskError(
                f"less of the metric {task.metric!r} is better, and a run looks for more",
                where=f"task {task.name!r}",
                expected="a weight below 0 (or 0: shown, no part of the score)",
                found=f"weight: {spec.weight:g}",
                remedy=f"write `weight: {-spec.weight:g}`: 1 − score then counts",
            )
    return tuple(
        Asked(task, tuple(task.questions()), spec.weight, spec.label, _decoding(config, spec))
        for spec, task in zip(specs, tasks, strict=True)
    )


def _decoding(config: RunConfig, spec: TaskSpec) -> Decoding:
    """The run's `decoding` over the preset's over the defaults."""
    name = spec.preset or config.preset
    return config.decoding.over(preset_named(name).decoding if name else Decoding())


def _split(tasks: tuple[Asked, ...], fraction: float, seed: int) -> tuple[tuple[Asked, ...], tuple[Asked, ...]]:
    """All tasks are cut together, so that those that share pictures are cut at the same place."""
    kept, away = split_by_image(_questions(tasks), fraction, seed)
    sides: list[tuple[Asked, ...]] = []
    for side in (kept, away):
        names: Mapping[str, list[Question]] = {asked.task.name: [] for asked in tasks}
        for question in side:
            names[question.task].append(question)
        sides.append(
            tuple(
                Asked(asked.task, tuple(names[asked.task.name]), asked.weight, asked.label, asked.decoding)
                for asked in tasks
                if names[asked.task.name]
            )
        )
    for asked in tasks:
        if fraction and not all(any(asked.task.name == one.task.name for one in side) for side in sides):
            raise TaskError(
                "a task's pictures all fall on one side of the split",
                where=f"task {asked.task.name!r}",
                expected="pictures of every task in search and in validation",
                found=f"{len(asked.questions)} questions, fraction {fraction:g}",
                remedy="add questions, or name tasks of their own under `validation:`",
            )
    return sides[0], sides[1]


def _questions(tasks: Sequence[Asked]) -> list[Question]:
    return [question for asked in tasks for question in asked.questions]


def template_of(specs: Sequence[TaskSpec], preset: str | None) -> str | None:
    """The prompt that presets force. One for all tasks, so that baseline and candidate cannot differ in it."""
    specs = [spec for spec in specs if lm_eval_name(spec) is None]
    templates = {task_name(spec): preset_named(name).template for spec in specs if (name := spec.preset or preset)}
    own: list[str | None] = [None] if len(templates) < len({task_name(spec) for spec in specs}) else []
    distinct = list(dict.fromkeys([*templates.values(), *own]))
    if len(distinct) > 1:
        raise TaskError(
            "the tasks' presets force different prompts",
            where=", ".join(templates),
            expected="one prompt template for all",
            found=", ".join(str(template or "the model's own") for template in distinct),
            remedy="give the run one `preset:`",
        )
    return distinct[0] if distinct else None
