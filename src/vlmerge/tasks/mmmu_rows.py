"""Rows of MMMU and JMMMU → rows as questions.py reads them: the prompt with its options, and the pictures that it names.

A row has `id` (`validation_Accounting_1`), `question` with `<image 1>` … `<image 7>` in it, `options` (a list of Python written
as text), `image_1` … `image_7`, `question_type` (`multiple-choice`, else free) and `answer` (a letter, else a text or a list of
texts written as text).

The pictures are shown before the question, in the order of their numbers, and `<image 1>` stays in the text, as lmms-eval does
it (`interleaved_format: false`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from vlmerge.errors import TaskError
from vlmerge.tasks.mmmu_answers import letters
from vlmerge.tasks.rows import Row

NAMED = re.compile(r"<image (\d+)>")
SUBJECT = re.compile(r"[^_]+_(.+?)_\d+")
WITHHELD = "?"


@dataclass(frozen=True)
class PromptForm:
    """How a benchmark words its prompts.

    Attributes:
        option: One option.
        choose: The whole of a multiple-choice question.
        write: The whole of a free one.
    """

    option: str
    choose: str
    write: str


MMMU_PROMPT = PromptForm(
    option="({letter}) {text}",
    choose="{question}\n\n{options}\n\nAnswer with the option's letter from the given choices directly.",
    write="{question}\n\nAnswer the question using a single word or phrase.",
)
"""MMMU-Benchmark/MMMU, `eval/configs/llava1.5.yaml`; lm-evaluation-harness's `mmmu_val` asks the same."""

JMMMU_PROMPT = PromptForm(
    option="{letter}. {text}",
    choose="{question}\n{options}\n\n与えられた選択肢の中から最も適切な回答のアルファベットを直接記入してください。",
    write="{question}\n\n質問に対する回答を単語や短いフレーズで記入してください。",
)
"""lmms-eval, `lmms_eval/tasks/jmmmu/utils.py`."""


def mmmu_row(row: Row, place: str) -> Row:
    """A row of MMMU as a question; see `asked_row`."""
    return asked_row(row, place, MMMU_PROMPT)


def jmmmu_row(row: Row, place: str) -> Row:
    """A row of JMMMU as a question; see `asked_row`."""
    return asked_row(row, place, JMMMU_PROMPT)


def asked_row(row: Row, place: str, form: PromptForm) -> Row:
    """A row with `id`, `question`, `options`, `images`, `answers` and, as `kind`, its subject.

    Raises:
        TaskError: A column is missing, options or pictures do not fit the question, or the answer is withheld.
    """
    question = _text(row, "question", place).replace("<image1>", "<image 1>")
    answer = _text(row, "answer", place)
    if answer.strip() == WITHHELD:
        raise TaskError(
            "a data set keeps its answers to itself",
            where=place,
            expected="an answer",
            found=repr(answer),
            remedy="take a split whose answers are there (`split: validation`)",
        )
    options: list[str] = []
    if row.get("question_type") == "multiple-choice":
        options = _listed(_text(row, "options", place), place) or []
        answers = [answer.strip()]
        if answers[0] not in letters(options):
            raise TaskError(
                "the answer of a question is none of its options",
                where=place,
                expected=f"one of {', '.join(letters(options)) or 'A, B, …'}",
                found=answer,
                remedy="mend the row, or take it out",
            )
        lines = (form.option.format(letter=letter, text=text) for letter, text in zip(letters(options), options, strict=True))
        prompt = form.choose.format(question=question, options="\n".join(lines))
    else:
        answers = _listed(answer, place, of_texts=False) or [answer]
        prompt = form.write.format(question=question)
    subject = SUBJECT.fullmatch(str(row.get("id")))
    return {
        "id": row.get("id"),
        "question": prompt,
        "options": options or None,
        "images": [_picture(row, number, place) for number in sorted(set(map(int, NAMED.findall(prompt))))] or None,
        "answers": answers,
        "kind": row.get("kind") or (subject[1] if subject else None),
    }


def _text(row: Row, column: str, place: str) -> str:
    value: object = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise TaskError(
            f"a row has no {column}",
            where=place,
            expected=f"text in {column!r}",
            found=f"the fields {', '.join(row)}" if column not in row else repr(value)[:80],
            remedy="give a copy of the data set with its own columns",
        )
    return value


def _listed(text: str, place: str, *, of_texts: bool = True) -> list[str] | None:
    """The texts of a list that is written as Python writes one; None where it is no such list, and need be none."""
    try:
        value: object = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if isinstance(value, list) and value:
        return [str(each) for each in cast("list[Any]", value)]
    if not of_texts:
        return None
    raise TaskError(
        "the options of a question cannot be read",
        where=f"{place}, 'options'",
        expected="a list as Python writes it: ['red', 'blue']",
        found=text[:80],
        remedy="mend the row, or take it out",
    )


def _picture(row: Mapping[str, Any], number: int, place: str) -> object:
    column = f"image_{number}"
    if row.get(column) is None:
        raise TaskError(
            "a question names a picture that its row has not",
            where=place,
            expected=f"a picture in {column!r}, for <image {number}>",
            found="none",
            remedy="give a whole copy of the data set",
        )
    return row[column]
