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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vlmerge.config.judge_block import JUDGE
from vlmerge.config.problems import nearest
from vlmerge.errors import TaskError
from vlmerge.tasks.builtin import (
    ELYZA_TASKS_100,
    JA_VG_VQA_500,
    JA_VLM_BENCH_IN_THE_WILD,
    JAPANESE_HERON_BENCH,
    JMMMU,
    MGSM_JA,
    MMMU,
    BuiltIn,
)
from vlmerge.tasks.harness import check_spec, load_harness_task
from vlmerge.tasks.harness_index import INSTALL
from vlmerge.tasks.hub import Commits, open_dataset
from vlmerge.tasks.judge import DESCRIPTION as JUDGE_DESCRIPTION
from vlmerge.tasks.judge import JudgedTask, judge_prompt, judged_task
from vlmerge.tasks.judge_prompts import JUDGE_PROMPTS
from vlmerge.tasks.metrics import CharacterRougeL, ExactMatch, GatedWordRougeL, Metric, WordRougeL
from vlmerge.tasks.mmmu_answers import JMMMU as JMMMU_ANSWERS
from vlmerge.tasks.mmmu_answers import MMMU as MMMU_ANSWERS
from vlmerge.tasks.mmmu_answers import ChoiceAccuracy
from vlmerge.tasks.number_match import JapaneseNumberMatch, NumberMatch
from vlmerge.tasks.presets import COLAB_2024, EVOLLM_JP, JMMMU_PUBLISHED, MMMU_PUBLISHED, SAKANA, Preset
from vlmerge.tasks.questions import Pictures, Reading, check_pictures, read_questions
from vlmerge.tasks.rouge import bootstrap_mid
from vlmerge.tasks.rows import JSONL_ENDINGS, PARQUET_ENDINGS, Table, open_file
from vlmerge.tasks.splits import Leak, contamination, leak_between, split_by_image, units
from vlmerge.tasks.task import AskingTask, ReferenceTask, Task
from vlmerge.types import Question

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
    "leak_between",
    "lm_eval_name",
    "load_task",
    "load_tasks",
    "metric_name",
    "metric_named",
    "metric_of",
    "preset_named",
    "split_by_image",
    "task_name",
    "task_questions",
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
    "number_match": Metric(
        "number_match", "1 where the last number of the answer is the reference's; no language gate", NumberMatch
    ),
    "mgsm_ja": Metric(
        "mgsm_ja",
        "1 where the last number of the answer, as EvoLLM-JP's evaluation finds it, is the reference's; language gate: an "
        "answer that is not Japanese (fastText lid.176) scores 0",
        JapaneseNumberMatch,
    ),
    "mmmu": Metric(
        "mmmu",
        "accuracy by MMMU's answer parsing: the option that is named last, or a number or text in the end of the answer; one "
        "that names no option counts as a guess; no language gate",
        partial(ChoiceAccuracy, MMMU_ANSWERS),
    ),
    "jmmmu": Metric(
        "jmmmu",
        "accuracy by JMMMU's answer parsing, MMMU's made for Japanese; an answer that names no option counts as a guess; "
        "no language gate",
        partial(ChoiceAccuracy, JMMMU_ANSWERS),
    ),
}
BUILT_IN: Mapping[str, BuiltIn] = {
    "ja-vlm-bench-in-the-wild": JA_VLM_BENCH_IN_THE_WILD,
    "ja-vg-vqa-500": JA_VG_VQA_500,
    "japanese-heron-bench": JAPANESE_HERON_BENCH,
    "jmmmu": JMMMU,
    "mmmu": MMMU,
    "mgsm-ja": MGSM_JA,
    "elyza-tasks-100": ELYZA_TASKS_100,
}
PRESETS: Mapping[str, Preset] = {
    "sakana": SAKANA,
    "colab-2024": COLAB_2024,
    "evollm-jp": EVOLLM_JP,
    "jmmmu": JMMMU_PUBLISHED,
    "mmmu": MMMU_PUBLISHED,
}
QUESTION_FILES = ("questions.jsonl", "questions.parquet")
"""What people call a file of questions; the first is what `vlmerge tasks new` calls it."""
DEFAULT_METRIC = "char_rougeL"
"""Where neither the run nor the data set names one: it needs no language."""

HUB_NAME = re.compile(r"hf:(?P<repository>[^/:@\s]+/[^/:@\s]+)(?::(?P<configs>[^:@\s]+))?(?:@(?P<revision>\S+))?")


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
        if spec.preset is not None:
            preset_named(spec.preset, f"{begin}{key}.preset")
        if metric_name(spec, preset) != JUDGE:
            metric_of(spec, preset, f"{begin}{key}.metric")
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
    return None if is_here(spec) or spec.name in BUILT_IN or spec.name.startswith("hf:") else spec.name


def metric_of(spec: TaskSpec, preset: str | None, where: str = "metric") -> Metric:
    """What scores a task, see `metric_name`; raises TaskError where there is no such metric."""
    return metric_named(metric_name(spec, preset), where)


