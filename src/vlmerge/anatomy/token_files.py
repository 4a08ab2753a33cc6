"""The tokens of a model and their spelling, from the files beside the weights."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from vlmerge.anatomy.spelling import Spelling, TokenTable
from vlmerge.checkpoint.guarded import TOKENIZER_BYTES, guarded
from vlmerge.errors import CheckpointError

BYTE_LEVEL = Spelling("byte-level")

NOT_BYTE_LEVEL = (
    "Bertweet", "BlenderbotSmall", "CLIP", "CTRL", "FSMT", "Flaubert", "Herbert", "OpenAIGPT", "Phobert", "XLM",
)  # fmt: skip
"""Tokenizers whose vocab.json and merges.txt are not spelt as GPT-2's are."""


def token_table(folder: Path, where: str) -> TokenTable | None:
    """The tokens of a model; None where there is no tokenizer file at all.

    Args:
        folder: Where its files are.
        where: The model, for messages.

    Raises:
        CheckpointError: A tokenizer file that cannot be read.
    """
    for name, read in (("tokenizer.json", _fast), ("tokenizer.model", _sentencepiece), ("vocab.json", _plain)):
        if (folder / name).is_file():
            file = guarded(folder, name, TOKENIZER_BYTES)
            with _told(name, where):
                table = read(file, where)
                _check(table.ids)
                return table
    return None


@contextmanager
def _told(name: str, where: str) -> Generator[None, None, None]:
    """Says which file cannot be read."""
    try:
        yield
    except BaseException as error:
        # The readers are compiled libraries with exception types of their own: tokenizers raises a bare Exception, and where
        # its Rust gives up, something that is not even one.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(
            "a tokenizer file cannot be read",
            where=f"{where}: {name}",
            expected=f"a whole {name} as transformers writes it",
            found=f"{type(error).__name__}: {error}",
            remedy="fetch the file again from the model's repository",
        ) from error


def _fast(file: Path, _: str) -> TokenTable:
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_file(str(file))
    flagged = {str(token.content) for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    unknown = getattr(tokenizer.model, "unk_token", None)
    special = frozenset(flagged | ({unknown} if isinstance(unknown, str) else set()))
    ids: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    return TokenTable(ids, _spelling_of(tokenizer), lambda: special)


def _spelling_of(tokenizer: Any) -> Spelling | None:
    """What the decoder undoes; without a decoder, what the pre-tokenizer or the normalizer does."""
    for part in (tokenizer.decoder, tokenizer.pre_tokenizer, tokenizer.normalizer):
        steps = list(_steps(json.loads(part.__getstate__()))) if part is not None else []
        if any(step["type"] == "ByteLevel" for step in steps):
            return BYTE_LEVEL
        for step in steps:
            space = _space(step)
            if space is not None:
                has_bytes = any(each["type"] == "ByteFallback" for each in steps)
                return Spelling("sentencepiece", space, has_bytes or bool(getattr(tokenizer.model, "byte_fallback", False)))
    return None


def _steps(part: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if part["type"] != "Sequence":
        yield part
        return
    for key in ("decoders", "pretokenizers", "normalizers"):
        for each in part.get(key) or ():
            yield from _steps(each)


def _space(step: Mapping[str, Any]) -> str | None:
    """What a step puts for a space, or takes for one."""
    if step["type"] == "Metaspace":
        return str(step["replacement"])
    if step["type"] != "Replace":
        return None
    pattern, content = step["pattern"].get("String"), step["content"]
    if " " not in (pattern, content):
        return None
    other = pattern if content == " " else content
    return other if isinstance(other, str) and len(other) == 1 and other != " " else None


def _sentencepiece(file: Path, where: str) -> TokenTable:
    from sentencepiece import SentencePieceProcessor

    model: Any = SentencePieceProcessor()
    model.Load(str(file))
    count = int(model.GetPieceSize())
    ids = {str(model.IdToPiece(index)): index for index in range(count)}
    has_bytes = bool(model.IsByte(ids["<0x41>"])) if "<0x41>" in ids else False

    def special() -> frozenset[str]:
        own = {token for token, index in ids.items() if model.IsControl(index) or model.IsUnknown(index)}
        return frozenset(own | _special_beside(file.parent, where))

    return TokenTable(ids | _added(file.parent), Spelling("sentencepiece", has_bytes=has_bytes), special)


def _plain(file: Path, where: str) -> TokenTable:
    ids: dict[str, int] = json.loads(file.read_text(encoding="utf-8"))
    named = str(_settings(file.parent).get("tokenizer_class") or "")
    # Without merges it is another kind of tokenizer: words, letters, or a file of sentencepiece's of another name.
    known = (file.parent / "merges.txt").is_file() and not named.startswith(NOT_BYTE_LEVEL)
    return TokenTable(
        ids | _added(file.parent), BYTE_LEVEL if known else None, lambda: frozenset(_special_beside(file.parent, where))
    )


def _check(ids: Mapping[str, int]) -> None:
    """Raises ValueError for ids that rows cannot have: -1 would be the last row to whoever gathers by it."""
    for token, index in ids.items():
        if type(index) is not int or index < 0:
            raise ValueError(f"the token {token!r} has the id {index!r}")


def _added(folder: Path) -> dict[str, int]:
    """Tokens that slow tokenizers keep outside their model: added_tokens.json, and tokenizer_config.json since 4.34."""
    decoder: dict[str, dict[str, Any]] = _settings(folder).get("added_tokens_decoder") or {}
    return {str(entry["content"]): int(index) for index, entry in decoder.items()} | _object(folder, "added_tokens.json")


def _special_beside(folder: Path, where: str) -> set[str]:
    """Special tokens by the files around a slow tokenizer's model; added tokens of which nothing is said count as such."""
    with _told("tokenizer_config.json", where):
        settings = _settings(folder)
        decoder: dict[str, dict[str, Any]] = settings.get("added_tokens_decoder") or {}
        plain = {str(entry["content"]) for entry in decoder.values() if not entry.get("special", False)}
        special = {str(entry["content"]) for entry in decoder.values()} | set(_object(folder, "added_tokens.json"))
        return (special - plain) | set(_named(settings)) | set(_named(_object(folder, "special_tokens_map.json")))


def _named(settings: Mapping[str, Any]) -> Iterator[str]:
    """Tokens that settings name for a purpose: `eos_token`, `additional_special_tokens`."""
    for key, value in settings.items():
        if key.endswith("_token"):
            given: list[Any] = [value]
        elif key.endswith("special_tokens"):
            given = list(cast("Any", value).values() if isinstance(value, dict) else value or ())
        else:
            continue
        for each in given:
            content = cast("Any", each).get("content") if isinstance(each, dict) else each
            if isinstance(content, str):
                yield content


def _settings(folder: Path) -> dict[str, Any]:
    return _object(folder, "tokenizer_config.json")


def _object(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file beside the tokenizer's; empty where there is none."""
    if not (folder / name).is_file():
        return {}
    return json.loads(guarded(folder, name, TOKENIZER_BYTES).read_text(encoding="utf-8"))
