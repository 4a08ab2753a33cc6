"""Where questions are kept: rows of a JSONL file, of a parquet file, or of a data set that the `datasets` library reads.

Rows come one at a time, as plain dictionaries, with their number for messages. What they mean is questions.py's business.
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
            "a file of questions is missing", where=str(path), remedy="correct the path; it is relative to the YAML file"
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


def open_dataset(
    location: str,
    *,
    split: str | None,
    config: str | None = None,
    revision: str | None = None,
    default_split: str | None = None,
) -> Table:
    """Opens a data set through the `datasets` library; raises TaskError with the remedy where that fails.

    Args:
        location: Hub id, or a folder: one that `save_to_disk` wrote, or one of parquet files laid out as on the hub.
        split: The split that is wanted.
        config: Configuration of a hub data set that has several.
        revision: Branch, tag or commit of a hub data set.
        default_split: Taken where `split` is None. Where this is None too, the data set must have one split only.
    """
    library: Any = import_module("datasets")
    wanted = split or default_split
    folder = Path(location) if Path(location).is_dir() else None
    try:
        if folder and any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
            loaded: Any = library.load_from_disk(location)
        else:
            loaded = library.load_dataset(location, name=config, revision=revision)
    except (OSError, ValueError, RuntimeError, library.exceptions.DatasetsError) as error:
        raise _refusal(location, error) from error
    shown = location + (f":{config}" if config else "") + (f"@{revision}" if revision else "")
    if isinstance(loaded, dict):
        splits = cast(dict[str, Any], loaded)
        if wanted is None and len(splits) == 1:
            wanted = next(iter(splits))
        if wanted not in splits:
            raise TaskError(
                "a data set has several splits" if wanted is None else f"a data set has no split {wanted!r}",
                where=shown,
                expected=f"`split:` one of {', '.join(splits)}",
                found="no `split:`" if wanted is None else f"split: {wanted}",
                remedy="name one of its splits",
            )
        return Table(f"{shown}, split {wanted}", "row", folder, _arrow_rows(splits[wanted]))
    if split is not None and str(loaded.split) not in ("None", split):
        raise TaskError(
            f"a data set has no split {split!r}",
            where=shown,
            found=f"the split {loaded.split} alone",
            remedy="take that, or name another folder",
        )
    return Table(f"{shown}, split {loaded.split or wanted}", "row", folder, _arrow_rows(loaded))


def _arrow_rows(dataset: Any) -> Iterator[tuple[int, Row]]:
    """Rows as they are stored: pictures stay encoded bytes, where the library itself would decode them one by one."""
    stored = dataset.with_format("arrow")
    number = 0
    for start in range(0, len(stored), 64):
        for row in stored[start : start + 64].to_pylist():
            number += 1
            yield number, row


def _refusal(location: str, error: Exception) -> TaskError:
    """What the library's failure means to a person."""
    from huggingface_hub import constants

    text = str(error).strip()
    if Path(location).is_dir():
        return TaskError(
            "a folder cannot be read as a data set",
            where=location,
            expected="a folder that `save_to_disk` wrote, or parquet files laid out as on the hub "
            "(data/test-00000-of-00001.parquet)",
            found=text[:300],
            remedy="download it again, or name a single .parquet or .jsonl file in it",
        )
    page = f"{constants.ENDPOINT}/datasets/{location}"
    if "gated" in text or any(code in text for code in ("401", "403")):
        what = "a data set is gated"
        remedy = f"accept its terms at {page}, then set HF_TOKEN or run `hf auth login`"
    elif isinstance(error, ConnectionError):
        what = "a data set cannot be reached"
        remedy = "go online once so that it is kept in the cache, or give the folder of a downloaded copy as `path:`"
    elif isinstance(error, FileNotFoundError):
        what = "a data set does not exist, or is private"
        remedy = f"check the spelling against {page}; a private one needs HF_TOKEN"
    else:
        what = "a data set cannot be loaded"
        remedy = f"see {page}; a configuration is named as hf:org/name:configuration, a revision as hf:org/name@revision"
    return TaskError(what, where=location, found=f"{type(error).__name__}: {text[:300]}", remedy=remedy)
