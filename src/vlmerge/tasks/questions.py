"""Rows → questions: which field is what, where the pictures lie, and everything that can be wrong with a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from vlmerge.config.problems import nearest
from vlmerge.errors import TaskError
from vlmerge.tasks.rows import Row, Table
from vlmerge.types import Picture, Question

FIELDS = ("id", "image", "images", "question", "answer", "answers", "kind", "context")
"""The names that rows use of themselves, and that `fields:` maps to others."""

Pictures = dict[Path, Picture]
"""Pictures by file, so that questions about one file share one Picture and decode it once."""


@dataclass(frozen=True)
class Reading:
    """How the rows of one task are to be read.

    Attributes:
        task: Name of the task.
        fields: Which column is what, where it is not named as in FIELDS.
        nested: Column that lists several questions with each picture; each entry is laid over its row.
        first_only: Of a nested list, only the first entry counts.
        kinds: Only questions of these kinds; empty for all.
        limit: At most so many questions, the first in the file's order, after the choice of kinds; None for all.
        pictures: Pictures that are already known by file.
    """

    task: str
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    nested: str | None = None
    first_only: bool = False
    kinds: Sequence[str] = ()
    limit: int | None = None
    pictures: Pictures = field(default_factory=dict[Path, Picture], repr=False)


def read_questions(table: Table, reading: Reading) -> tuple[Question, ...]:
    """Questions in the file's order, at least one.

    Args:
        table: Where they are kept.
        reading: How to read them.

    Raises:
        TaskError: a row without question, reference or picture file; two rows with one id; no question left; a `fields:` or
            `kinds` entry that nothing corresponds to.
    """
    check_fields(reading.fields, table.source)
    if reading.limit is not None and reading.limit < 1:
        raise TaskError(
            "a task may not ask anything",
            where=f"{table.source}, limit",
            expected="1 or more",
            found=str(reading.limit),
            remedy="raise it",
        )
    questions: list[Question] = []
    places: dict[str, str] = {}
    kinds_seen: dict[str, None] = {}
    rows_seen = 0
    for number, row in table.rows:
        rows_seen += 1
        for question in _row_questions(table, number, row, reading):
            if question.kind is not None:
                kinds_seen[question.kind] = None
            if reading.kinds and question.kind not in reading.kinds:
                continue
            if question.id in places:
                raise TaskError(
                    "two questions have one id",
                    where=table.place(number),
                    expected="ids that are unique within the task",
                    found=f"id {question.id!r}, which is also that of {places[question.id]}",
                    remedy="change one, or leave `id` out everywhere; rows are then numbered",
                )
            places[question.id] = table.place(number)
            questions.append(question)
            if len(questions) == reading.limit:
                return tuple(questions)
    if not questions:
        wanted, seen = ", ".join(reading.kinds), ", ".join(kinds_seen) or "none"
        raise TaskError(
            "a task has no questions",
            where=table.source,
            expected=f"at least one question{f' of kind {wanted}' if wanted else ''}",
            found=f"{rows_seen} rows{f', of kinds {seen}' if wanted else ''}",
            remedy="choose other kinds" if wanted and rows_seen else "name a file or split that has rows",
        )
    return tuple(questions)


def check_fields(fields: Mapping[str, str], where: str) -> None:
    """Raises TaskError for a key of `fields:` that means nothing, naming the nearest that does."""
    for key in fields:
        if key not in FIELDS:
            near = nearest(key, FIELDS)
            raise TaskError(
                f"`fields:` has an unknown key {key!r}",
                where=where,
                expected=f"one of {', '.join(FIELDS)}",
                found=f"{key}: {fields[key]}",
                remedy=f"write {near!r}" if near else "the key is our name for the field, the value is the file's name for it",
            )


def check_pictures(questions: Sequence[Question]) -> None:
    """Decodes every picture once, and remembers its digest; raises TaskError naming the question of the first broken one."""
    for question in questions:
        for picture in question.pictures:
            try:
                _ = picture.digest
            except TaskError as error:
                raise TaskError(
                    error.what,
                    where=f"{error.where} (question {question.id!r} of task {question.task})",
                    expected=error.expected,
                    found=error.found,
                    remedy=error.remedy,
                ) from error


def _row_questions(table: Table, number: int, row: Row, reading: Reading) -> Iterator[Question]:
    """The one question of a row, or the several of a nested one; all share the row's pictures."""
    place = table.place(number)
    pictures = _pictures(table, place, row, reading)
    if reading.nested is None:
        entries = [row]
    else:
        nested: object = row.get(reading.nested)
        if not isinstance(nested, list):
            raise TaskError(
                "a row has no list of questions",
                where=place,
                expected=f"a list in {reading.nested!r}",
                found=_columns(row),
                remedy="give a copy of the data set with its own columns",
            )
        entries = [row | entry for entry in cast(list[Row], nested)[: 1 if reading.first_only else None]]
    for position, entry in enumerate(entries, start=1):
        fallback = str(number) if reading.nested is None else f"{number}.{position}"
        identity: object = entry.get(reading.fields.get("id", "id"))
        kind: object = entry.get(reading.fields.get("kind", "kind"))
        context: object = entry.get(reading.fields.get("context", "context"))
        yield Question(
            id=fallback if identity is None else str(identity),
            task=reading.task,
            text=_text(entry, reading.fields.get("question", "question"), place, "question"),
            pictures=pictures,
            references=_references(entry, reading.fields, place),
            kind=None if kind is None else str(kind),
            context=None if context is None else str(context),
        )


