"""The command line: parse, call a verb, render. Exit codes: 0 done, 1 a bug, 2 the user can mend it, 130 interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmerge.errors import ConfigError
from vlmerge.exits import run_and_exit

if TYPE_CHECKING:
    from vlmerge.config.run import RunConfig
    from vlmerge.listings import Listing
    from vlmerge.side_by_side import Comparison

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


class Device(StrEnum):
    """Where models run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the model runs.")]
SearchPath = Annotated[
    list[Path] | None,
    typer.Option(help="A folder with tasks of lm-eval (their Python code is run); may be repeated."),
]
LangOption = Annotated[Lang, typer.Option(help="Language of the page.")]
TaskArgument = Annotated[str, typer.Argument(metavar="FILE|NAME", help="A file of questions, a built-in task, or hf:org/name.")]
PathOption = Annotated[str | None, typer.Option(help="A copy of a built-in or hub data set on this machine.")]
SplitOption = Annotated[str | None, typer.Option(help="Split of the data set.")]
LimitOption = Annotated[int | None, typer.Option(help="Only the first so many questions.")]
KindOption = Annotated[list[str] | None, typer.Option(help="Only questions of this kind; may be repeated.")]
MetricOption = Annotated[str | None, typer.Option(help="Default: the task's own.")]
FieldOption = Annotated[list[str] | None, typer.Option(metavar="OURS=THEIRS", help="Field names of one's own data.")]

PortOption = Annotated[
    int | None, typer.Option(help="Port on 127.0.0.1; 0: any; default: the first free one.", min=0, max=65535)
]
BrowserOption = Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")]


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
    from vlmerge.check import check as look
    from vlmerge.check import recipe_of, render, to_json
    from vlmerge.config.file_kinds import load_either
    from vlmerge.config.run import RunConfig
    from vlmerge.terminal import ByteProgress, console, print_json

    what = load_either(file)
    # What only a run needs is imported for a run only: it takes a tenth of a second.
    if isinstance(what, RunConfig):
        from vlmerge.tasks.sets import check_run_names

        what = _searching(what, task_search_path or [])
        check_run_names(what, str(file))
    result = look(what, progress=ByteProgress())
    folder = out or Path("runs") / file.stem
    ahead = None
    if isinstance(what, RunConfig):
        from vlmerge.outlook import outlook

        ahead = outlook(what, result, folder)
        result = replace(result, plan=ahead.plan)
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
    for warning in summary.warnings:
        screen.print(f"note: {warning}", markup=False)
    if summary.zeroed:
        note = f"note: zero, as the recipe's weights say: {summary.zeroed[0]}"
        screen.print(note + (f" and {len(summary.zeroed) - 1} more" if len(summary.zeroed) > 1 else ""), markup=False)
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

    Watched(run, lang.value, "")  # A folder that is not there is told before a port is taken.
    serve(lambda token: Watched(run, lang.value, token).site(), port=port, first_port=8765, browser=browser, say=print)


