"""What is asked, and how answers are scored. No torch; dictionaries and `datasets` are loaded when first needed.

    task = load_task(spec)
    for question in task.questions():
        task.score(question, "左に船があります。")     # 0..1

A new metric, data set or protocol is one definition and one line in METRICS, BUILT_IN or PRESETS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlmerge.config.judge_block import JUDGE
from vlmerge.config.problems import nearest
from vlmerge.errors import TaskError
from vlmerge.tasks.builtin import JA_VG_VQA_500, JA_VLM_BENCH_IN_THE_WILD, BuiltIn
from vlmerge.tasks.harness import check_spec, load_harness_task
from vlmerge.tasks.harness_index import INSTALL
from vlmerge.tasks.hub import Commits, open_dataset
from vlmerge.tasks.judge import DESCRIPTION as JUDGE_DESCRIPTION
from vlmerge.tasks.judge import JudgedTask, judge_prompt, judged_task
from vlmerge.tasks.judge_prompts import JUDGE_PROMPTS
from vlmerge.tasks.metrics import CharacterRougeL, ExactMatch, GatedWordRougeL, Metric, WordRougeL
from vlmerge.tasks.presets import COLAB_2024, SAKANA, Preset
from vlmerge.tasks.questions import Pictures, Reading, check_pictures, read_questions
from vlmerge.tasks.rouge import bootstrap_mid
from vlmerge.tasks.rows import JSONL_ENDINGS, PARQUET_ENDINGS, Table, open_file
from vlmerge.tasks.splits import Leak, contamination, split_by_image, units
from vlmerge.tasks.task import AskingTask, ReferenceTask, Task

if TYPE_CHECKING:
    from vlmerge.config.run import TaskSpec

__all__ = [
    "BUILT_IN",
    "DEFAULT_METRIC",
    "JUDGE",
    "JUDGE_DESCRIPTION",
    "JUDGE_PROMPTS",
    "METRICS",
    "PRESETS",
    "AskingTask",
    "BuiltIn",
    "JudgedTask",
    "Leak",
    "Metric",
    "Pictures",
    "Preset",
    "Task",
    "TaskDescription",
    "bootstrap_mid",
    "check_pictures",
    "contamination",
    "describe_tasks",
    "lm_eval_name",
    "load_task",
    "load_tasks",
    "metric_named",
    "preset_named",
    "split_by_image",
    "task_name",
    "units",
]

METRICS: Mapping[str, Metric] = {
    "char_rougeL": Metric("char_rougeL", "ROUGE-L F-measure over characters; no language gate", CharacterRougeL),
    "rougeL": Metric("rougeL", "ROUGE-L F-measure over MeCab words (unidic-lite); no language gate", WordRougeL),
    "rougeL_ja": Metric(
        "rougeL_ja",
        "ROUGE-L F-measure over MeCab words (unidic-lite); language gate: an answer that is not Japanese (fastText lid.176) "
        "to a reference that is scores 0",
        GatedWordRougeL,
    ),
    "exact_match": Metric(
        "exact_match", "1 where the answer is a reference, outer white space aside; no language gate", ExactMatch
    ),
}
BUILT_IN: Mapping[str, BuiltIn] = {
    "ja-vlm-bench-in-the-wild": JA_VLM_BENCH_IN_THE_WILD,
    "ja-vg-vqa-500": JA_VG_VQA_500,
}
PRESETS: Mapping[str, Preset] = {
    "sakana": SAKANA,
    "colab-2024": COLAB_2024,
}
DEFAULT_METRIC = "char_rougeL"
"""Where neither the run nor the data set names one: it needs no language."""

HUB_NAME = re.compile(r"hf:(?P<repository>[^/:@\s]+/[^/:@\s]+)(?::(?P<config>[^:@\s]+))?(?:@(?P<revision>\S+))?")


LM_EVAL = "lm-eval:"
"""Before a name: a task of lm-evaluation-harness, whatever else has that name."""
OF_LM_EVAL: Mapping[str, tuple[object, ...]] = {
    "num_fewshot": (None, 0),
    "shuffle": (None, False),
    "apply_chat_template": (None, True),
    "fewshot_as_multiturn": (None, True, False),
}
"""Keys for tasks of lm-eval → the values that ask for what every other task does anyway."""


def check_names(
    specs: Mapping[str, TaskSpec], preset: str | None, file: str | None = None, search_path: Sequence[str] = ()
) -> None:
    """Raises TaskError for a metric, preset or task that there is none of, before anything is read.

    Args:
        specs: Tasks by their keys: `tasks[0]`, …
        preset: The preset of all of them.
        file: Where they are from.
        search_path: Folders with tasks of lm-eval.
    """
    begin = f"{file}, " if file else ""
    if preset is not None:
        preset_named(preset, f"{begin}preset")
    for key, spec in specs.items():
        name = lm_eval_name(spec)
        _check_judge(spec, name, f"{begin}{key}")
        if name is not None:
            check_spec(spec, name, search_path, f"{begin}{key}.name", tuple(BUILT_IN))
            continue
        if spec.metric not in (None, JUDGE):
            metric_named(spec.metric, f"{begin}{key}.metric")
        if spec.preset is not None:
            preset_named(spec.preset, f"{begin}{key}.preset")
        for other, harmless in OF_LM_EVAL.items():
            value = getattr(spec, other)
            if value not in harmless:
                raise TaskError(
                    f"`{other}: {str(value).lower()}` is for tasks of lm-eval alone",
                    where=f"{begin}{key}.{other}",
                    expected="a task of lm-eval",
                    found=f"the task {spec.name}",
                    remedy="take it out: other tasks are asked without examples, each in the model's own chat template",
                )


def _check_judge(spec: TaskSpec, harness: str | None, where: str) -> None:
    """Raises TaskError for a judge that a task cannot have, or that it needs and does not name."""
    if spec.judge is not None:
        if harness is not None:
            remedy = "take `judge:` out"
            raise TaskError("a task of lm-eval scores by itself", where=f"{where}.judge", found=spec.name, remedy=remedy)
        judge_prompt(spec.judge, spec.name, f"{where}.judge.prompt")
        return
    definition = BUILT_IN.get(spec.name)
    if definition is not None and definition.metric == JUDGE and spec.metric is None and harness is None:
        raise TaskError(
            f"the answers to {spec.name} are judged, and nothing says by whom",
            where=where,
            expected="`judge: {endpoint: …, model: …}`, an address that speaks OpenAI's chat protocol and a model there",
            remedy="add it (of `vlmerge evaluate`: --judge endpoint=… --judge model=…), or name another metric",
        )


def lm_eval_name(spec: TaskSpec) -> str | None:
    """Its name in lm-evaluation-harness, where a task is one of lm-eval's: by its prefix, or because it is nothing else."""
    if spec.name.startswith(LM_EVAL):
        return spec.name.removeprefix(LM_EVAL)
    here = spec.path is not None or _looks_local(spec.name) or Path(spec.name).exists()
    return None if here or spec.name in BUILT_IN or spec.name.startswith("hf:") else spec.name


