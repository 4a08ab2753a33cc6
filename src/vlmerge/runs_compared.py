"""Several finished runs in one table: their winners on the holdout questions that all of them have, paired by picture.

What is one question is decided by its content (id, text, references, pictures), not by names of tasks or files. Intervals and
tables are those of `side_by_side.py`, which compares systems wherever their answers are from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vlmerge.atomic import write_text
from vlmerge.errors import RunFolderError
from vlmerge.evaluations import Evaluation
from vlmerge.report.comparison_page import comparison_page
from vlmerge.report.phrases import read_phrases
from vlmerge.run_folder import readable_store
from vlmerge.side_by_side import Comparison, adjusted, compare_results
from vlmerge.statistics import LEVEL
from vlmerge.store import QuestionRecord, Store, TaskRecord

if TYPE_CHECKING:
    from vlmerge.report.phrases import Language


MADE = b'<meta name="generator" content="vlmerge report">'
"""What a page of a comparison says of itself."""

Note = tuple[str, Mapping[str, object]]


@dataclass(frozen=True)
class RunsCompared:
    """The tables, and what one should know before believing them.

    Attributes:
        row: The row of every run that is compared.
        tables: One for each holdout task of the first run that all share questions of.
        told: Where prompts or decoding differ, which holdouts are contaminated or were looked at before, what is not shared: as
            keys of the report's phrases with their values.
    """

    row: str
    tables: tuple[Comparison, ...]
    told: tuple[Note, ...]

    @property
    def notes(self) -> list[str]:
        """The same in English."""
        return self._said("en")

    def _said(self, lang: Language) -> list[str]:
        say = read_phrases(lang)
        return list(dict.fromkeys(say(f"runs.note.{key}", **values) for key, values in self.told))

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"row": self.row, "tables": [table.plain() for table in self.tables], "notes": self.notes}

    def page(self, lang: Language = "en") -> str:
        """As an HTML page that holds everything it shows."""
        return comparison_page(self.row, [table.plain() for table in self.tables], self._said(lang), LEVEL, lang)


@dataclass(frozen=True)
class _Run:
    """What is read of a run: its name, and of each holdout task its record and its answers by content."""

    path: Path
    name: str
    tasks: Mapping[str, tuple[TaskRecord, dict[str, Mapping[str, Any]]]]
    notes: tuple[Note, ...]


def compare_runs(folders: Sequence[Path], row: str = "winner") -> RunsCompared:
    """Compares finished runs; differences are to the first.

    Args:
        folders: Their folders, two or more.
        row: The row of each that is compared: `winner`, `simple`, `global`, `host`, …

    Raises:
        RunFolderError: No run, or one that is not finished or has no holdout or no such row; no question in common.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise RunFolderError(
            "a run is compared with itself",
            where=", ".join(map(str, folders)),
            expected="different run folders",
            remedy="name each folder once",
        )
    runs = [_read(folder, row) for folder in folders]
    names = [run.name for run in runs]
    shown = [name if names.count(name) == 1 else str(run.path) for name, run in zip(names, runs, strict=True)]
    tables: list[Comparison] = []
    notes = [note for run in runs for note in run.notes]
    unlike: list[Note] = []
    for task, (record, answers) in runs[0].tasks.items():
        chosen: list[tuple[TaskRecord, dict[str, Mapping[str, Any]]]] = [(record, answers)]
        for run, name in zip(runs[1:], shown[1:], strict=True):
            there = _counterpart(answers, run)
            if there is None:
                unlike.append(("unasked", {"task": task, "run": name}))
            elif there[0].metric != record.metric:
                unlike.append(("metric", {"task": task, "run": name, "theirs": there[0].metric, "ours": record.metric}))
            else:
                chosen.append(there)
                notes += _differing(task, (shown[0], record, answers), (name, *there))
        if len(chosen) == len(runs) and any(all(key in found for _, found in chosen) for key in answers):
            results = [_evaluation(name, one, found) for name, (one, found) in zip(shown, chosen, strict=True)]
            tables.append(compare_results(task, results, list(folders)))
    if not tables:
        say = read_phrases("en")
        raise RunFolderError(
            "these runs share no holdout questions",
            where=", ".join(map(str, folders)),
            expected="questions of one id, text, references and pictures, scored by one metric, in each holdout",
            found="; ".join(say(f"runs.note.{key}", **values) for key, values in unlike) or "none that is in all of them",
            remedy="run them with one holdout; or keep models' answers with `vlmerge evaluate … --out` and `--compare` those",
        )
    return RunsCompared(row, tuple(adjusted(tables)), (*notes, *unlike))


