"""Tokenizer files of a result with a vocabulary or a chat template of its own: copied where they can be, edited where not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmerge.checkpoint.layout import tokenizer_file_names
from vlmerge.errors import CheckpointError

TEMPLATE_FILE = "chat_template.jinja"


def tokenizer_files(files: Mapping[str, Path]) -> dict[str, Path]:
    """Those of a model's files that belong to its tokenizer: relative name → file."""
    return {name: files[name] for name in tokenizer_file_names(files)}


def with_tokens(
    files: Mapping[str, Path], ids: Mapping[str, int], new: Sequence[str], kinds: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Texts of the files that name single tokens, with further ones, and without those that have no row.

    Args:
        files: A tokenizer's files.
        ids: Every token of the result → its row.
        new: Those that the files do not know.
        kinds: Token → how its own model's tokenizer.json describes it, for added tokens.

    Raises:
        CheckpointError: There is no tokenizer.json to add to, or it would give tokens other rows.
    """
    if "tokenizer.json" not in files:
        raise CheckpointError(
            "tokens can be added to a tokenizer.json alone",
            where="tokenizer",
            expected="tokenizer.json among the files of the base",
            found=", ".join(files) or "no tokenizer file",
            remedy="save the base's tokenizer once with transformers (AutoTokenizer.from_pretrained(…).save_pretrained(…))",
        )
    texts: dict[str, str] = {}
    entries = [_entry(token, ids[token], kinds.get(token)) for token in new]
    whole = _object(files["tokenizer.json"])
    own: list[dict[str, Any]] = whole.get("added_tokens") or []
    whole["added_tokens"] = [*(each for each in own if str(each["content"]) in ids), *entries]
    texts["tokenizer.json"] = json.dumps(whole, ensure_ascii=False, indent=2) + "\n"
    _check_rows(texts["tokenizer.json"], ids)
    if "tokenizer_config.json" in files:
        settings = _object(files["tokenizer_config.json"])
        decoder: dict[str, Any] | None = settings.get("added_tokens_decoder")
        if decoder is not None:
            kept = {row: each for row, each in decoder.items() if str(each["content"]) in ids}
            further = {str(each["id"]): {key: value for key, value in each.items() if key != "id"} for each in entries}
            settings["added_tokens_decoder"] = {**kept, **further}
            texts["tokenizer_config.json"] = json.dumps(settings, ensure_ascii=False, indent=2) + "\n"
    if "added_tokens.json" in files:
        kept = {token: row for token, row in _object(files["added_tokens.json"]).items() if token in ids}
        added = {**kept, **{token: ids[token] for token in new}}
        texts["added_tokens.json"] = json.dumps(added, ensure_ascii=False, indent=2) + "\n"
    return texts


def _check_rows(text: str, ids: Mapping[str, int]) -> None:
    """The library numbers added tokens as it likes: where that is not the row that a token has, the result would be garbage."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_str(text).get_vocab(with_added_tokens=True)
    wrong = [token for token, row in ids.items() if found.get(token) != row]
    if wrong or len(found) > len(ids):
        example = wrong[0] if wrong else next(token for token in found if token not in ids)
        raise CheckpointError(
            "new tokens cannot be added to this tokenizer",
            where="tokenizer.json of the base",
            expected="tokens numbered from 0 without a gap, each with a row in the embedding",
            found=f"{example!r} would be token {found.get(example)}, its row is {ids.get(example)}",
            remedy="use `source: base`, or the tokenizer of a model",
        )


def added_tokens(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Token → its description, of the added tokens of a tokenizer.json; empty where there is none."""
    if "tokenizer.json" not in files:
        return {}
    entries: list[dict[str, Any]] = _object(files["tokenizer.json"]).get("added_tokens") or []
    return {str(entry["content"]): entry for entry in entries}


def chat_template(files: Mapping[str, Path]) -> str | None:
    """The chat template among a tokenizer's files, None where there is none."""
    if TEMPLATE_FILE in files:
        return files[TEMPLATE_FILE].read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if name in files:
            found = _object(files[name]).get("chat_template")
            if isinstance(found, str):
                return found
    return None


def most_frequent(templates: Sequence[str | None]) -> str | None:
    """The template that most models have, the first of equally many."""
    counted = Counter(template for template in templates if template is not None)
    return counted.most_common(1)[0][0] if counted else None


def with_template(files: Mapping[str, Path], texts: Mapping[str, str], template: str) -> dict[str, str]:
    """Texts of files in which this is the only chat template.

    Args:
        files: A tokenizer's files.
        texts: Those of them that were edited before.
        template: Jinja text.
    """
    changed = {TEMPLATE_FILE: template}
    for name in ("chat_template.json", "tokenizer_config.json"):
        if name in texts or name in files:
            data = json.loads(texts[name]) if name in texts else _object(files[name])
            if "chat_template" in data:
                rest = {key: value for key, value in data.items() if key != "chat_template"}
                changed[name] = json.dumps(rest, ensure_ascii=False, indent=2) + "\n"
    return {**texts, **changed}


def _entry(token: str, row: int, kind: Mapping[str, Any] | None) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    own = {key: kind[key] for key in plain if key in kind} if kind is not None else {}
    return {"id": row, "content": token, **plain, **own}


def _object(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