def metric_named(name: str, where: str = "metric") -> Metric:
    """The metric of that name; raises TaskError naming the nearest one."""
    if name not in METRICS:
        raise _unknown("metric", name, (*METRICS, JUDGE), where)
    return METRICS[name]


def preset_named(name: str, where: str = "preset") -> Preset:
    """The preset of that name; raises TaskError naming the nearest one."""
    if name not in PRESETS:
        raise _unknown("preset", name, PRESETS, where)
    return PRESETS[name]


def _unknown(what: str, name: str, known: Iterable[str], where: str) -> TaskError:
    near = nearest(name, known)
    return TaskError(
        f"unknown {what} {name!r}",
        where=where,
        expected=f"one of {', '.join(known)}",
        found=name,
        remedy=f"write {near!r}" if near else f"choose a {what} from the list",
    )


def task_name(spec: TaskSpec) -> str:
    """What a task is called in the store and in tables.

    Its `label` where it has one. Else the name of a built-in task, the id of a data set, or a file's name without its ending;
    and, where `fields:` takes the question from another field, that field after a colon, so that one file can be two tasks.
    """
    if spec.label:
        return spec.label
    if (harness := lm_eval_name(spec)) is not None:
        return harness
    hub = HUB_NAME.fullmatch(spec.name)
    if spec.name in BUILT_IN:
        name = spec.name
    elif hub:
        name = hub["repository"]
    else:
        path = Path(spec.name)
        name = path.stem if _is_question_file(spec.name) else path.name
    column = spec.fields.get("question", "question")
    return name if column == "question" else f"{name}:{column}"


