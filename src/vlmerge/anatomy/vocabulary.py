"""Tokens and the rows they own: token string → id from the files beside the weights, and row maps between models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.checkpoint.guarded import TOKENIZER_BYTES, guarded
from vlmerge.errors import CheckpointError, MismatchError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vlmerge.config.model_ref import ModelRef


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of one model; files are read when first asked for.

    Attributes:
        folder: Where the tokenizer's files are.
        where: The model, for messages.
    """

    folder: Path
    where: str

    @cached_property
    def ids(self) -> Mapping[str, int] | None:
        """Token string → id, added tokens included; None where there is no tokenizer file at all.

        Raises:
            CheckpointError: A tokenizer file that cannot be read.
        """
        for name, read in (("tokenizer.json", _fast), ("tokenizer.model", _sentencepiece), ("vocab.json", _plain)):
            if not (self.folder / name).is_file():
                continue
            file = guarded(self.folder, name, TOKENIZER_BYTES)
            try:
                return _checked(read(file))
            except BaseException as error:
                # The readers are compiled libraries with exception types of their own: tokenizers raises a bare Exception, and
                # where its Rust gives up, something that is not even one.
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                    raise
                raise CheckpointError(
                    "a tokenizer file cannot be read",
                    where=f"{self.where}: {name}",
                    expected=f"a whole {name} as transformers writes it",
                    found=f"{type(error).__name__}: {error}",
                    remedy="fetch the file again from the model's repository",
                ) from error
        return None

    @cached_property
    def tokens(self) -> Mapping[int, str]:
        """id → token string; empty where there is no tokenizer file."""
        return {index: token for token, index in self.ids.items()} if self.ids is not None else {}


@dataclass(frozen=True, eq=False)
class RowMap:
    """Which rows of the host merge with which rows of each source; all other rows stay the host's.

    Attributes:
        host: Host rows that are merged, ascending; int64, shape (n,).
        sources: For each source the row of the same token; int64, shape (n,).
        total: Rows of the host.
        straight: Every row map is 0, 1, …, n-1, so that slices do instead of gathers.
    """

    host: NDArray[np.int64]
    sources: Mapping[ModelRef, NDArray[np.int64]]
    total: int
    straight: bool

    @property
    def merged(self) -> int:
        """Number of rows that are merged."""
        return len(self.host)


def row_map(
    host: tuple[Vocabulary, int], sources: Mapping[ModelRef, tuple[Vocabulary, int]]
) -> tuple[RowMap | None, list[str]]:
    """Pairs rows by token string.

    Args:
        host: The host's vocabulary and the rows of its tensor.
        sources: The same for each source (the host among them where it is one).

    Returns:
        The map, or None where every row is merged with the row of the same number; and warnings.

    Raises:
        MismatchError: A model without tokenizer files whose row count differs, so that its rows cannot be named.
    """
    import numpy as np

    vocabulary, rows = host
    warnings: list[str] = []
    assumed: set[ModelRef] = set()
    for ref, (other, other_rows) in sources.items():
        if vocabulary.ids is not None and other.ids is not None:
            continue
        nameless = other if other.ids is None else vocabulary
        if other_rows != rows:
            raise MismatchError(
                "vocabulary rows cannot be matched without a tokenizer",
                where=nameless.where,
                expected="tokenizer.json, tokenizer.model or vocab.json beside the weights, or equal numbers of rows",
                found=f"no tokenizer file; {other_rows} rows in {other.where}, {rows} in the host {vocabulary.where}",
                remedy="copy the tokenizer's files into the model's folder",
            )
        if other.where != vocabulary.where:
            warnings.append(
                f"{nameless.where} has no tokenizer file: its {rows} vocabulary rows are taken to be those of the host"
            )
        assumed.add(ref)

    if len(assumed) == len(sources):
        return None, warnings
    kept = [index for index in range(rows) if index in vocabulary.tokens] if vocabulary.ids is not None else list(range(rows))
    partners: dict[ModelRef, list[int | None]] = {}
    for ref, (other, other_rows) in sources.items():
        if ref in assumed or other.ids is vocabulary.ids:
            partners[ref] = [index if index < other_rows else None for index in kept]
        else:
            ids = other.ids or {}
            found = (ids.get(vocabulary.tokens[index]) for index in kept)
            partners[ref] = [row if row is not None and row < other_rows else None for row in found]
    whole = [place for place in range(len(kept)) if all(rows_of[place] is not None for rows_of in partners.values())]
    host_rows = np.array([kept[place] for place in whole], dtype=np.int64)
    mapped = {ref: np.array([rows_of[place] for place in whole], dtype=np.int64) for ref, rows_of in partners.items()}
    counting = np.arange(len(whole), dtype=np.int64)
    straight = all(np.array_equal(each, counting) for each in (host_rows, *mapped.values()))
    if straight and len(whole) == rows and all(other_rows == rows for _, other_rows in sources.values()):
        return None, warnings
    return RowMap(host=host_rows, sources=mapped, total=rows, straight=straight), warnings


def overlap(host: Vocabulary, other: Vocabulary) -> tuple[int, int] | None:
    """(tokens of the host that the other has too, tokens of the host); None where either has no tokenizer file."""
    if host.ids is None or other.ids is None:
        return None
    return sum(1 for token in host.ids if token in other.ids), len(host.ids)


def _fast(file: Path) -> dict[str, int]:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)


def _sentencepiece(file: Path) -> dict[str, int]:
    from sentencepiece import SentencePieceProcessor

    model: Any = SentencePieceProcessor()
    model.Load(str(file))
    ids = {str(model.IdToPiece(index)): index for index in range(int(model.GetPieceSize()))}
    return ids | _added(file.parent)


def _plain(file: Path) -> dict[str, int]:
    ids: dict[str, int] = json.loads(file.read_text(encoding="utf-8"))
    return ids | _added(file.parent)


def _checked(ids: Mapping[str, int]) -> Mapping[str, int]:
    """Ids as rows can have them; raises ValueError for others: -1 would be the last row to whoever gathers by it."""
    for token, index in ids.items():
        if type(index) is not int or index < 0:
            raise ValueError(f"the token {token!r} has the id {index!r}")
    return ids


def _added(folder: Path) -> dict[str, int]:
    """Tokens that slow tokenizers keep outside their model: added_tokens.json, and tokenizer_config.json since 4.34."""
    added: dict[str, int] = {}
    if (folder / "tokenizer_config.json").is_file():
        settings = guarded(folder, "tokenizer_config.json", TOKENIZER_BYTES)
        decoder: dict[str, dict[str, Any]] = json.loads(settings.read_text(encoding="utf-8")).get("added_tokens_decoder") or {}
        added |= {str(entry["content"]): int(index) for index, entry in decoder.items()}
    if (folder / "added_tokens.json").is_file():
        added |= json.loads(guarded(folder, "added_tokens.json", TOKENIZER_BYTES).read_text(encoding="utf-8"))
    return added
