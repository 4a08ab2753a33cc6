"""vlmerge from Python, as short as the command line: the names that `import vlmerge` gives.

A verb loads what it needs when it is called. Types are the person's: paths, dicts, pictures; results are in `outcomes.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Union, overload

if TYPE_CHECKING:
    from vlmerge.ask import Shown
    from vlmerge.bench import Observer
    from vlmerge.config.recipe import Recipe
    from vlmerge.config.run import RunConfig
    from vlmerge.evaluations import Evaluation
    from vlmerge.loaded import Model
    from vlmerge.outcomes import Checked, Exported, Merged, Run

AnyPath: TypeAlias = Union[str, "os.PathLike[str]"]
AnyRun: TypeAlias = Union[str, "os.PathLike[str]", Mapping[str, Any], "RunConfig"]
"""A run file, the same as a dict (local paths in it relative to the working directory), or a `RunConfig`."""
AnyRecipe: TypeAlias = Union[str, "os.PathLike[str]", Mapping[str, Any], "Recipe"]
"""A recipe file, the same as a dict, or a `Recipe`."""
AnyTask: TypeAlias = Union[str, "os.PathLike[str]", Mapping[str, Any]]
"""A task by its name or file, or as in a run file."""
Tasks: TypeAlias = list[Any] | tuple[AnyTask, ...]
"""Several."""
Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Lang: TypeAlias = Literal["en", "ja"]
Watching: TypeAlias = Union["Observer", Literal["auto"], None]
"""Who is told how far it is: `auto`, the terminal or the notebook; None, nobody; or an observer of one's own."""


def evolve(
    run: AnyRun,
    out: AnyPath | None = None,
    *,
    task_search_path: AnyPath | Sequence[AnyPath] = (),
    lang: Lang = "en",
    observer: Watching = "auto",
) -> Run:
    """The search. Called again with the same folder it goes on where it stopped; on a finished run it gives the figures.

    Args:
        run: What to merge, what to search, which questions: a run file, a dict, or a `RunConfig`.
        out: The run folder; of a file by default runs/ and the file's name.
        task_search_path: Folders with tasks of lm-eval (their Python code is run).
        lang: Language of the page.
        observer: Who watches; None: nobody.

    Raises:
        UserError: Anything that the person can mend; what is finished stays in the folder.
    """
    from vlmerge import given
    from vlmerge.observers import observer_of
    from vlmerge.outcomes import Run
    from vlmerge.tasks.sets import check_run_names

    folders = given.folders_of(task_search_path, "vlmerge.evolve, `task_search_path`")
    config = given.run_of(run, "vlmerge.evolve, `run`").searching(folders)
    folder = given.run_folder_of(run, out, "vlmerge.evolve, `out`")
    language, watching = given.one_of(lang, given.LANGUAGES, "vlmerge.evolve, `lang`"), observer_of(observer)
    check_run_names(config, given.name_of(run))
    # Its imports take seconds: a wrong name in the file is told before.
    from vlmerge.evolve import evolve as run_evolve

    return Run.read(run_evolve(config, folder, watching, lang=language), lang)


def merge(recipe: AnyRecipe, out: AnyPath, *, observer: Watching = "auto") -> Merged:
    """One merge, to disk, with a model card; verified before the folder gets its name.

    Args:
        recipe: A mergekit config in which any model may be a VLM: a file, a dict, or a `Recipe`.
        out: The folder to make; absent or empty.
        observer: Who watches; None: nobody.

    Raises:
        UserError: Models that cannot be opened or do not fit together, values that give no result, no room.
    """
    from vlmerge import given
    from vlmerge.carded import merge_with_card
    from vlmerge.observers import progress_of
    from vlmerge.outcomes import Merged

    chosen, folder = given.recipe_of(recipe, "vlmerge.merge, `recipe`"), given.path_of(out, "vlmerge.merge, `out`")
    summary = merge_with_card(chosen, folder, progress=progress_of(observer))
    return Merged(
        path=summary.out,
        merged=summary.merged,
        kept=summary.kept,
        bytes=summary.bytes,
        seconds=summary.seconds,
        terms=summary.terms,
        notes=summary.notes,
    )