@app.command(
    epilog=example("vlmerge report runs/demo", "vlmerge report runs/demo --lang ja", "vlmerge report runs/demo --json",
                   "vlmerge report runs/demo --optuna demo.db", "vlmerge report runs/first runs/second --out comparison.html")
)  # fmt: skip
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="DIR...", help="A run folder; or several, to compare.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of several runs: also a page, as one HTML file.", dir_okay=False)
    ] = None,
    row: Annotated[
        str, typer.Option(help="Of several runs: which row of each is compared: winner, simple, global, host, …")
    ] = "winner",
    lang: LangOption = Lang.en,
    optuna: Annotated[
        Path | None,
        typer.Option(metavar="FILE.db", help="Also as a study of Optuna's, for `optuna-dashboard sqlite:///FILE.db`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Figures and report.html, also while the run goes on; several finished runs in one table.

    Several runs are compared on the holdout questions that all of them share: each with the first, paired, by picture.
    """
    if len(runs) > 1:
        _compare_runs(runs, row, out, optuna, lang, as_json)
        return
    if out is not None or row != "winner":
        raise ConfigError(
            "one run has its page in its folder",
            where="vlmerge report",
            expected="two or more run folders with --out or --row",
            found=str(runs[0]),
            remedy="name the other runs, too, or leave the option out",
        )
    run = runs[0]
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


@app.command(epilog=example("vlmerge ablate runs/demo", "vlmerge ablate runs/demo --json"))
def ablate(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="A finished run folder.")],
    lang: LangOption = Lang.en,
    as_json: Json = False,
) -> None:
    """What the winner's numbers are good for: asks it again with each group's set back, and without each model.

    Each of these merges is asked the validation questions; what was asked before is not asked again. Intervals are paired, and
    the page in the run folder shows them beside the shares that the search itself tells.
    """
    from vlmerge.ablation import ablate as run_ablate
    from vlmerge.terminal import TerminalObserver, console, print_json

    found = run_ablate(run, TerminalObserver(), lang=lang.value)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    screen = console()
    screen.print("minus the winner, points on the validation questions [95 % interval], p adjusted by Holm:", markup=False)
    for one in found:
        screen.print(f"  {one.line()}", markup=False)
    screen.print(f"page: {run / 'report.html'}", markup=False)


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


@app.command(epilog=example("vlmerge evaluate runs/demo/model --task ja-vlm-bench-in-the-wild --out winner.json",
                            "vlmerge evaluate llava-hf/llava-1.5-7b-hf --task my.jsonl --field answer=answer_ja",
                            "vlmerge evaluate my-model --task gsm8k --metric exact_match,strict-match",
                            "vlmerge evaluate --answers llava-jp.jsonl --task my.jsonl --out llava-jp.json",
                            "vlmerge evaluate --endpoint http://127.0.0.1:8000/v1 --task my.jsonl --out server.json",
                            "vlmerge evaluate --compare winner.json llava-jp.json server.json",
                            "vlmerge evaluate my-model --task my.jsonl --judge endpoint=http://127.0.0.1:8000/v1 "
                            "--judge model=gpt-oss"))  # fmt: skip
def evaluate(
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
        _compare(model or [], as_json)
        return
    if not task:
        raise typer.BadParameter("Missing option '--task'.")
    _one_system(model or [], answers, endpoint)
    from vlmerge.evaluations import require_place, write_evaluations
    from vlmerge.terminal import ByteProgress, TerminalObserver, console, print_json

    if out is not None:
        require_place(out)
    observer = TerminalObserver()
    keys = {"split": split, "limit": limit, "metric": metric, "fields": _pairs(field or [])}
    keys |= {"num_fewshot": num_fewshot, "apply_chat_template": apply_chat_template or None, "judge": _judge(judge or [])}
    specs = [{"name": each, **keys} for each in task]
    if answers is not None:
        from vlmerge.elsewhere import evaluate_answers

        results = evaluate_answers(answers, specs, preset=preset, name=name, observer=observer)
    elif endpoint is not None:
        from vlmerge.elsewhere import evaluate_endpoint

        results = evaluate_endpoint(
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
        )
    else:
        from vlmerge.evaluate import evaluate_model

        assert model is not None
        results = evaluate_model(
            model[0],
            specs,
            preset=preset,
            max_new_tokens=max_new_tokens,
            device=device.value,
            search_path=[str(folder.absolute()) for folder in task_search_path or []],
            name=name,
            observer=observer,
            progress=ByteProgress(),
        )
    if as_json:
        print_json([result.plain() for result in results])
    else:
        for result in results:
            console().print(result.line(), markup=False)
    if out is not None:
        write_evaluations(out, results)
        if not as_json:
            console().print(f"kept: {out}", markup=False)


@app.command(epilog=example('vlmerge ask runs/demo/model picture.png "左に見えるのは何ですか?"',
                            'vlmerge ask runs/demo https://example.org/cat.jpg "What is this?"',
                            "vlmerge ask runs/demo --web"))  # fmt: skip
def ask(
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


tasks_app = typer.Typer(no_args_is_help=False, rich_markup_mode=None)
app.add_typer(tasks_app, name="tasks", epilog=example("vlmerge tasks", "vlmerge tasks --json", "vlmerge tasks new my-task"))


@tasks_app.callback(invoke_without_command=True)
def tasks(context: typer.Context, as_json: Json = False) -> None:
    """Built-in tasks, metrics, prompts of judges and presets."""
    if context.invoked_subcommand is not None:
        return
    from vlmerge import listings

    _list([listings.tasks(), listings.metrics(), listings.judge_prompts(), listings.presets()], as_json)


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
    _list([listings.methods()], as_json)


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
    _list([listings.families()], as_json)


def main(*, own_process: bool = False) -> None:
    """Runs the command line on `sys.argv` and exits; `own_process`: nothing else is done by this process."""
    run_and_exit(app, own_process=own_process)


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
    return keys | {"fields": _pairs(fields or [])}


def _evolve(run_file: Path, out: Path, lang: Lang, search_path: Sequence[Path] = (), loggers: Sequence[str] = ()) -> None:
    from vlmerge.config.file_kinds import load_only_run
    from vlmerge.config.run import LoggerSpec
    from vlmerge.tasks.sets import check_run_names
    from vlmerge.terminal import TerminalObserver, print_outcome

    config = _searching(load_only_run(run_file), search_path)
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


def _searching(config: RunConfig, search_path: Sequence[Path]) -> RunConfig:
    """The run with these folders of lm-eval's tasks beside its own."""
    more = (str(folder.absolute()) for folder in search_path)
    folders = tuple(dict.fromkeys((*config.task_search_path, *more)))
    return config.model_copy(update={"task_search_path": folders})


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


def _one_system(models: Sequence[str], answers: Path | None, endpoint: str | None) -> None:
    """Refuses to score nothing, or several things at once."""
    given = [*models, *([f"--answers {answers}"] if answers else []), *([f"--endpoint {endpoint}"] if endpoint else [])]
    if len(given) != 1:
        raise ConfigError(
            "there is nothing to score" if not given else "one system is scored at a time",
            where="vlmerge evaluate",
            expected="a model, --answers FILE.jsonl, or --endpoint URL",
            found=", ".join(given) or "none of them",
            remedy="name one; --out keeps what it scores, and --compare shows several in one table",
        )


def _compare(files: Sequence[str], as_json: bool) -> None:
    from vlmerge.side_by_side import compare
    from vlmerge.terminal import print_json

    tables = compare([Path(file) for file in files])
    if as_json:
        print_json([table.plain() for table in tables])
        return
    _print_tables(tables)


def _compare_runs(runs: Sequence[Path], row: str, out: Path | None, optuna: Path | None, lang: Lang, as_json: bool) -> None:
    from vlmerge.atomic import write_text
    from vlmerge.runs_compared import compare_runs
    from vlmerge.terminal import console, print_json

    if optuna is not None:
        raise ConfigError(
            "a study of Optuna's is of one run", where="--optuna", expected="one run folder", found=f"{len(runs)}"
        )
    found = compare_runs(runs, row)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, found.page(lang.value))
    if as_json:
        print_json(found.plain())
        return
    screen = console()
    _print_tables(found.tables)
    for note in found.notes:
        screen.print(f"note: {note}", markup=False)
    if out is not None:
        screen.print(f"page: {out}", markup=False)


def _print_tables(tables: Sequence[Comparison]) -> None:
    from vlmerge.terminal import console

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


def _list(listings: Sequence[Listing], as_json: bool) -> None:
    from vlmerge.terminal import print_json, print_listing

    if as_json:
        print_json(listings[0].plain())
        return
    for listing in listings:
        print_listing(listing)


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
