"""The command line: parse, call a verb, render. Exit codes: 0 done, 1 a bug, 2 the user can mend it, 130 interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmerge.cli_evaluate import evaluate
from vlmerge.cli_options import Device, DeviceOption, Json, SearchPath, example, refuse_idle, show_lists
from vlmerge.cli_tasks import tasks_app
from vlmerge.errors import ConfigError
from vlmerge.exits import run_and_exit

if TYPE_CHECKING:
    pass

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


class LoggerName(StrEnum):
    """Where a run can be watched besides."""

    wandb = "wandb"
    tensorboard = "tensorboard"
    mlflow = "mlflow"


LangOption = Annotated[Lang, typer.Option(help="Language of the page.")]
PortOption = Annotated[
    int | None, typer.Option(help="Port on 127.0.0.1; 0: any; default: the first free one.", min=0, max=65535)
]
BrowserOption = Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from vlmerge import __version__

        print(f"vlmerge {__version__}")
        raise typer.Exit


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


@app.command(epilog=example("vlmerge check recipe.yaml", "vlmerge check recipe.yaml --deep", "vlmerge check run.yaml --json"))
def check(
    file: Annotated[Path, typer.Argument(metavar="RECIPE|RUN.yaml", help="A recipe or a run.")],
    out: Annotated[Path | None, typer.Option(help="A run's folder, as for `vlmerge evolve`.")] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read a sample of the weights: do the models share an ancestor?")
    ] = False,
    task_search_path: SearchPath = None,
    as_json: Json = False,
) -> None:
    """What would pair, memory, disk, licences; for a run also stages, baselines, questions, time. Reads headers only.

    With --deep weights are read (and downloaded): how far each source is from the base, or from the host without one.
    """
    from vlmerge.check import recipe_of, render, to_json
    from vlmerge.config.file_kinds import load_either
    from vlmerge.config.run import RunConfig
    from vlmerge.terminal import ByteProgress, console, print_json

    what = load_either(file)
    folder = out or Path("runs") / file.stem
    # What only a run needs is imported for a run only: it takes a tenth of a second.
    if isinstance(what, RunConfig):
        from vlmerge.outlook import check_run

        what = what.searching(map(str, _absolute(task_search_path)))
        result, ahead = check_run(what, folder, name=str(file), progress=ByteProgress())
    else:
        from vlmerge.check import check as look

        result, ahead = look(what, progress=ByteProgress()), None
    screen = console()
    if not as_json:
        screen.print(render(result))
        for line in [] if ahead is None else ahead.lines():
            screen.print(line, markup=False)
    kin = None
    if deep:
        from vlmerge import kinship

        kin = kinship.kinship(recipe_of(what), progress=ByteProgress())
        if not as_json:
            screen.print(kinship.render(kin))
    if as_json:
        more = [each.plain() for each in [ahead] if each is not None]
        print_json(to_json(result) | (more[0] if more else {}) | ({} if kin is None else {"deep": kin.plain()}))
    if ahead is not None:
        from vlmerge.plan import check_room

        check_room(folder, result.output_bytes)


@app.command(epilog=example("vlmerge merge recipe.yaml merged-model"))
def merge(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="A mergekit config in which any model may be a VLM.")],
    out: Annotated[Path, typer.Argument(help="Folder to make; absent or empty.")],
) -> None:
    """One merge, to disk, with a model card; verified before the folder gets its name."""
    from vlmerge.carded import merge_with_card
    from vlmerge.config.file_kinds import load_only_recipe
    from vlmerge.terminal import ByteProgress, console
    from vlmerge.types import size

    summary = merge_with_card(load_only_recipe(recipe), out, progress=ByteProgress())
    screen = console()
    for note in summary.notes:
        screen.print(f"note: {note}", markup=False)
    kept = "" if not summary.kept else f", {summary.kept} kept from the host"
    screen.print(
        f"{summary.merged} tensors merged{kept}; {size(summary.bytes)} in {summary.seconds:.1f} s: {summary.out}", markup=False
    )
    screen.print(summary.verified_line(), markup=False)
    screen.print(f"terms of its parents together: {summary.terms} (`vlmerge check` lists them)", markup=False)


@app.command(epilog=example("vlmerge evolve run.yaml", "vlmerge evolve run.yaml --out /content/drive/MyDrive/runs/first",
                            "vlmerge evolve run.yaml --log tensorboard"))  # fmt: skip
def evolve(
    run: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="What to merge, what to search, which questions.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/ and the name of the file.")] = None,
    task_search_path: SearchPath = None,
    log: Annotated[
        list[LoggerName] | None, typer.Option(help="Where to watch it besides, as `loggers:` of the run; may be repeated.")
    ] = None,
    lang: LangOption = Lang.en,
) -> None:
    """The search. Run it again with the same folder: it goes on where it stopped.

    What mergekit-evolve has on its command line stands in the run file: max-fevals, sigma0, force-population-size are
    `search: {max_fevals, sigma, population}`, batch-size is `runtime: {batch_size}`, storage-path is --out; the final model is
    always written. docs/search.md has the others.
    """
    _evolve(run, out or Path("runs") / run.stem, lang, task_search_path or [], [name.value for name in log or []])


@app.command(epilog=example("vlmerge watch runs/demo", "vlmerge watch runs --port 8800 --no-browser --lang ja"))
def watch(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder, or a folder of run folders.")],
    port: PortOption = None,
    browser: BrowserOption = True,
    lang: LangOption = Lang.en,
) -> None:
    """A live page of a run, also while another process or a notebook drives it: compare trials, stop it, go on."""
    from vlmerge.web.serving import serve
    from vlmerge.web.watch import Watched

    waiting = Watched(run, lang.value, "").waiting  # A folder that is not there is told before a port is taken.
    serve(
        lambda token: Watched(run, lang.value, token).site(),
        port=port, first_port=8765, browser=browser, say=print, waiting=waiting,
    )  # fmt: skip


@app.command(
    epilog=example("vlmerge report runs/demo", "vlmerge report runs/demo --lang ja", "vlmerge report runs/demo --json",
                   "vlmerge report runs/demo --optuna demo.db")
)  # fmt: skip
def report(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    lang: LangOption = Lang.en,
    optuna: Annotated[
        Path | None,
        typer.Option(metavar="FILE.db", help="Also as a study of Optuna's, for `optuna-dashboard sqlite:///FILE.db`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Figures and report.html, also while the run goes on."""
    from vlmerge.report import results_table, write_report
    from vlmerge.store import STORE_NAME, Store
    from vlmerge.terminal import console

    page = write_report(run, lang=lang.value)
    count = None if optuna is None else _write_study(run, optuna)
    if as_json:
        print((run / "results.json").read_text(encoding="utf-8"))
        return
    screen = console()
    with Store.read_only(run / STORE_NAME) as store:
        screen.print(results_table(store))
    screen.print(f"page: {page}", markup=False)
    if count is not None:
        screen.print(f"study of {count} trials: {optuna} (optuna-dashboard sqlite:///{optuna})", markup=False)


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
    console().print(f"trial {chosen.trial} ({chosen.label}), verified: {out}", markup=False)


