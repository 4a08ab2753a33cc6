"""Rows of a data set that the `datasets` library reads: one of the hub, or a folder laid out like one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, cast

from vlmerge.errors import TaskError
from vlmerge.tasks.rows import Row, Table

COMMIT = re.compile("[0-9a-f]{40}")
SHARD = re.compile(r"(?P<split>\w+)-\d{5}-of-\d{5}\.parquet")
"""How the hub names the files of a split."""

KIND = "kind"
"""The column that names the configuration a row is from, where a data set is read in several."""

Commits = dict[str, str]
"""`org/name@revision` (a branch, a tag; `main` where none is named) → the commit that it stood for when it was first read."""


def open_dataset(
    location: str,
    *,
    split: str | None,
    configs: Sequence[str] = (),
    revision: str | None = None,
    default_split: str | None = None,
    commits: Commits | None = None,
) -> Table:
    """Opens a data set through the `datasets` library; raises TaskError with the remedy where that fails.

    Args:
        location: Hub id, or a folder: one that `save_to_disk` wrote, or one of parquet files laid out as on the hub.
        split: The split that is wanted.
        configs: Configurations of a data set that has several; their rows follow one another, each with its configuration as
            `kind`, numbered through. Of a folder they are its folders; one that has none of these is read as it is.
        revision: Branch, tag or commit of a hub data set.
        default_split: Taken where `split` is None. Where this is None too, the data set must have one split only.
        commits: What was read before, and is read again though a branch has moved since. Added to.
    """
    commits = {} if commits is None else commits
    folder = Path(location) if Path(location).is_dir() else None
    if folder is not None and not any((folder / config).is_dir() for config in configs):
        configs = ()
    if len(configs) < 2:
        return _open_one(location, split, configs[0] if configs else None, revision, default_split, commits)
    tables = [_open_one(location, split, config, revision, default_split, commits) for config in configs]
    numbers = count(1)
    rows = ((next(numbers), {KIND: config, **row}) for config, one in zip(configs, tables, strict=True) for _, row in one.rows)
    commit = commits.get(f"{location}@{revision or 'main'}")
    name = location + (f"@{commit[:12]}" if commit else "")
    told = ", ".join(configs) if len(configs) < 5 else f"{len(configs)} configurations"
    return Table(f"{name}, {told}, split {tables[0].source.rpartition(', split ')[2]}", "row", tables[0].folder, rows)


def _open_one(
    location: str, split: str | None, config: str | None, revision: str | None, default_split: str | None, commits: Commits
) -> Table:
    """Opens one configuration."""
    library: Any = import_module("datasets")
    wanted = split or default_split
    asked = f"{location}@{revision or 'main'}"
    revision = commits.get(asked, revision)
    folder = Path(location) if Path(location).is_dir() else None
    files: dict[str, list[str]] = {}
    if folder is not None and config is not None:
        folder, config = folder / config, None
        location = str(folder)
        # The library, left to itself, takes the files of `dev` for more of `validation`.
        for file in sorted(folder.glob("*.parquet")):
            if named := SHARD.fullmatch(file.name):
                files.setdefault(named["split"], []).append(str(file))
    try:
        if folder and any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
            loaded: Any = library.load_from_disk(location)
        elif folder and files:
            loaded = library.load_dataset(
                "parquet", data_files={each: files[each] for each in files if wanted in (None, each)} or files
            )
        else:
            loaded = library.load_dataset(location, name=config, revision=revision)
    except (OSError, ValueError, RuntimeError, library.exceptions.DatasetsError) as error:
        raise _refusal(location, error) from error
    shown, commit = (location, None) if folder else _hub_name(location, config, revision, loaded)
    if commit:
        commits[asked] = commit
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


def _hub_name(location: str, config: str | None, revision: str | None, loaded: Any) -> tuple[str, str | None]:
    """Hub id for people, with the commit that was really read, and that commit in full.

    Where the hub cannot be asked, the library takes the copy that was kept last, of whatever revision: that is refused.
    """
    from huggingface_hub import constants

    parts = cast(dict[str, Any], loaded).values() if isinstance(loaded, dict) else [loaded]
    folders = [Path(str(file["filename"])).parent.name for part in parts for file in part.cache_files]
    commit = next((name for name in folders if COMMIT.fullmatch(name)), None)
    name = location + (f":{config}" if config else "")
    wanted = revision or "main"
    kept = Path(constants.HF_HUB_CACHE) / f"datasets--{location.replace('/', '--')}"
    known = kept / "refs" / wanted
    expected = wanted if COMMIT.fullmatch(wanted) else known.read_text().strip() if known.is_file() else None
    if commit and expected and commit != expected:
        raise TaskError(
            "the hub cannot be reached, and the copy of a data set that was kept last is of another revision",
            where=name,
            expected=f"{wanted} ({expected})",
            found=commit,
            remedy=f"go online once, or give `path: {kept / 'snapshots' / expected}` if that folder is complete",
        )
    return name + (f"@{commit[:12]}" if commit else f"@{revision}" if revision else ""), commit


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
    elif type(error).__name__ == "DatasetNotFoundError":
        what = "a data set does not exist, or is private"
        remedy = f"check the spelling against {page}; a private one needs HF_TOKEN"
    else:
        what = "a data set cannot be loaded"
        remedy = f"see {page}; a configuration is named as hf:org/name:configuration, a revision as hf:org/name@revision"
    return TaskError(what, where=location, found=f"{type(error).__name__}: {text[:300]}", remedy=remedy)
