"""Files of a model folder, before anybody opens one: real files, inside the folder, and no larger than such a file can be.

A folder from elsewhere may hold links to what is not the model's (`tokenizer.json -> ~/.ssh/id_rsa` would be copied into the
result and published), devices and pipes that never end, and texts that fill the memory.
"""

from __future__ import annotations

import stat
from pathlib import Path

from vlmerge.errors import CheckpointError
from vlmerge.types import size

CONFIG_BYTES = 16_000_000
INDEX_BYTES = 100_000_000
TOKENIZER_BYTES = 250_000_000
"""The largest ones known are a tenth of each."""


def guarded(folder: Path, name: str, limit: int | None = None) -> Path:
    """The file, once it may be opened.

    Args:
        folder: The model's folder.
        name: Relative to it.
        limit: Bytes that it may have; None where its contents are mapped, or read no further than they say.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: It leads out of the folder, is no regular file, or is larger than the limit.
    """
    path = folder / name
    facts = path.stat()
    if not is_inside(folder, path):
        raise CheckpointError(
            "a file of the model is a link that leads out of its folder",
            where=str(path),
            expected="files of the model's own folder, or links of the hub's cache into its blobs",
            found=f"a link to {path.resolve()}",
            remedy="if that file belongs to the model, copy it in place of the link; else do not use this folder",
        )
    if not stat.S_ISREG(facts.st_mode):
        raise CheckpointError(
            "a file of the model is no file",
            where=str(path),
            expected="a regular file",
            found="a folder" if stat.S_ISDIR(facts.st_mode) else "a device, a pipe or a socket",
            remedy="download the model again",
        )
    if limit is not None and facts.st_size > limit:
        raise CheckpointError(
            "a file of the model is too large to be what it is called",
            where=str(path),
            expected=f"at most {size(limit)}",
            found=size(facts.st_size),
            remedy="download the file again from the model's own repository",
        )
    return path


def read_guarded(folder: Path, name: str, limit: int) -> bytes:
    """The contents of a small file; raises CheckpointError for what `guarded` refuses, and for a file that is not there."""
    try:
        return guarded(folder, name, limit).read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"there is no {name}",
            where=str(folder),
            expected=f"a model folder in the format of transformers, with its {name}",
            found="a folder without it" if folder.is_dir() else "no such folder",
            remedy="check the path, or copy the missing file",
        ) from error
    except OSError as error:
        raise CheckpointError(
            "a file cannot be read",
            where=str(folder / name),
            found=str(error),
            remedy="check the file and its permissions",
        ) from error


def is_inside(folder: Path, path: Path) -> bool:
    """Whether a file lies in the folder, links followed; or in the hub's cache, whose snapshots are links into its blobs.

    The blobs of any model will do: they are named by their contents, so that nobody can point at one without knowing them.
    """
    real = path.resolve()
    return real.is_relative_to(folder.resolve()) or (
        real.parent.name == "blobs" and real.parents[1].name.startswith("models--")
    )
