"""The command line: parse, call a verb, render. Exit codes: 0 done, 1 a bug, 2 the user can mend it, 130 interrupted."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmerge.errors import EXIT_INTERRUPTED, EXIT_USER, ConfigError, UserError

if TYPE_CHECKING:
    from vlmerge.check import CheckResult

app = typer.Typer(
    name="vlmerge",
    help="Evolve a vision-language model by merging, and prove that it got better.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


class Lang(StrEnum):
    """Languages of the page."""

    en = "en"
    ja = "ja"


class Device(StrEnum):
    """Where models run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the model runs.")]
LangOption = Annotated[Lang, typer.Option(help="Language of the page.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from vlmerge import __version__

        print(f"vlmerge {__version__}")
        raise typer.Exit


def example(*lines: str) -> str:
    """Examples for the end of a command's help."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


@app.callback()
def root(
    _version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version)] = False,
) -> None:
    """Evolve a vision-language model by merging, and prove that it got better."""


@app.command(epilog=example("vlmerge demo", "vlmerge demo --out runs/demo --lang ja"))
def demo(out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"), lang: LangOption = Lang.en) -> None:
    """The whole thing on an embedded tiny family: offline, on a laptop CPU, in minutes."""
    run_file = Path(__file__).with_name("demo") / "run.yaml"
    _evolve(run_file, out, lang)


@app.command(epilog=example("vlmerge check recipe.yaml", "vlmerge check run.yaml --json"))
def check(
    file: Annotated[Path, typer.Argument(metavar="RECIPE|RUN.yaml", help="A recipe or a run.")], as_json: Json = False
) -> None:
    """What would pair, what would not, memory, disk, licences. Reads configs and headers only."""
    from vlmerge.check import check as look
    from vlmerge.check import render, to_json
    from vlmerge.plan import check_room
    from vlmerge.terminal import ByteProgress, console

    what = _recipe_or_run(file)
    result = look(what, progress=ByteProgress())
    if result.plan is not None:
        check_room(Path("runs") / file.stem, result.output_bytes)
    questions = _questions(what, result)
    if as_json:
        _print_json(to_json(result) | {"questions": questions})
        return
    screen = console()
    screen.print(render(result))
    for line in questions:
        screen.print(line, markup=False)


@app.command(epilog=example("vlmerge merge recipe.yaml merged-model"))
def merge(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="A mergekit config in which any model may be a VLM.")],
    out: Annotated[Path, typer.Argument(help="Folder to make; absent or empty.")],
) -> None:
    """One merge, to disk."""
    from vlmerge.check import size
    from vlmerge.config.recipe import load_recipe
    from vlmerge.merge import merge as run_merge
    from vlmerge.terminal import ByteProgress, console

    _refuse(recipe, ("merge", "genome", "tasks"), "this is a run, not a recipe", "vlmerge evolve")
    summary = run_merge(load_recipe(recipe), out, progress=ByteProgress())
    screen = console()
    for warning in summary.pairing.warnings:
        screen.print(f"note: {warning}", markup=False)
    kept = "" if not summary.kept else f", {summary.kept} kept from the host"
    screen.print(
        f"{summary.merged} tensors merged{kept}; {size(summary.bytes)} in {summary.seconds:.1f} s: {summary.out}", markup=False
    )


@app.command(epilog=example("vlmerge evolve run.yaml", "vlmerge evolve run.yaml --out /content/drive/MyDrive/runs/first"))
def evolve(
    run: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="What to merge, what to search, which questions.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/ and the name of the file.")] = None,
    lang: LangOption = Lang.en,
) -> None:
    """The search. Run it again with the same folder: it goes on where it stopped."""
    _evolve(run, out or Path("runs") / run.stem, lang)


@app.command(
    epilog=example("vlmerge report runs/demo", "vlmerge report runs/demo --lang ja", "vlmerge report runs/demo --json")
)
def report(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")], lang: LangOption = Lang.en, as_json: Json = False
) -> None:
    """Figures and report.html, also while the run goes on."""
    from vlmerge.report import results_table, write_report
    from vlmerge.store import STORE_NAME, Store
    from vlmerge.terminal import console

    page = write_report(run, lang=lang.value)
    if as_json:
        print((run / "results.json").read_text(encoding="utf-8"))
        return
    screen = console()
    with Store.read_only(run / STORE_NAME) as store:
        screen.print(results_table(store))
    screen.print(f"page: {page}", markup=False)


@app.command(epilog=example("vlmerge export runs/demo my-vlm", "vlmerge export runs/demo trial-17 --trial 17"))
def export(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    out: Annotated[Path, typer.Argument(help="Folder to make; absent or empty.")],
    trial: Annotated[int | None, typer.Option(help="Number of a trial; default: the winner.")] = None,
) -> None:
    """The winner (or any trial) as a checkpoint with a model card."""
    from vlmerge.export import export as run_export
    from vlmerge.terminal import ByteProgress, console

    chosen = run_export(run, out, trial, progress=ByteProgress())
    console().print(f"trial {chosen.trial} ({chosen.label}): {out}", markup=False)


@app.command(epilog=example("vlmerge evaluate runs/demo/model --task ja-vlm-bench-in-the-wild",
                            "vlmerge evaluate llava-hf/llava-1.5-7b-hf --task my.jsonl --field answer=answer_ja"))  # fmt: skip
def evaluate(
    model: Annotated[str, typer.Argument(help="A folder, a run folder (its winner) or a hub id.")],
    task: Annotated[list[str], typer.Option(help="A built-in task, a file of questions, or hf:org/name; may be repeated.")],
    split: Annotated[str | None, typer.Option(help="Split of the data set.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many questions.")] = None,
    metric: Annotated[str | None, typer.Option(help="Default: the task's own.")] = None,
    field: Annotated[list[str] | None, typer.Option(metavar="OURS=THEIRS", help="Field names of one's own data.")] = None,
    preset: Annotated[str | None, typer.Option(help="Protocol of a published experiment: sakana, colab-2024.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest answer.")] = None,
    device: DeviceOption = Device.auto,
    as_json: Json = False,
) -> None:
    """Score any VLM on a task."""
    from vlmerge.evaluate import evaluate_model
    from vlmerge.terminal import ByteProgress, TerminalObserver, console

    specs = [{"name": name, "split": split, "limit": limit, "metric": metric, "fields": _pairs(field or [])} for name in task]
    results = evaluate_model(
        model,
        specs,
        preset=preset,
        max_new_tokens=max_new_tokens,
        device=device.value,
        observer=TerminalObserver(),
        progress=ByteProgress(),
    )
    if as_json:
        _print_json([result.plain() for result in results])
        return
    for result in results:
        console().print(result.line(), markup=False)


@app.command(epilog=example('vlmerge ask runs/demo/model picture.png "左に見えるのは何ですか?"',
                            'vlmerge ask runs/demo https://example.org/cat.jpg "What is this?"'))  # fmt: skip
def ask(
    model: Annotated[str, typer.Argument(help="A folder, a run folder (its winner) or a hub id.")],
    image: Annotated[str, typer.Argument(help="A picture: a file or an http(s) address.")],
    question: Annotated[str, typer.Argument(help="In any language.")],
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 256,
    temperature: Annotated[float, typer.Option(help="0: always the same answer.")] = 0.0,
    device: DeviceOption = Device.auto,
    as_json: Json = False,
) -> None:
    """Talk to a model about a picture."""
    from vlmerge.ask import ask as run_ask
    from vlmerge.config.run import RuntimeSpec
    from vlmerge.terminal import ByteProgress
    from vlmerge.types import Decoding

    decoding = Decoding(max_new_tokens=max_new_tokens, temperature=temperature)
    runtime = RuntimeSpec(device=device.value)
    answer = run_ask(model, [image], question, decoding, runtime, progress=ByteProgress())
    if as_json:
        _print_json({"question": question, "answer": answer.text, "tokens": answer.tokens})
    else:
        print(answer.text)


@app.command(epilog=example("vlmerge tasks", "vlmerge tasks --json"))
def tasks(as_json: Json = False) -> None:
    """Built-in tasks, metrics and presets."""
    from vlmerge.tasks import METRICS, PRESETS, describe_tasks

    described = describe_tasks()
    rows = [(task.name, task.what, ", ".join(task.languages), task.metric, task.licence, task.good_for) for task in described]
    _print_table(("task", "what", "languages", "metric", "licence", "good for"), rows, as_json)
    if not as_json:
        _print_table(("metric", "what it measures"), [(name, metric.description) for name, metric in METRICS.items()], False)
        _print_table(("preset", "protocol"), [(name, preset.description) for name, preset in PRESETS.items()], False)


@app.command(epilog=example("vlmerge methods", "vlmerge methods --json"))
def methods(as_json: Json = False) -> None:
    """Merge methods and their parameters."""
    from vlmerge.config.method_table import METHODS

    rows = [
        (
            spec.name,
            spec.summary,
            spec.base,
            ", ".join(
                f"{parameter.name} ({'required' if parameter.required else parameter.default})"
                for parameter in spec.parameters.values()
                if not parameter.ignored
            ),
            "yes" if spec.available else "not yet",
        )
        for spec in sorted(METHODS.values(), key=lambda spec: not spec.available)
    ]
    _print_table(("method", "what it does", "base", "parameters (default)", "here"), rows, as_json)


@app.command(epilog=example("vlmerge families", "vlmerge families --json"))
def families(as_json: Json = False) -> None:
    """Model families and their layouts on disk."""
    from vlmerge.anatomy import FAMILIES

    rows = [
        (
            family.name,
            ", ".join(family.model_types),
            "yes" if family.is_vlm else "no",
            ", ".join(family.decoders),
            family.summary,
        )
        for family in FAMILIES.values()
    ]
    _print_table(("family", "model_type", "sees", "decoders", "layouts (prefix of the decoder)"), rows, as_json)


def main() -> None:
    """Entry point: turns errors into messages and exit codes."""
    signal.signal(signal.SIGTERM, _interrupt)
    # rich wraps at 80 where it cannot tell the width; logs and pipes should not be cut there.
    if not sys.stdout.isatty():
        os.environ.setdefault("COLUMNS", "140")
    try:
        # Without standalone mode typer gives the code of an exit back; it makes one of Ctrl-C too.
        code = app(standalone_mode=False)
    except UserError as error:
        from vlmerge.terminal import print_error

        print_error(error)
        sys.exit(EXIT_USER)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except Exception as error:
        # Wrong usage (click's errors carry their own exit code and message); anything else is a bug and keeps its traceback.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(EXIT_USER)
    if code == EXIT_INTERRUPTED:
        resumes = sys.argv[1:2] in (["evolve"], ["demo"])
        print(
            f"\ninterrupted. To {'go on' if resumes else 'start over'}: {shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}",
            file=sys.stderr,
        )
    sys.exit(code if isinstance(code, int) else 0)


# ── inside ──


def _evolve(run_file: Path, out: Path, lang: Lang) -> None:
    from vlmerge.config.run import load_run
    from vlmerge.evolve import evolve as run_evolve
    from vlmerge.report import results_table
    from vlmerge.store import STORE_NAME, Store
    from vlmerge.terminal import TerminalObserver, console

    _refuse(run_file, ("merge_method",), "this is a recipe, not a run", "vlmerge merge")
    config = load_run(run_file)
    folder = run_evolve(config, out, TerminalObserver(), lang=lang.value)
    screen = console()
    with Store.read_only(folder / STORE_NAME) as store:
        screen.print(results_table(store))
        line = _ask_line(store, out)
    screen.print(f"page:  {out / 'report.html'}", markup=False)
    screen.print(f"model: {out / 'model'}", markup=False)
    if line:
        screen.print(f"try:   {line}", markup=False)


def _ask_line(store: Any, out: Path) -> str | None:
    """A command that asks the winner one of the run's own questions."""
    for split in ("holdout", "validation", "search"):
        for question in store.questions(split):
            for digest in question.pictures:
                origin = store.picture_origin(digest)
                if Path(origin).is_file():
                    return shlex.join(["vlmerge", "ask", str(out / "model"), origin, question.text])
    return None


def _refuse(file: Path, keys: tuple[str, ...], what: str, command: str) -> None:
    """A file of the other kind gets one clear sentence instead of a list of unknown keys."""
    from vlmerge.config.yaml_file import read_yaml

    found = [key for key in keys if key in read_yaml(file).data]
    if found:
        raise ConfigError(what, where=str(file), found=f"the key `{found[0]}`", remedy=f"use `{command} {file}`")


def _recipe_or_run(file: Path) -> Any:
    from vlmerge.config.recipe import load_recipe
    from vlmerge.config.run import load_run
    from vlmerge.config.yaml_file import read_yaml

    data = read_yaml(file).data
    if "merge" in data or "genome" in data or "tasks" in data:
        return load_run(file)
    return load_recipe(file)


def _questions(what: Any, result: CheckResult) -> list[str]:
    """What a run would ask, one line a task; only local questions are opened, so that a check fetches nothing large."""
    from vlmerge.config.run import RunConfig
    from vlmerge.tasks.sets import check_eyes, load_sets

    if not isinstance(what, RunConfig):
        return []
    specs = [*what.tasks, *(what.validation.tasks or ()), *what.holdout]
    away = [spec.name for spec in specs if not Path(spec.path or spec.name).exists()]
    if away:
        return [f"questions not looked at (they are on the hub): {', '.join(dict.fromkeys(away))}"]
    sets = load_sets(what)
    if not result.host_sees:
        check_eyes(sets, result.host)
    lines = [
        f"{split}: {asked.task.name}, {len(asked.questions)} questions, metric {asked.task.metric}, {asked.decoding.describe()}"
        for split in ("search", "validation", "holdout")
        for asked in sets[split]
    ]
    return [*lines, *(f"CONTAMINATED: {leak}" for leak in sets.leaks)]


def _pairs(fields: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for field in fields:
        ours, equals, theirs = field.partition("=")
        if not equals or not theirs:
            raise ConfigError(
                "a field is not named in full", where="--field", expected="OURS=THEIRS, e.g. question=question_ja", found=field
            )
        pairs[ours] = theirs
    return pairs


def _print_table(heads: tuple[str, ...], rows: list[tuple[str, ...]], as_json: bool) -> None:
    if as_json:
        _print_json([dict(zip(heads, row, strict=True)) for row in rows])
        return
    from rich.table import Table
    from rich.text import Text

    from vlmerge.terminal import console

    table = Table(*heads)
    for row in rows:
        table.add_row(*map(Text, row))
    console().print(table)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