@app.command(epilog=example("vlmerge push runs/demo my-name/my-vlm --private", "vlmerge push my-vlm my-name/my-vlm --json"))
def push(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A finished run folder (its winner), or a model that vlmerge wrote.")
    ],
    repository: Annotated[
        str, typer.Argument(metavar="REPO", help="Repository on the hub, user/name; made if it is not there.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Seen by its owner alone.")] = False,
    revision: Annotated[str, typer.Option(help="Branch; made if it is not there.")] = "main",
    licence_checked: Annotated[
        bool, typer.Option("--licence-checked", help="I have read the licences, and they let me: do not refuse.")
    ] = False,
    as_json: Json = False,
) -> None:
    """A model onto the hub, in one commit, compared with the disk afterwards. Log in before with `hf auth login`."""
    from vlmerge.push import pack
    from vlmerge.push import push as run_push
    from vlmerge.terminal import console, print_json

    notes = console(error=True)
    parcel = pack(folder, private=private, licence_checked=licence_checked)
    for line in parcel.lines():
        notes.print(line, markup=False)
    pushed = run_push(parcel, repository, private=private, revision=revision, say=lambda line: notes.print(line, markup=False))
    if as_json:
        print_json(asdict(pushed))
        return
    console().print(f"{pushed.files} files on the hub, each as on this disk: {pushed.address}", markup=False)


