"""Vocabularies that real models have, as folders with tokenizer files.

Mistral's first one, which is of Llama's kind (sentencepiece, 32,000 pieces, byte fallback), and Tekken, byte-level with 131,072
tokens, come from the data of the package mistral-common; Japanese words are UniDic's. Merge rules are left out of what is
written, since rows do not depend on them. Imports nothing of vlmerge.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
from functools import cache
from pathlib import Path

import unidic_lite
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers.convert_slow_tokenizer import bytes_to_unicode

SPECIAL = ("<unk>", "<s>", "</s>")
JAPANESE = 13_042
"""Japanese tokens that follow Llama's 32,000 in a vocabulary like that of ELYZA's fast models, one more token after them."""
MOVED = range(1_000, 2_000)
"""Numbers that this vocabulary gives to the same tokens in the opposite order."""


def data() -> Path | None:
    """The package's data; it is found, not imported."""
    found = importlib.util.find_spec("mistral_common")
    folder = Path(found.origin).parent / "data" if found is not None and found.origin is not None else None
    return folder if folder is not None and (folder / "tokenizer.model.v1").is_file() else None


def _data() -> Path:
    folder = data()
    assert folder is not None
    return folder


@cache
def pieces() -> tuple[str, ...]:
    """Mistral's first vocabulary, by number."""
    from sentencepiece import SentencePieceProcessor

    model = SentencePieceProcessor()
    model.Load(str(_data() / "tokenizer.model.v1"))
    return tuple(model.IdToPiece(index) for index in range(model.GetPieceSize()))


@cache
def tekken() -> tuple[bytes | str, ...]:
    """Tekken by number: the names of special tokens, then bytes."""
    whole = json.loads((_data() / "tekken_240911.json").read_text(encoding="utf-8"))
    count = whole["config"]["default_num_special_tokens"]
    special = [*SPECIAL, *(f"<SPECIAL_{index}>" for index in range(len(SPECIAL), count))]
    plain = whole["vocab"][: whole["config"]["default_vocab_size"] - count]
    return (*special, *(base64.b64decode(entry["token_bytes"]) for entry in plain))


@cache
def japanese() -> tuple[str, ...]:
    """Japanese tokens that Mistral's first vocabulary lacks: all of Tekken's, then words of UniDic from end to end of it."""
    known = dict.fromkeys(pieces())
    found: dict[str, None] = {}
    for each in tekken():
        text = each.decode(errors="replace") if isinstance(each, bytes) else ""
        if _is_japanese(text) and text not in known:
            found[text] = None
    with (Path(unidic_lite.DICDIR) / "sys.dic").open("rb") as file:
        for start in range(30_000_000, 180_000_000, 2_000_000):
            file.seek(start)
            # Entries end with a zero byte, their fields with a comma.
            for entry in file.read(200_000).split(b"\0")[1:-1]:
                for text in entry.decode(errors="replace").split(",")[6:12]:
                    if 2 <= len(text) <= 6 and _is_japanese(text) and text not in known:
                        found.setdefault(text)
    assert len(found) >= JAPANESE
    return tuple(found)[:JAPANESE]


def _is_japanese(text: str) -> bool:
    return text != "" and all("\u3040" <= letter <= "\u30ff" or "\u4e00" <= letter <= "\u9fff" for letter in text)


def write_slow(folder: Path) -> Path:
    """Llama's kind as a tokenizer.model."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_data() / "tokenizer.model.v1", folder / "tokenizer.model")
    return folder


def write_llama(folder: Path, *added: str) -> list[str]:
    """The same as a tokenizer.json with Llama's normalizer and decoder, and special tokens after it."""
    tokens = [*pieces(), *added]
    _write_sentencepiece(folder, tokens[: len(pieces())], added)
    return tokens


def write_elyza(folder: Path) -> list[str]:
    """Llama's kind with Japanese tokens behind it, 45,043 in all, some of the first ones with other numbers."""
    tokens = [*pieces(), *japanese()]
    tokens[MOVED.start : MOVED.stop] = tokens[MOVED.start : MOVED.stop][::-1]
    _write_sentencepiece(folder, tokens, ["<|more|>"])
    return [*tokens, "<|more|>"]


def write_tekken(folder: Path) -> tuple[bytes | str, ...]:
    """Tekken as a byte-level tokenizer.json."""
    letters = bytes_to_unicode()
    tokens = [each if isinstance(each, str) else "".join(letters[number] for number in each) for each in tekken()]
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _save(tokenizer, folder, [each for each in tekken() if isinstance(each, str)])
    return tekken()


def _write_sentencepiece(folder: Path, tokens: list[str], added: list[str] | tuple[str, ...]) -> None:
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    _save(tokenizer, folder, [*SPECIAL, *added])


def _save(tokenizer: Tokenizer, folder: Path, special: list[str]) -> None:
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
