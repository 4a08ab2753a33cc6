"""A vocabulary of the result's own: which token has which row, and which rows of which models go there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmerge.anatomy.spelling import TokenTable, alike, partners
from vlmerge.anatomy.vocabulary import Vocabulary
from vlmerge.config.model_ref import ModelRef
from vlmerge.config.tokenizer_blocks import TokenizerSpec, TokenRow, TokenRule
from vlmerge.errors import ConfigError, MismatchError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]


@dataclass(frozen=True)
class NewVocabulary:
    """The result's tokens.

    Attributes:
        spec: What the recipe says.
        base: Whose ids a union keeps, and whose row a token gets first that another model lacks.
        owner: Whose tokenizer files the result takes over.
        table: Its tokens, in the owner's spelling, and their rows.
        added: Tokens that the owner's tokenizer has not, in the order of their rows.
        rows: Rows of the result, padding included.
    """

    spec: TokenizerSpec
    base: ModelRef
    owner: ModelRef
    table: TokenTable
    added: tuple[str, ...]
    rows: int

    @property
    def ids(self) -> Mapping[str, int]:
        """Token → row."""
        return self.table.ids

    def rows_in(self, theirs: TokenTable) -> dict[str, int]:
        """Token of the result → its row in a model, of those that the model has."""
        met = partners(self.table, theirs)
        return {token: met[token] for token in self.table.ids if token in met}


@dataclass(frozen=True, eq=False)
class Fill:
    """Rows that models get which lack them.

    Attributes:
        rows: Of the result; int64 (n,).
        sources: Models and their rows, each int64 (n,), whose mean it is; none: zeros.
        force: All models get them, those too that have rows of their own.
    """

    rows: Rows
    sources: tuple[tuple[ModelRef, Rows], ...]
    force: bool


@dataclass(frozen=True, eq=False)
class Rearranged:
    """How a vocabulary tensor of every model is laid out anew before they are merged.

    Attributes:
        total: Rows of the result.
        named: Rows that have a token, ascending; int64. The others are padding: the mean of these.
        rows: Model → its row for each of `named`, -1 where it has none; int64.
        fills: What stands where a model has no row.
        lost: Model → how many of its tokens have no row in the result.
    """

    total: int
    named: Rows
    rows: Mapping[ModelRef, Rows]
    fills: tuple[Fill, ...]
    lost: Mapping[ModelRef, int]


def new_vocabulary(
    spec: TokenizerSpec,
    base: ModelRef,
    vocabularies: Mapping[ModelRef, tuple[Vocabulary, int]],
    order: Sequence[ModelRef],
    fixed: ModelRef | None = None,
) -> NewVocabulary:
    """The tokens of the result.

    Args:
        spec: What the recipe says.
        base: Whose ids a union keeps.
        vocabularies: Of every model that is named, with the rows of its embedding; tokens beyond those do not count.
        order: Models whose tokens a union takes, in this order after the base.
        fixed: The host, if it sees: its tokens have to keep their ids, since config.json and the processor speak of them.

    Raises:
        MismatchError: A model without tokenizer files; a vocabulary that moves the host's tokens.
    """
    owner = spec.source if isinstance(spec.source, ModelRef) else base
    tables = {ref: _tokens(ref, vocabularies) for ref in dict.fromkeys([owner, *(order if spec.source == "union" else ())])}
    growing = _Growing(tables[owner])
    if spec.source == "union":
        for ref in order:
            growing.take(tables[ref])
    for token in spec.tokens:
        growing.add(token, tables.values())
    table = growing.table()
    if fixed is not None:
        moved = [token for token, row in _tokens(fixed, vocabularies).ids.items() if table.ids.get(token) != row]
        if moved:
            raise MismatchError(
                "this tokenizer would move tokens of the vision-language model",
                where=f"tokenizer: {spec.source}",
                expected=f"a vocabulary in which all tokens of {fixed} keep their rows: its config names some by number",
                found=f"{len(moved)} tokens elsewhere or missing, {moved[0]!r} among them",
                remedy="use `source: union`, which keeps them, or leave `tokenizer` out",
            )
    multiple = spec.pad_to_multiple_of or 1
    return NewVocabulary(spec, base, owner, table, tuple(growing.added), -(-growing.following // multiple) * multiple)


class _Growing:
    """The tokens of one model, and those that are added to them, each in that model's spelling."""

    def __init__(self, own: TokenTable) -> None:
        self.own, self.ids, self.added = own, dict(own.ids), list[str]()
        self.following = max(self.ids.values(), default=-1) + 1
        self.known_by: dict[str, tuple[TokenTable, ...]] = {}

    def add(self, token: str, known_by: Iterable[TokenTable]) -> None:
        """Adds a token, spelt as the model's own are; it is special where it is in one of these."""
        if token not in self.ids:
            self.ids[token] = self.following
            self.following += 1
            self.added.append(token)
            self.known_by[token] = tuple(known_by)

    def take(self, theirs: TokenTable) -> None:
        """Adds what a model has besides, in the order of its rows.

        Where it spells otherwise, that is what stands for something else than every token so far, if it can be written in this
        spelling: sentencepiece has no token for the half of a character. Of a special and a plain token of one name, the first
        stays alone.
        """
        in_order = sorted(theirs.ids, key=theirs.ids.__getitem__)
        if alike(self.own, theirs) or self.own.spelling is None:
            for token in in_order:
                self.add(token, [theirs])
            return
        known = set(self.table().by_meaning)
        for token in in_order:
            meaning = theirs.meaning(token)
            if meaning in known:
                continue
            known.add(meaning)
            if isinstance(meaning, str):
                self.add(meaning, [theirs])
            elif (written := self.own.spelling.write(meaning)) is not None:
                self.add(written, ())

    def table(self) -> TokenTable:
        """As it is now."""
        own, known_by = self.own, dict(self.known_by)
        return TokenTable(
            dict(self.ids),
            own.spelling,
            lambda: (
                own.special | {token for token, tables in known_by.items() if any(token in each.special for each in tables)}
            ),
        )