app.command(epilog=example("vlmerge evaluate runs/demo/model --task ja-vlm-bench-in-the-wild --out winner.json",
                            "vlmerge evaluate llava-hf/llava-1.5-7b-hf --task my.jsonl --field answer=answer_ja",
                            "vlmerge evaluate my-model --task gsm8k --metric exact_match,strict-match",
                            "vlmerge evaluate --answers llava-jp.jsonl --task my.jsonl --out llava-jp.json",
                            "vlmerge evaluate --endpoint http://127.0.0.1:8000/v1 --task my.jsonl --out server.json",
                            "vlmerge evaluate --compare winner.json llava-jp.json server.json",
                            "vlmerge evaluate my-model --task my.jsonl --judge endpoint=http://127.0.0.1:8000/v1 "
                            "--judge model=gpt-oss"))(evaluate)  # fmt: skip


@app.command(epilog=example('vlmerge ask runs/demo/model picture.png "左に見えるのは何ですか?"',
                            'vlmerge ask runs/demo https://example.org/cat.jpg "What is this?"',
                            "vlmerge ask runs/demo --web"))  # fmt: skip
def ask(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A folder, a run folder (its winner) or a hub id.")],
    image: Annotated[str | None, typer.Argument(help="A picture: a file or an http(s) address.")] = None,
    question: Annotated[str | None, typer.Argument(help="In any language.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.", min=1)] = 256,
    temperature: Annotated[float, typer.Option(help="0: always the same answer.", min=0)] = 0.0,
    device: DeviceOption = Device.auto,
    as_json: Json = False,
    web: Annotated[bool, typer.Option("--web", help="A page to ask on; of a run folder: winner, host, best baseline.")] = False,
    beside: Annotated[list[str] | None, typer.Option(help="With --web: another model beside it; may be repeated.")] = None,
    run: Annotated[Path | None, typer.Option(metavar="DIR", help="With --web: a run's models beside it.")] = None,
    port: PortOption = None,
    browser: BrowserOption = True,
    lang: LangOption = Lang.en,
) -> None:
    """Talk to a model about a picture: one question here, or on a page of your browser (--web)."""
    if web:
        refuse_idle(context, "with --web", ("image", "question", "as_json"))
        decoding = max_new_tokens, temperature
        _ask_on_a_page(model, beside or [], run, decoding, device, port, browser, lang)
        return
    if beside or run is not None:
        raise ConfigError(
            "other models stand beside one on a page only",
            where="vlmerge ask",
            expected="--beside and --run with --web",
            remedy="add --web, or ask each model for itself",
        )
    refuse_idle(context, "without --web", ("port", "browser", "lang"))
    if image is None or question is None:
        raise ConfigError(
            "a picture and a question are missing" if image is None else "the question is missing",
            where="vlmerge ask",
            expected='MODEL PICTURE "QUESTION", or MODEL --web',
            remedy=f'vlmerge ask {model} picture.png "What is this?"',
        )
    from vlmerge.ask import ask as run_ask
    from vlmerge.config.run import RuntimeSpec
    from vlmerge.terminal import ByteProgress, print_json
    from vlmerge.types import Decoding

    decoding = Decoding(max_new_tokens=max_new_tokens, temperature=temperature)
    runtime = RuntimeSpec(device=device.value)
    answer = run_ask(model, [image], question, decoding, runtime, progress=ByteProgress())
    if as_json:
        print_json({"question": question, "answer": answer.text, "tokens": answer.tokens})
    else:
        print(answer.text)


