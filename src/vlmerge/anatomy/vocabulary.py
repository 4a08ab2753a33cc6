"""Tokens and the rows they own: token string → id from the files beside the weights, and row maps between models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vlmerge.anatomy.spelling import TokenTable, partners
from vlmerge.anatomy.token_files import token_table
from vlmerge.errors import MismatchError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vlmerge.config.model_ref import ModelRef

EXPECTED = 0.5
"""Share of the smaller of two vocabularies that is in the other, at least, where both spell alike; by far most have more."""


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
    def table(self) -> TokenTable | None:
        """Tokens, ids and spelling; None where there is no tokenizer file at all.

        Raises:
            CheckpointError: A tokenizer file that cannot be read.
        """
        return token_table(self.folder, self.where)

    @property
    def ids(self) -> Mapping[str, int] | None:
        """Token string → id, added tokens included; None where there is no tokenizer file at all."""
        return self.table.ids if self.table is not None else None

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
    host: tuple[Vocabulary, int],
    sources: Mapping[ModelRef, tuple[Vocabulary, int]],
    protected: frozenset[int] = frozenset(),
) -> tuple[RowMap | None, list[str]]:
    """Pairs rows by token: letter by letter where two tokenizers spell alike, else by what tokens stand for (`spelling.py`).

    Args:
        host: The host's vocabulary and the rows of its tensor.
        sources: The same for each source (the host among them where it is one).
        protected: Rows of the host that stay as they are.

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
            told = spelled_apart(vocabulary, other)
            warnings += [told] if told is not None else []
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

    if len(assumed) == len(sources) and not protected:
        return None, warnings
    known = vocabulary.tokens if vocabulary.ids is not None and len(assumed) < len(sources) else range(rows)
    kept = [index for index in range(rows) if index in known and index not in protected]
    met: dict[ModelRef, list[int | None]] = {}
    for ref, (other, other_rows) in sources.items():
        if ref in assumed or vocabulary.table is None or other.table is None or other.table is vocabulary.table:
            met[ref] = [index if index < other_rows else None for index in kept]
        else:
            ids = partners(vocabulary.table, other.table)
            found = (ids.get(vocabulary.tokens[index]) for index in kept)
            met[ref] = [row if row is not None and row < other_rows else None for row in found]
    whole = [place for place in range(len(kept)) if all(rows_of[place] is not None for rows_of in met.values())]
    host_rows = np.array([kept[place] for place in whole], dtype=np.int64)
    mapped = {ref: np.array([rows_of[place] for place in whole], dtype=np.int64) for ref, rows_of in met.items()}
    counting = np.arange(len(whole), dtype=np.int64)
    straight = all(np.array_equal(each, counting) for each in (host_rows, *mapped.values()))
    if straight and len(whole) == rows and all(other_rows == rows for _, other_rows in sources.values()):
        return None, warnings
    return RowMap(host=host_rows, sources=mapped, total=rows, straight=straight), warnings


def overlap(host: Vocabulary, other: Vocabulary) -> tuple[int, int] | None:
    """(tokens of the host that the other has too, tokens of the host); None where either has no tokenizer file."""
    if host.table is None or other.table is None:
        return None
    theirs = partners(host.table, other.table)
    return sum(1 for token in host.table.ids if token in theirs), len(host.table.ids)


def spelled_apart(host: Vocabulary, other: Vocabulary) -> str | None:
    """A warning where tokens are compared letter by letter, nobody knows whether that is right, and few meet."""
    if host.table is None or other.table is None or host.table is other.table:
        return None
    if host.table.spelling is not None and other.table.spelling is not None:
        return None
    ours, theirs = host.table.ids, other.table.ids
    smaller, met = min(len(ours), len(theirs)), sum(1 for token in ours if token in theirs)
    if met >= EXPECTED * smaller:
        return None
    unknown = " and ".join(dict.fromkeys(each.where for each in (host, other) if each.table and each.table.spelling is None))
    return (
        f"only {met} of {smaller} tokens of {other.where} are in {host.where} too: they are compared letter by letter, since "
        f"the tokenizer files of {unknown} do not say how they spell a space"
    )