def rearrange(
    new: NewVocabulary, sources: Mapping[ModelRef, tuple[Vocabulary, int]], others: Mapping[ModelRef, tuple[Vocabulary, int]]
) -> Rearranged:
    """Rows of one tensor.

    Args:
        new: The result's vocabulary.
        sources: Models that are merged, with the rows of this tensor in each.
        others: Further models that rules name.

    Raises:
        ConfigError: A rule that names a row which is not there.
    """
    import numpy as np

    everybody = {**others, **sources}
    tables = {ref: _tokens(ref, everybody) for ref in everybody}
    tokens = {ref: new.rows_in(table) for ref, table in tables.items()}
    named = np.array(sorted(new.ids.values()), dtype=np.int64)
    by_row = {row: token for token, row in new.ids.items()}
    rows = {ref: np.array([tokens[ref].get(by_row[row], -1) for row in named.tolist()], dtype=np.int64) for ref in sources}
    groups: dict[tuple[tuple[ModelRef, ...], bool], list[tuple[int, tuple[int, ...]]]] = {}
    whole = np.all([each >= 0 for each in rows.values()], axis=0)
    for place, row in enumerate(named.tolist()):
        token = by_row[row]
        rule = new.spec.tokens.get(token)
        if whole[place] and not (rule is not None and rule.force):
            continue
        if rule is not None:
            given = _of_rule(rule, token, tokens, tables, everybody)
        else:
            there = [(ref, int(each[place])) for ref, each in rows.items() if each[place] >= 0]
            from_base = [each for each in there if each[0] == new.base]
            given = from_base if from_base and len(there) > 1 else there
        key = (tuple(ref for ref, _ in given), rule is not None and rule.force)
        groups.setdefault(key, []).append((row, tuple(number for _, number in given)))
    fills: list[Fill] = []
    for (refs, force), entries in groups.items():
        columns = [np.array([numbers[index] for _, numbers in entries], dtype=np.int64) for index in range(len(refs))]
        at = np.array([row for row, _ in entries], dtype=np.int64)
        fills.append(Fill(at, tuple(zip(refs, columns, strict=True)), force))
    lost = {ref: len(tables[ref].ids) - len(tokens[ref]) for ref in sources}
    return Rearranged(new.rows, named, rows, tuple(fills), lost)


def kept_rearranged(new: NewVocabulary, host: ModelRef, vocabulary: Vocabulary, rows: int) -> Rearranged:
    """Rows of a tensor that stays the host's: those of its own tokens; what the result has besides is padding."""
    import numpy as np

    own = new.rows_in(_tokens(host, {host: (vocabulary, rows)}))
    pairs = sorted((new.ids[token], row) for token, row in own.items())
    named = np.array([row for row, _ in pairs], dtype=np.int64)
    return Rearranged(new.rows, named, {host: np.array([row for _, row in pairs], dtype=np.int64)}, (), {})


def _tokens(ref: ModelRef, vocabularies: Mapping[ModelRef, tuple[Vocabulary, int]]) -> TokenTable:
    """The tokens of a model that have rows."""
    vocabulary, rows = vocabularies[ref]
    table = vocabulary.table
    if table is None:
        raise MismatchError(
            "a tokenizer for the result needs the tokenizers of all models",
            where=vocabulary.where,
            expected="tokenizer.json, tokenizer.model or vocab.json beside the weights",
            found="no tokenizer file",
            remedy="copy the tokenizer's files into the model's folder, or leave `tokenizer` out",
        )
    if all(row < rows for row in table.ids.values()):
        return table
    return TokenTable({token: row for token, row in table.ids.items() if row < rows}, table.spelling, lambda: table.special)


def _of_rule(
    rule: TokenRule,
    token: str,
    tokens: Mapping[ModelRef, Mapping[str, int]],
    tables: Mapping[ModelRef, TokenTable],
    vocabularies: Mapping[ModelRef, tuple[Vocabulary, int]],
) -> list[tuple[ModelRef, int]]:
    """The row that a rule names: of the token itself, as the result spells it; or as the named model spells it."""
    source = rule.source
    if isinstance(source, ModelRef):
        model, row, named = source, tokens[source].get(token), repr(token)
    elif isinstance(source, TokenRow):
        model, row, named = source.model, source.token_id, str(source.token_id)
        if source.token is not None:
            row, named = tables[model].ids.get(source.token), repr(source.token)
    else:
        return []
    if row is None or row >= vocabularies[model][1]:
        raise ConfigError(
            "a rule for a token names a row that is not there",
            where=f"tokenizer: tokens: {token!r}",
            expected=f"a token (or a row below {vocabularies[model][1]}) of {model}",
            found=named,
            remedy="name another token",
        )
    return [(model, row)]