def metric_name(spec: TaskSpec, preset: str | None) -> str:
    """`judge` where a task has one; else its own metric, its preset's, the run's preset's, the data set's, or the default."""
    if spec.judge is not None:
        return JUDGE
    named = spec.preset or preset
    protocol = preset_named(named) if named else None
    definition = BUILT_IN.get(spec.name)
    chosen = protocol or definition
    return spec.metric or (chosen.metric if chosen else DEFAULT_METRIC)


def metric_named(name: str, where: str = "metric") -> Metric:
    """The metric of that name; raises TaskError naming the nearest one."""
    if name == JUDGE and JUDGE not in METRICS:
        raise TaskError(
            "a task's answers are marked by a judge, and none is there",
            where=where,
            expected="another model that reads question, reference and answer",
            found="metric: judge, and no judge",
            remedy=f"name a judge, or another metric: `metric: {DEFAULT_METRIC}`, which is not what published tables show",
        )
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
            hf:org/name[:configuration[,configuration…]][@revision]. `path` is a copy of a built-in or hub data set on this
            machine, with the same columns.
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
    name = task_name(spec)
    if spec.judge is not None:
        prompt = judge_prompt(spec.judge, spec.name, f"task {name!r}")
        source, questions = task_questions(spec, preset=preset, pictures=pictures, commits=commits)
        return judged_task(name, source, questions, spec.judge, prompt)
    metric = metric_of(spec, preset, f"task {spec.name!r}, metric")
    source, questions = task_questions(spec, preset=preset, pictures=pictures, commits=commits)
    return ReferenceTask(
        name=name,
        metric=metric.name,
        metric_description=metric.description,
        source=source,
        asked=questions,
        scorer=metric.load(),
    )


def task_questions(
    spec: TaskSpec, *, preset: str | None = None, pictures: Pictures | None = None, commits: Commits | None = None
) -> tuple[str, tuple[Question, ...]]:
    """Where the questions of a task that is not lm-eval's come from, and these, whatever scores them; see `load_task`."""
    named = spec.preset or preset
    protocol = preset_named(named) if named else None
    definition = BUILT_IN.get(spec.name)
    table = _open(spec, definition, commits)
    reading = Reading(
        task=task_name(spec),
        fields={**(definition.fields if definition else {}), **spec.fields},
        nested=definition.nested if definition else None,
        first_only=bool(protocol and protocol.first_question_per_image),
        kinds=spec.kinds or (),
        limit=spec.limit,
        pictures={} if pictures is None else pictures,
        form=definition.form if definition else None,
    )
    return table.source, read_questions(table, reading)


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


def is_here(spec: TaskSpec) -> bool:
    """Whether a task's questions can only be meant to be on this machine, be they there or not."""
    return spec.path is not None or _looks_local(spec.name) or Path(spec.name).exists()


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
    configs = _configs(spec, definition)
    local = spec.path or (spec.name if definition is None and hub is None else None)
    if local is not None:
        location = Path(local)
        if location.is_dir():
            if spec.path is None:
                _refuse_folder_of_files(location)
            return open_dataset(str(location), split=spec.split, configs=configs, default_split=default_split)
        if spec.path or location.exists() or _looks_local(local):
            if spec.split is not None and definition is None:
                raise TaskError(
                    "a file of questions has no splits",
                    where=f"task {spec.name!r}",
                    expected="`split` with a data set: a built-in task, hf:org/name, or a folder",
                    found=f"split: {spec.split}",
                    remedy="take it out; `limit` and `kinds` choose among the questions of a file",
                )
            return open_file(location)
        raise _unknown_task(spec.name)
    if definition:
        repository, revision = definition.repository, None
    else:
        assert hub is not None
        repository, revision = hub["repository"], hub["revision"]
    return open_dataset(
        repository, split=spec.split, configs=configs, revision=revision, default_split=default_split, commits=commits
    )


def _refuse_folder_of_files(folder: Path) -> None:
    """Of `vlmerge tasks new`, say: a reader of data sets would take the pictures alone."""
    file = next((folder / name for name in QUESTION_FILES if (folder / name).is_file()), None)
    if file is not None:
        raise TaskError(
            "this folder is no data set: it holds a file of questions",
            where=str(folder),
            expected="a file of questions, or a folder with a data set",
            found=file.name,
            remedy=f"name the file: {file}",
        )


def _configs(spec: TaskSpec, definition: BuiltIn | None) -> tuple[str, ...]:
    """The configurations of a data set that a task reads: a built-in's, by its `kinds`; those that a hub name lists."""
    if definition is None:
        hub = HUB_NAME.fullmatch(spec.name)
        return tuple(hub["configs"].split(",")) if hub and hub["configs"] else ()
    if len(definition.configs) < 2 or not spec.kinds:
        return definition.configs
    for kind in spec.kinds:
        if kind not in definition.configs:
            raise _unknown("kind of questions", kind, definition.configs, f"task {spec.name!r}, kinds")
    return tuple(config for config in definition.configs if config in spec.kinds)


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
