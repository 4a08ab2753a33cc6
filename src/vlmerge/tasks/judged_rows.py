"""Rows of the judged data sets → rows as questions.py reads them, with what a judge is told beside them."""

from __future__ import annotations

from typing import cast

from vlmerge.errors import TaskError
from vlmerge.tasks.rows import Row

HERON_REFERENCE = "gpt-4-0125-preview"
"""Whose answers the published judge compares with: `answers_gpt4.jsonl` of the benchmark, answers from the context alone."""


def heron_row(row: Row, place: str) -> Row:
    """A row of Japanese-Heron-Bench: the reference is GPT-4's answer, which knew the picture's description, the context.

    Raises:
        TaskError: The row has not GPT-4's answer.
    """
    answers: object = row.get("answer")
    by_model = cast("dict[str, object]", answers) if isinstance(answers, dict) else {}
    if not by_model.get(HERON_REFERENCE):
        raise TaskError(
            "a row has no reference answer",
            where=place,
            expected=f"`answer` with {HERON_REFERENCE!r} in it",
            found=f"the fields {', '.join(row)}" + (f"; answers of {', '.join(by_model)}" if by_model else ""),
            remedy="give a copy of the data set with its own columns",
        )
    return {
        "id": row.get("question_id"),
        "image": row.get("image"),
        "question": row.get("text"),
        "answer": by_model[HERON_REFERENCE],
        "kind": row.get("category"),
        "context": row.get("context"),
    }
