"""The command `vlmerge evaluate`: a model, given answers or a server, scored on tasks; and such scores compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vlmerge.cli_options import (
    Device,
    DeviceOption,
    Json,
    SearchPath,
    field_pairs,
    refuse_idle,
)
from vlmerge.errors import ConfigError, UserError

OF_A_SERVER = ("served", "api_key_env", "parallel", "fresh")
OF_LM_EVAL = ("task_search_path", "num_fewshot", "apply_chat_template")
WITHOUT_EFFECT = {
    "a model that runs here": OF_A_SERVER,
    "--answers": (*OF_A_SERVER, *OF_LM_EVAL, "max_new_tokens", "device"),
    "--endpoint": (*OF_LM_EVAL, "device"),
    "--compare": (
        *OF_A_SERVER, *OF_LM_EVAL, "task", "split", "limit", "metric", "field", "preset", "max_new_tokens", "judge", "answers",
        "endpoint", "name", "out", "device",
    ),
}  # fmt: skip
"""What is scored → options that say nothing about it."""


def evaluate(
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]", help="A folder, a run folder (its winner) or a hub id; of --compare: files."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="A built-in task, a file of questions, hf:org/name, or a task of lm-eval; may be repeated."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the data set.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many questions.")] = None,
    metric: Annotated[str | None, typer.Option(help="Default: the task's own.")] = None,
    field: Annotated[list[str] | None, typer.Option(metavar="OURS=THEIRS", help="Field names of one's own data.")] = None,
    preset: Annotated[str | None, typer.Option(help="Protocol of a published experiment: sakana, colab-2024.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest answer.", min=1)] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A key of the block `judge:` (endpoint, model, prompt, …); may be repeated."),
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help='Score given answers, {"id", "answer"} a line; no model is run.')
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask a server that speaks OpenAI's chat protocol; most end in /v1.")
    ] = None,
    served: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="With --endpoint: the model's name there.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --endpoint: the environment variable that holds its key.")
    ] = None,
    parallel: Annotated[int, typer.Option(help="With --endpoint: most requests at a time.", min=1, max=256)] = 8,
    fresh: Annotated[bool, typer.Option("--fresh", help="With --endpoint: ask again what was asked before.")] = False,
    name: Annotated[str | None, typer.Option(help="What results and tables call it.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Keep the results, for --compare.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="One table of the systems in these files of --out.")] = False,
    task_search_path: SearchPath = None,
    num_fewshot: Annotated[int | None, typer.Option(help="Of tasks of lm-eval: examples before each question.")] = None,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", help="Of tasks of lm-eval: in the model's chat template.")
    ] = False,
    device: DeviceOption = Device.auto,
    as_json: Json = False,
) -> None:
    """Score any VLM on a task; or given answers, or a server's; or compare such scores."""
    if compare:
        refuse_idle(context, "with --compare", WITHOUT_EFFECT["--compare"])
        _compare(model or [], as_json)
        return
    if not task:
        raise typer.BadParameter("Missing option '--task'.")
    system = _one_system(model or [], answers, endpoint)
    refuse_idle(context, f"with {system}", WITHOUT_EFFECT[system])
    from vlmerge.evaluations import Evaluation, keeping
    from vlmerge.terminal import ByteProgress, TerminalObserver, console, print_json

    write = None if out is None else keeping(out)
    observer = TerminalObserver()
    kept: list[Evaluation] = []

    def keep(results: Sequence[Evaluation]) -> None:
        kept[:] = results
        if write is not None:
            write(results)
        if not as_json:
            console().print(results[-1].line(), markup=False)

    keys = {"split": split, "limit": limit, "metric": metric, "fields": field_pairs(field or [])}
    keys |= {"num_fewshot": num_fewshot, "apply_chat_template": apply_chat_template or None, "judge": _judge(judge or [])}
    specs = [{"name": each, **keys} for each in task]
    try:
        if answers is not None:
            from vlmerge.elsewhere import evaluate_answers

            evaluate_answers(answers, specs, preset=preset, name=name, observer=observer, keep=keep)
        elif endpoint is not None:
            from vlmerge.elsewhere import evaluate_endpoint

            evaluate_endpoint(
                endpoint,
                served,
                specs,
                preset=preset,
                max_new_tokens=max_new_tokens,
                key_env=api_key_env,
                parallel=parallel,
                fresh=fresh,
                name=name,
                observer=observer,
                keep=keep,
            )
        else:
            from vlmerge.evaluate import evaluate_model

            assert model is not None
            evaluate_model(
                model[0],
                specs,
                preset=preset,
                max_new_tokens=max_new_tokens,
                device=device.value,
                search_path=[str(folder.absolute()) for folder in task_search_path or []],
                name=name,
                observer=observer,
                progress=ByteProgress(),
                keep=keep,
            )
    except (UserError, KeyboardInterrupt):
        if kept and out is not None:
            observer.say(f"{len(kept)} of {len(task)} tasks are finished, and kept: {out}")
        raise
    if as_json:
        print_json([result.plain() for result in kept])
    elif out is not None:
        console().print(f"kept: {out}", markup=False)


# ── inside ──


def _one_system(models: Sequence[str], answers: Path | None, endpoint: str | None) -> str:
    """What is scored; refuses to score nothing, or several things at once."""
    given = [*models, *([f"--answers {answers}"] if answers else []), *([f"--endpoint {endpoint}"] if endpoint else [])]
    if len(given) != 1:
        raise ConfigError(
            "there is nothing to score" if not given else "one system is scored at a time",
            where="vlmerge evaluate",
            expected="a model, --answers FILE.jsonl, or --endpoint URL",
            found=", ".join(given) or "none of them",
            remedy="name one; --out keeps what it scores, and --compare shows several in one table",
        )
    return "--answers" if answers else "--endpoint" if endpoint else "a model that runs here"


def _compare(files: Sequence[str], as_json: bool) -> None:
    from vlmerge.side_by_side import compare
    from vlmerge.terminal import console, print_json

    tables = compare([Path(file) for file in files])
    if as_json:
        print_json([table.plain() for table in tables])
        return
    screen = console()
    for table in tables:
        above, below = table.lines()
        screen.print(above, markup=False)
        screen.print(table.table())
        screen.print(below, markup=False)


def _judge(pairs: Sequence[str]) -> dict[str, object] | None:
    """The block `judge:` from KEY=VALUE; values as YAML reads them, but for those that are text."""
    if not pairs:
        return None
    import yaml

    block: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        try:
            text = key in ("endpoint", "model", "prompt", "api_key_env")
            block[key] = value if text else yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals or not value:
            expected = "KEY=VALUE, e.g. model=gpt-oss or scale=[1,10]"
            raise ConfigError("a key of a judge is not named in full", where="--judge", expected=expected, found=pair)
    return block
