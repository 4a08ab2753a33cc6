"""Rows of a file of questions, JSONL or parquet.

They come one at a time, as plain dictionaries, with their number for messages. What they mean is questions.py's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from vlmerge.errors import TaskError

Row = dict[str, Any]
JSONL_ENDINGS = (".jsonl", ".ndjson")
PARQUET_ENDINGS = (".parquet",)


@dataclass(frozen=True)
class Table:
    """An open source of rows; `rows` can be gone through once.

    Attributes:
        source: File, folder or hub id with split, for the record.
        unit: What a row is called there: "line" or "row". Both are counted from 1.
        folder: What relative picture paths are relative to; None where there is no such folder.
        rows: Number and content of each row.
    """

    source: str
    unit: str
    folder: Path | None
    rows: Iterator[tuple[int, Row]]

    def place(self, number: int) -> str:
        """How to name a row to a person."""
        return f"{self.source}, {self.unit} {number}"


def open_file(path: Path) -> Table:
    """Opens a JSONL or parquet file; raises TaskError where it is missing, unreadable or neither."""
    if not path.is_file():
        raise TaskError(
            "a file of questions is missing",
            where=str(path),
            remedy="correct the path; in a run file it is relative to that file, elsewhere to the working directory",
        )
    ending = path.suffix.lower()
    if ending in JSONL_ENDINGS:
        return Table(str(path), "line", path.parent, _json_lines(path))
    if ending in PARQUET_ENDINGS:
        return Table(str(path), "row", path.parent, _parquet_rows(path))
    raise TaskError(
        "a file of questions has a form that is not read",
        where=str(path),
        expected=f"one JSON object per line ({', '.join(JSONL_ENDINGS)}), or parquet ({', '.join(PARQUET_ENDINGS)})",
        found=ending or "no file ending",
        remedy="convert it; each row needs a question and an answer, and an image where it is about one",
    )


def _json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not text.strip():
                continue
            try:
                row: object = json.loads(text.decode())
            except (ValueError, RecursionError) as error:
                raise TaskError(
                    "a line is not JSON",
                    where=f"{path}, line {number}",
                    expected="one JSON object, in UTF-8, on one line",
                    found=str(error),
                    remedy="mend the line, or remove it",
                ) from error
            if not isinstance(row, dict):
                raise TaskError(
                    "a line is not a question",
                    where=f"{path}, line {number}",
                    expected='a JSON object such as {"image": "a.png", "question": "…", "answer": "…"}',
                    found=text.decode().strip()[:80],
                    remedy="mend the line, or remove it",
                )
            yield number, cast(Row, row)


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    arrow: Any = import_module("pyarrow.parquet")
    number = 0
    try:
        with arrow.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (OSError, ValueError) as error:  # pyarrow's own errors are both of these
        raise TaskError(
            "a parquet file cannot be read",
            where=f"{path}, after row {number}" if number else str(path),
            found=str(error).splitlines()[0],
            remedy="copy or download the file again",
        ) from error