def check(what: AnyRun | AnyRecipe, out: AnyPath | None = None, *, observer: Watching = "auto") -> Checked:
    """What would pair, memory, disk, licences; for a run also stages, baselines, questions, time. Reads headers only.

    Args:
        what: A recipe or a run: a file, a dict, a `Recipe` or a `RunConfig`.
        out: A run's folder, as for `evolve`.
        observer: Who watches what is downloaded; None: nobody.

    Raises:
        UserError: Models that are missing or do not fit together, questions that cannot be asked, no room for the result.
    """
    from vlmerge import given
    from vlmerge.config.run import RunConfig
    from vlmerge.observers import progress_of
    from vlmerge.outcomes import Checked

    chosen = given.either_of(what, "vlmerge.check, `what`")
    if not isinstance(chosen, RunConfig):
        from vlmerge.check import check as look

        return Checked(look(chosen, progress=progress_of(observer)), None)
    from vlmerge.outlook import check_run
    from vlmerge.plan import check_room

    nameless = out is None and not isinstance(what, str | os.PathLike)
    folder = Path("runs") if nameless else given.run_folder_of(what, out, "vlmerge.check, `out`")
    found, ahead = check_run(chosen, folder, name=given.name_of(what), progress=progress_of(observer))
    check_room(folder, found.output_bytes)
    return Checked(found, ahead)


@overload
def evaluate(
    model: AnyPath,
    task: AnyTask,
    *,
    preset: str | None = None,
    max_new_tokens: int | None = None,
    task_search_path: AnyPath | Sequence[AnyPath] = (),
    device: Device = "auto",
    out: AnyPath | None = None,
    observer: Watching = "auto",
    **keys: Any,
) -> Evaluation: ...
@overload
def evaluate(
    model: AnyPath,
    task: Tasks,
    *,
    preset: str | None = None,
    max_new_tokens: int | None = None,
    task_search_path: AnyPath | Sequence[AnyPath] = (),
    device: Device = "auto",
    out: AnyPath | None = None,
    observer: Watching = "auto",
    **keys: Any,
) -> list[Evaluation]: ...
def evaluate(
    model: AnyPath,
    task: AnyTask | Tasks,
    *,
    preset: str | None = None,
    max_new_tokens: int | None = None,
    task_search_path: AnyPath | Sequence[AnyPath] = (),
    device: Device = "auto",
    out: AnyPath | None = None,
    observer: Watching = "auto",
    **keys: Any,
) -> Evaluation | list[Evaluation]:
    """Scores any VLM, or language model, on tasks.

    Args:
        model: A folder (a run folder stands for its winner) or a hub id.
        task: A built-in task, a file of questions, `hf:org/name`, a task of lm-eval, or a task as in a run file; or several.
        preset: Protocol of a published experiment.
        max_new_tokens: Longest answer.
        task_search_path: Folders with tasks of lm-eval (their Python code is run).
        device: Where the model runs.
        out: A file that keeps the results of every task as soon as it is finished, for `vlmerge evaluate --compare`.
        observer: Who watches; None: nobody.
        keys: Of every task, as in a run file: `limit`, `split`, `metric`, `fields`, `num_fewshot`, `apply_chat_template`, …

    Returns:
        One score with its interval, answers and protocol; of several tasks a list.

    Raises:
        UserError: A model or a task that cannot be used.
    """
    from vlmerge import given
    from vlmerge.evaluate import evaluate_model
    from vlmerge.evaluations import keeping
    from vlmerge.observers import observer_of, progress_of

    found = evaluate_model(
        given.model_of(model, "vlmerge.evaluate, `model`"),
        given.tasks_of(task, keys, "vlmerge.evaluate, `task`"),
        preset=None if preset is None else given.text_of(preset, "vlmerge.evaluate, `preset`", "a preset's name, or None"),
        max_new_tokens=None if max_new_tokens is None else given.whole_of(max_new_tokens, "max_new_tokens", "vlmerge.evaluate"),
        device=given.one_of(device, given.DEVICES, "vlmerge.evaluate, `device`"),
        search_path=given.folders_of(task_search_path, "vlmerge.evaluate, `task_search_path`"),
        observer=observer_of(observer),
        progress=progress_of(observer),
        keep=None if out is None else keeping(given.path_of(out, "vlmerge.evaluate, `out`")),
    )
    return found if isinstance(task, list | tuple) else found[0]