app.add_typer(tasks_app, name="tasks", epilog=example("vlmerge tasks", "vlmerge tasks --json", "vlmerge tasks new my-task"))


@app.command(epilog=example("vlmerge methods", "vlmerge methods --json"))
def methods(
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table of docs/methods.md, with formulas.")] = False,
) -> None:
    """Merge methods and their parameters."""
    from vlmerge import listings

    if markdown:
        print(listings.methods_table(), end="")
        return
    show_lists([listings.methods()], as_json)


@app.command(epilog=example("vlmerge families", "vlmerge families --json"))
def families(
    as_json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The page docs/families.md, with what stays the host's.")
    ] = False,
) -> None:
    """Model families and their layouts on disk."""
    from vlmerge import listings
    from vlmerge.families_page import families_page

    if markdown:
        print(families_page(), end="")
        return
    show_lists([listings.families()], as_json)


def main(*, own_process: bool = False) -> None:
    """Runs the command line on `sys.argv` and exits; `own_process`: nothing else is done by this process."""
    run_and_exit(app, own_process=own_process)


# ── inside ──


def _evolve(run_file: Path, out: Path, lang: Lang, search_path: Sequence[Path] = (), loggers: Sequence[str] = ()) -> None:
    from vlmerge.config.file_kinds import load_only_run
    from vlmerge.config.run import LoggerSpec
    from vlmerge.tasks.sets import check_run_names
    from vlmerge.terminal import TerminalObserver, print_outcome

    config = load_only_run(run_file).searching(map(str, _absolute(search_path)))
    known = {spec.name for spec in config.loggers}
    more_loggers = [LoggerSpec.model_validate(name) for name in dict.fromkeys(loggers) if name not in known]
    config = config.model_copy(update={"loggers": (*config.loggers, *more_loggers)})
    check_run_names(config, str(run_file))
    # Its imports take seconds: a wrong name in the file is told before.
    from vlmerge.evolve import evolve as run_evolve

    print_outcome(run_evolve(config, out, TerminalObserver(), lang=lang.value), out)


def _write_study(run: Path, file: Path) -> int:
    from vlmerge.optuna_study import write_study
    from vlmerge.store import STORE_NAME, Store

    with Store.read_only(run / STORE_NAME) as store:
        return write_study(store, file)


def _absolute(folders: Sequence[Path] | None) -> list[Path]:
    return [folder.absolute() for folder in folders or []]


def _ask_on_a_page(
    model: str,
    beside: Sequence[str],
    run: Path | None,
    decoding: tuple[int, float],
    device: Device,
    port: int | None,
    browser: bool,
    lang: Lang,
) -> None:
    from vlmerge.config.run import RuntimeSpec
    from vlmerge.terminal import ByteProgress
    from vlmerge.types import Decoding
    from vlmerge.web.chat import Chat
    from vlmerge.web.panel import Panel, model_speaker, run_speakers
    from vlmerge.web.run_list import is_run
    from vlmerge.web.serving import serve

    runtime = RuntimeSpec(device=device.value)
    folder = Path(model).expanduser()
    speakers = run_speakers(folder, runtime) if is_run(folder) else [model_speaker(model, "model", runtime, ByteProgress())]
    speakers += [model_speaker(other, "beside", runtime, ByteProgress()) for other in beside]
    speakers += [] if run is None else run_speakers(run, runtime)
    panel = Panel(speakers)
    generated = Decoding(max_new_tokens=decoding[0], temperature=decoding[1])
    title = folder.absolute().name if folder.exists() else model
    serve(
        lambda token: Chat(panel, title, generated, lang.value, token).site(),
        port=port, first_port=8785, browser=browser, say=print,
    )  # fmt: skip