def load_task(
    spec: TaskSpec,
    *,
    preset: str | None = None,
    pictures: Pictures | None = None,
    commits: Commits | None = None,
    search_path: Sequence[str] = (),
) -> Task | AskingTask | JudgedTask:
    """Reads a task's rows. Pictures are found, not opened (check_pictures opens them).

    Args:
        spec: `name` is a built-in task, a .jsonl or .parquet file, a folder with a data set, or
            hf:org/name[:configuration][@revision]. `path` is a copy of a built-in or hub data set on this machine, with the
            same columns.
        preset: The run's preset, where the task has none of its own. A named `metric` goes before the preset's, the preset's
            before the data set's.
        pictures: Pictures that other tasks have already found, by file. Added to.
        commits: Commits of hub data sets that are read again. Added to.
        search_path: Folders with tasks of lm-eval.

    Raises:
        TaskError: unknown name, metric or preset; missing or unreadable source; anything wrong with a row; no question left.
    """
    if (harness := lm_eval_name(spec)) is not None:
        return load_harness_task(spec, harness, task_name(spec), search_path, tuple(BUILT_IN))
    protocol_name = spec.preset or preset
    protocol = preset_named(protocol_name) if protocol_name else None
    definition = BUILT_IN.get(spec.name)
    named_metric = spec.metric or (protocol.metric if protocol else None) or (definition.metric if definition else None)
    if spec.judge is None and named_metric == JUDGE:
        _check_judge(spec, None, f"task {spec.name!r}")
    metric = metric_named(named_metric or DEFAULT_METRIC) if spec.judge is None else None
    name = task_name(spec)
    table = _open(spec, definition, commits)
    reading = Reading(
        task=name,
        fields={**(definition.fields if definition else {}), **spec.fields},
        nested=definition.nested if definition else None,
        first_only=bool(protocol and protocol.first_question_per_image),
        kinds=spec.kinds or (),
        limit=spec.limit,
        pictures={} if pictures is None else pictures,
    )
    asked = read_questions(table, reading)
    if metric is None:
        assert spec.judge is not None
        return judged_task(name, table.source, asked, spec.judge, judge_prompt(spec.judge, spec.name, f"task {name!r}"))
    return ReferenceTask(
        name=name,
        metric=metric.name,
        metric_description=metric.description,
        source=table.source,
        asked=asked,
        scorer=metric.load(),
    )


def load_tasks(
    specs: Sequence[TaskSpec],
    *,
    preset: str | None = None,
    pictures: Pictures | None = None,
    commits: Commits | None = None,
    search_path: Sequence[str] = (),
) -> tuple[Task | AskingTask | JudgedTask, ...]:
    """The tasks of one set (search, validation or holdout), sharing pictures; raises TaskError for two of one name."""
    known: Pictures = {} if pictures is None else pictures
    seen: dict[str, str] = {}
    for spec in specs:
        name = task_name(spec)
        if name in seen:
            raise TaskError(
                "two tasks of one set have the same name",
                where=f"task {name!r}",
                found=f"{seen[name]} and {spec.name}",
                remedy="give each a `label:` of its own",
            )
        seen[name] = spec.name
    return tuple(load_task(spec, preset=preset, pictures=known, commits=commits, search_path=search_path) for spec in specs)


def _is_question_file(name: str) -> bool:
    return Path(name).suffix.lower() in (*JSONL_ENDINGS, *PARQUET_ENDINGS)


def _looks_local(name: str) -> bool:
    return _is_question_file(name) or Path(name).is_absolute() or name.startswith(".")


def _open(spec: TaskSpec, definition: BuiltIn | None, commits: Commits | None) -> Table:
    hub = HUB_NAME.fullmatch(spec.name)
    if definition is None and hub is None and spec.name.startswith("hf:"):
        raise TaskError(
            "a hub data set is not named in full",
            where=f"task {spec.name!r}",
            expected="hf:org/name, hf:org/name:configuration or hf:org/name@revision",
            found=spec.name,
            remedy="copy the id from the data set's page",
        )
    default_split = definition.split if definition else None
    local = spec.path or (spec.name if definition is None and hub is None else None)
    if local is not None:
        location = Path(local)
        if location.is_dir():
            return open_dataset(str(location), split=spec.split, default_split=default_split)
        if spec.path or location.exists() or _looks_local(local):
            return open_file(location)
        raise _unknown_task(spec.name)
    if definition:
        return open_dataset(definition.repository, split=spec.split, default_split=default_split, commits=commits)
    assert hub is not None
    return open_dataset(hub["repository"], split=spec.split, config=hub["config"], revision=hub["revision"], commits=commits)


def _unknown_task(name: str) -> TaskError:
    near = nearest(name, BUILT_IN)
    return TaskError(
        f"unknown task {name!r}",
        where=f"task {name!r}",
        expected=f"a built-in task ({', '.join(BUILT_IN)}), a .jsonl or .parquet file, or hf:org/name",
        found=f"{name}, which is none of these (tasks of lm-evaluation-harness need `{INSTALL}`)",
        remedy=f"write {near!r}"
        if near
        else "put its questions into a .jsonl file beside their pictures, or name its data set as hf:org/name",
    )


@dataclass(frozen=True)
class TaskDescription:
    """One line of `vlmerge tasks`."""

    name: str
    what: str
    languages: tuple[str, ...]
    metric: str
    licence: str
    good_for: str


def describe_tasks() -> tuple[TaskDescription, ...]:
    """The built-in tasks, in the registry's order. Nothing is loaded."""
    return tuple(
        TaskDescription(task.name, task.what, task.languages, task.metric, task.licence, task.good_for)
        for task in BUILT_IN.values()
    )