def write_page(path: Path, page: str) -> None:
    """Writes the page of a comparison; its folder is made.

    Raises:
        RunFolderError: There is another file already, or it cannot be written; nothing was touched.
    """
    if path.exists() and MADE not in path.read_bytes()[:4000]:
        raise RunFolderError(
            "there is a file already, and it is no page of a comparison",
            where=f"--out {path}",
            expected="a new file, or a page that was written before",
            found=f"{path.stat().st_size} bytes of something else",
            remedy="name another file; this one was not touched",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, page)
    except OSError as error:
        raise RunFolderError(
            "the page cannot be written there", where=f"--out {path}", found=str(error), remedy="name another place"
        ) from error


def _read(folder: Path, row: str) -> _Run:
    with Store.read_only(readable_store(folder)) as store:
        standing = cast("Mapping[str, int]", store.get("standing") or {})
        if not store.get("finished"):
            trials = store.next_trial() - 1
            raise _refused(
                "this run is not finished",
                folder,
                "a finished run",
                f"{trials} trials, no end",
                "`vlmerge evolve` goes on with it",
            )
        if row not in standing:
            raise _refused(f"this run has no row {row!r}", folder, ", ".join(standing), row, "name one of these with --row")
        tasks = {task.task: (task, _answers(store, task, standing[row])) for task in store.tasks("holdout")}
        tasks = {name: found for name, found in tasks.items() if found[1]}
        if not tasks:
            raise _refused(
                "this run has no holdout",
                folder,
                "questions that its search never saw",
                "none",
                "only a holdout's questions chose nothing: name one in the run file, and search again",
            )
        name = str(store.get("name") or folder.absolute().name)
        notes: list[Note] = []
        if store.get("contaminated"):
            notes.append(("contaminated", {"run": name, "findings": "; ".join(map(str, store.get("contaminated")))}))
        views = int(store.get("holdout_views") or 0)
        if views > 1:
            notes.append(("views", {"run": name, "count": views}))
        return _Run(folder, name, tasks, tuple(notes))


def _answers(store: Store, task: TaskRecord, trial: int) -> dict[str, Mapping[str, Any]]:
    """Content of a question → its entry as an evaluation has it, in the order of the questions."""
    given = {answer.question: answer for answer in store.answers(trial, "holdout", task.task)}
    return {
        _content(question): {
            "id": _content(question),
            "question": question.text,
            "references": question.references,
            "answer": given[question.question].text,
            "score": given[question.question].score,
            "group": question.group,
        }
        for question in store.questions("holdout", task.task)
        if question.question in given
    }


def _content(question: QuestionRecord) -> str:
    parts = (question.question, question.text, *question.references, "", *question.pictures)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _counterpart(answers: Mapping[str, Any], run: _Run) -> tuple[TaskRecord, dict[str, Mapping[str, Any]]] | None:
    """The task of a run that has most of these questions; None: none has any."""
    best = max(run.tasks.values(), key=lambda found: len(answers.keys() & found[1].keys()))
    return best if answers.keys() & best[1].keys() else None


_Asked = tuple[str, TaskRecord, Mapping[str, Mapping[str, Any]]]


def _differing(task: str, ours: _Asked, theirs: _Asked) -> list[Note]:
    """What of the protocol is not the same: decoding; and the example prompt, where both are of the same question."""
    (our_name, our_task, our_answers), (name, their_task, their_answers) = ours, theirs
    found: list[Note] = []
    names = {"task": task, "first": our_name, "run": name}
    if our_task.decoding != their_task.decoding:
        found.append(("decoding", {**names, "ours": our_task.decoding, "theirs": their_task.decoding}))
    same = next(iter(our_answers)) == next(iter(their_answers))
    if same and our_task.prompt != their_task.prompt:
        found.append(("prompts", {**names, "ours": repr(our_task.prompt), "theirs": repr(their_task.prompt)}))
    return found


def _evaluation(name: str, task: TaskRecord, answers: Mapping[str, Mapping[str, Any]]) -> Evaluation:
    return Evaluation(
        model=name,
        task=task.task,
        metric=task.metric,
        metric_description=f"{task.metric}, 0 to 100",
        score=0.0,
        low=None,
        high=None,
        level=LEVEL,
        questions=len(answers),
        decoding=task.decoding,
        prompt=task.prompt,
        source=task.source,
        answers=tuple(answers.values()),
    )


def _refused(what: str, folder: Path, expected: str, found: str, remedy: str) -> RunFolderError:
    return RunFolderError(what, where=str(folder), expected=expected, found=found, remedy=remedy)