def load(model: AnyPath, *, device: Device = "auto", observer: Watching = "auto") -> Model:
    """A model in memory: `vlmerge.load("runs/demo").ask("picture.png", "…?")`.

    Args:
        model: A folder (a run folder stands for its winner) or a hub id.
        device: Where it runs.
        observer: Who watches what is downloaded; None: nobody.

    Raises:
        CheckpointError: A model that cannot be opened, or that cannot be asked.
    """
    from vlmerge import given
    from vlmerge.config.run import RuntimeSpec
    from vlmerge.loaded import Model
    from vlmerge.observers import progress_of

    runtime = RuntimeSpec(device=given.one_of(device, given.DEVICES, "vlmerge.load, `device`"))
    return Model(given.model_of(model, "vlmerge.load, `model`"), runtime, progress_of(observer))


def ask(
    model: AnyPath,
    image: Shown | Sequence[Shown] | None,
    question: str,
    *,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    device: Device = "auto",
    observer: Watching = "auto",
) -> str:
    """One question to one model; whoever has several loads it once (`load`).

    Args:
        model: A folder (a run folder stands for its winner) or a hub id.
        image: A path, an http(s) address, encoded bytes, a PIL picture; several in a list; None for a question without one.
        question: In any language.
        max_new_tokens: Longest answer, in tokens.
        temperature: 0: always the same answer.
        device: Where the model runs.
        observer: Who watches what is downloaded; None: nobody.

    Raises:
        UserError: A model or a picture that cannot be used.
    """
    from vlmerge import given
    from vlmerge.ask import ask as run_ask
    from vlmerge.config.run import RuntimeSpec
    from vlmerge.observers import progress_of

    answer = run_ask(
        given.model_of(model, "vlmerge.ask, `model`"),
        image,
        given.question_of(question, "vlmerge.ask, `question`"),
        given.decoding_of(max_new_tokens, temperature, 1, "vlmerge.ask"),
        RuntimeSpec(device=given.one_of(device, given.DEVICES, "vlmerge.ask, `device`")),
        progress=progress_of(observer),
    )
    return answer.text


def report(run: AnyPath, *, lang: Lang = "en") -> Run:
    """Figures and report.html, also while the run goes on.

    Args:
        run: A run folder.
        lang: Language of the page.

    Raises:
        RunFolderError: No run there.
    """
    from vlmerge import given
    from vlmerge.outcomes import Run
    from vlmerge.report import write_report

    folder = given.path_of(run, "vlmerge.report, `run`")
    write_report(folder, lang=given.one_of(lang, given.LANGUAGES, "vlmerge.report, `lang`"))
    return Run.read(folder, lang)


def export(run: AnyPath, out: AnyPath, trial: int | None = None, *, observer: Watching = "auto") -> Exported:
    """The winner (or any trial) as a checkpoint with a model card.

    Args:
        run: A run folder.
        out: The folder to make; absent or empty.
        trial: Number of a trial; None: the winner.
        observer: Who watches; None: nobody.

    Raises:
        RunFolderError: No such trial, or no winner yet; a model has changed.
        CheckpointError: A model is gone; the output cannot be written.
    """
    from vlmerge import given
    from vlmerge.export import export as run_export
    from vlmerge.observers import progress_of
    from vlmerge.outcomes import Exported

    source, folder = given.path_of(run, "vlmerge.export, `run`"), given.path_of(out, "vlmerge.export, `out`")
    number = given.trial_of(trial, "vlmerge.export, `trial`")
    chosen = run_export(source, folder, number, progress=progress_of(observer))
    return Exported(folder, chosen.trial, chosen.label)