def _text(row: Row, column: str, place: str, what: str) -> str:
    """The text in a column; raises TaskError where there is none."""
    return _checked_text(row.get(column), column, place, what, row)


def _checked_text(value: object, column: str, place: str, what: str, row: Row) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip() or not _is_unicode(value):
        raise TaskError(
            f"a row has no {what}",
            where=place,
            expected=f"text in {column!r}",
            found=_columns(row) if column not in row else repr(value)[:80],
            remedy=f"fill it in, remove the row, or map the column that holds it: `fields: {{{what}: …}}`",
        )
    return value


def _is_unicode(text: str) -> bool:
    """Whether it can be stored at all: JSON may hold half of a character pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _references(row: Row, fields: Mapping[str, str], place: str) -> tuple[str, ...]:
    column = _present(row, fields, "answers", "answer")
    value: object = row.get(column)
    if not isinstance(value, list):
        return (_checked_text(value, column, place, "answer", row),)
    if not value:
        raise TaskError(
            "a question has no reference answer",
            where=place,
            expected=f"at least one text in {column!r}",
            found="an empty list",
            remedy="fill it in, or remove the row",
        )
    return tuple(_checked_text(answer, column, place, "answer", row) for answer in cast(list[object], value))


def _present(row: Row, fields: Mapping[str, str], several: str, one: str) -> str:
    """The column to take of a pair such as answers and answer: a mapped one first, then the one that is there."""
    for name in (several, one):
        if name in fields:
            return fields[name]
    return several if row.get(several) is not None else one


def _columns(row: Row) -> str:
    return f"the fields {', '.join(row) or '(none)'}"


def _pictures(table: Table, place: str, row: Row, reading: Reading) -> tuple[Picture, ...]:
    column = _present(row, reading.fields, "images", "image")
    mapped = "images" in reading.fields or "image" in reading.fields
    if mapped and column not in row:
        raise TaskError(
            "a row has no picture",
            where=place,
            expected=f"a field {column!r}, as `fields:` says",
            found=_columns(row),
            remedy="correct `fields:`",
        )
    cell: Any = row.get(column)
    if cell is None:
        return ()
    cells = cast(list[object], cell) if isinstance(cell, list) else [cell]
    return tuple(_picture(table, place, column, content, reading.pictures) for content in cells)


def _picture(table: Table, place: str, column: str, cell: object, known: Pictures) -> Picture:
    """A picture out of a cell: a path, encoded bytes, or the {"bytes", "path"} of `datasets`."""
    if isinstance(cell, dict):
        stored = cast(dict[str, object], cell)
        cell = stored.get("bytes") or stored.get("path")
    if isinstance(cell, bytes):
        return Picture(data=cell, origin=f"{place}, {column!r}")
    if not isinstance(cell, str) or not cell:
        raise TaskError(
            "a picture is neither a path nor a file's bytes",
            where=f"{place}, {column!r}",
            found=repr(cell)[:80],
            remedy="give the path of a picture, relative to the file of questions",
        )
    file = (table.folder or Path()) / cell
    if file not in known:
        if "://" in cell or not file.is_file():
            raise TaskError(
                "a picture is not there",
                where=f"{place}, {column!r}",
                expected="a file" + (f", by a path relative to {table.folder}" if table.folder else ""),
                found=cell,
                remedy="download it and name the file"
                if "://" in cell
                else "correct the path, put the file there, or remove the row",
            )
        known[file] = Picture(path=file, origin=str(file))
    return known[file]
