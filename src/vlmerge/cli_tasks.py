"""The commands `vlmerge tasks …`: what is built in; begin a task of one's own, look at it, write it for lm-eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vlmerge.cli_options import (
    FieldOption,
    Json,
    LimitOption,
    MetricOption,
    SearchPath,
    SplitOption,
    example,
    field_pairs,
    show_lists,
)
from vlmerge.errors import ConfigError

TaskArgument = Annotated[str, typer.Argument(metavar="FILE|NAME", help="A file of questions, a built-in task, or hf:org/name.")]
PathOption = Annotated[str | None, typer.Option(help="A copy of a built-in or hub data set on this machine.")]
KindOption = Annotated[list[str] | None, typer.Option(help="Only questions of this kind; may be repeated.")]

tasks_app = typer.Typer(no_args_is_help=False, rich_markup_mode=None)


@tasks_app.callback(invoke_without_command=True)
def tasks(context: typer.Context, as_json: Json = False) -> None:
    """Built-in tasks, metrics, prompts of judges and presets."""
    if context.invoked_subcommand is not None:
        return
    from vlmerge import listings

    show_lists([listings.tasks(), listings.metrics(), listings.judge_prompts(), listings.presets()], as_json)


@tasks_app.command("new", epilog=example("vlmerge tasks new my-task", "vlmerge tasks check my-task/questions.jsonl"))
def new_task(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")]) -> None:
    """Begin a task of your own: example questions, their pictures, and a run file that says what is what."""
    from vlmerge.tasks.template import write_template

    for name in write_template(folder):
        print(folder / name)
    print(f"next: put your own questions in, then  vlmerge tasks check {folder / 'questions.jsonl'}")


@tasks_app.command("check", epilog=example("vlmerge tasks check my-task/questions.jsonl --against my-task/run.yaml",
                                           "vlmerge tasks check ja-vg-vqa-500 --split train --against ja-vlm-bench-in-the-wild",
                                           "vlmerge tasks check my.parquet --field answer=answer_ja --json"))  # fmt: skip
def check_task(
    task: TaskArgument,
    against: Annotated[
        list[str] | None, typer.Option(help="Questions or a run file, to see which pictures stand in both; may be repeated.")
    ] = None,
    path: PathOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    kind: KindOption = None,
    metric: MetricOption = None,
    field: FieldOption = None,
    task_search_path: SearchPath = None,
    as_json: Json = False,
) -> None:
    """Look at questions: how many, about which pictures, how long, what is there twice, what would leak."""
    from vlmerge.config.run import parse_tasks
    from vlmerge.tasks.inspection import RUN_ENDINGS, inspect_task
    from vlmerge.terminal import console, print_json

    if task.endswith(RUN_ENDINGS):
        raise ConfigError("a run is no task", where=task, expected="a file of questions or a task's name",
                          remedy=f"vlmerge check {task}, or name one of its tasks")  # fmt: skip
    (spec,) = parse_tasks([_task_keys(task, path, split, limit, kind, metric, field)], "vlmerge tasks check")
    found = inspect_task(spec, against or [], [str(folder.absolute()) for folder in task_search_path or []])
    if as_json:
        print_json(found.plain())
        return
    for line in found.lines():
        console().print(line, markup=False, highlight=False, soft_wrap=True)


@tasks_app.command("export", epilog=example("vlmerge tasks export ja-vlm-bench-in-the-wild lm-eval/wild --preset sakana",
                                            "vlmerge tasks export my-task/questions.jsonl lm-eval/mine"))  # fmt: skip
def export_task(
    task: TaskArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    name: Annotated[str | None, typer.Option(help="What lm-eval calls it; default: the task's name.")] = None,
    path: PathOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    kind: KindOption = None,
    metric: MetricOption = None,
    field: FieldOption = None,
    preset: Annotated[str | None, typer.Option(help="Protocol of a published experiment.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest answer.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Write a task as one of lm-evaluation-harness, with its questions, pictures and the code of its metric."""
    from vlmerge.config.run import parse_tasks
    from vlmerge.tasks.harness_export import export_asked
    from vlmerge.tasks.sets import ask_tasks, template_of
    from vlmerge.terminal import print_json

    specs = parse_tasks([_task_keys(task, path, split, limit, kind, metric, field)], "vlmerge tasks export")
    (asked,) = ask_tasks(specs, preset=preset, max_new_tokens=max_new_tokens)
    exported = export_asked(asked.task, asked.decoding, template_of(specs, preset), name, folder)
    if as_json:
        print_json(exported.plain())
        return
    for file in exported.files:
        print(folder / file)
    print(f"next: {exported.command}")


# ── inside ──


def _task_keys(
    name: str,
    path: str | None,
    split: str | None,
    limit: int | None,
    kinds: list[str] | None,
    metric: str | None,
    fields: list[str] | None,
) -> dict[str, Any]:
    """A task of the command line as a run file names it."""
    keys = {"name": name, "path": path, "split": split, "limit": limit, "kinds": kinds, "metric": metric}
    return keys | {"fields": field_pairs(fields or [])}
