"""What a token stands for, whichever way its tokenizer spells it: "▁the", "Ġthe" and " the" are one and the same.

A token stands for the bytes that its tokenizer's decoder makes of it. Two spellings are known:

- byte-level (GPT-2, Llama 3, Qwen): a character for each byte, "Ġthe" for " the" and "Ċ" for a newline (Radford et al. 2019);
- sentencepiece (Llama 1 and 2, Mistral, Gemma, T5): "▁" for a space, and "<0x0A>" for a byte that no piece has (Kudo and
  Richardson 2018, byte fallback).

A special token stands for itself: it meets special tokens of the same name, never a plain one, whatever that says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Meaning = bytes | str
"""What a plain token stands for, in bytes; the name of a special one. The two are never equal."""

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Spelling:
    """How a tokenizer writes its tokens down.

    Attributes:
        kind: See above.
        space: What stands for a space; of sentencepiece.
        has_bytes: Whether "<0x0A>" is a byte; of sentencepiece.
    """

    kind: Literal["byte-level", "sentencepiece"]
    space: str = "▁"
    has_bytes: bool = False

    def like(self, other: Spelling) -> bool:
        """Whether equal strings are equal tokens in both."""
        return self.kind == other.kind and (self.kind == "byte-level" or self.space == other.space)

    def is_byte(self, token: str) -> bool:
        """Whether a token is a byte by its number."""
        return self.has_bytes and BYTE.fullmatch(token) is not None

    def read(self, token: str) -> bytes:
        """The bytes that a plain token stands for."""
        if self.kind == "byte-level":
            # A string with other characters was added as it is: decoders leave it alone.
            numbers = [_BYTE_OF.get(character) for character in token]
            return token.encode(errors="surrogatepass") if None in numbers else bytes(number or 0 for number in numbers)
        if self.is_byte(token):
            return bytes.fromhex(token[3:5])
        return token.replace(self.space, " ").encode(errors="surrogatepass")

    def write(self, meaning: bytes) -> str | None:
        """The token that stands for these bytes; None where there is none, as of sentencepiece for parts of characters."""
        if self.kind == "byte-level":
            return "".join(_CHARACTER_OF[number] for number in meaning)
        if self.has_bytes and len(meaning) == 1 and meaning[0] >= 0x80:
            return f"<0x{meaning[0]:02X}>"
        try:
            token = meaning.decode().replace(" ", self.space)
        except UnicodeDecodeError:
            return None
        return token if self.read(token) == meaning else None


@dataclass(frozen=True, eq=False)
class TokenTable:
    """The tokens of a tokenizer.

    Attributes:
        ids: Token → id, added tokens included.
        spelling: None where the files do not say.
        special_tokens: Gives those that stand for no text. It is called only where spellings differ.
    """

    ids: Mapping[str, int]
    spelling: Spelling | None
    special_tokens: Callable[[], frozenset[str]] = frozenset

    @cached_property
    def special(self) -> frozenset[str]:
        """Tokens that stand for no text."""
        return self.special_tokens()

    def meaning(self, token: str) -> Meaning:
        """What a token stands for; the spelling has to be known."""
        return token if token in self.special or self.spelling is None else self.spelling.read(token)

    @cached_property
    def by_meaning(self) -> Mapping[Meaning, str]:
        """Meaning → the one token that stands for it here.

        Where several do ("A" and "<0x41>"), it is the one that is no byte by its number, and among those the first by id.
        """
        spelling = self.spelling
        found: dict[Meaning, str] = {}
        later: list[str] = []
        for token in sorted(self.ids, key=self.ids.__getitem__):
            if spelling is not None and spelling.is_byte(token):
                later.append(token)
            else:
                found.setdefault(self.meaning(token), token)
        for token in later:
            found.setdefault(self.meaning(token), token)
        return found


def alike(one: TokenTable, other: TokenTable) -> bool:
    """Whether tokens are compared letter by letter: spellings are the same, or one of them is not known."""
    return one.spelling is None or other.spelling is None or one.spelling.like(other.spelling)


def partners(host: TokenTable, other: TokenTable) -> Mapping[str, int]:
    """Token of the host → id of its partner in the other vocabulary.

    Where both spell alike, these are the other's ids as they are, tokens that the host lacks among them. Else tokens meet by
    meaning, each at most once.
    """
    if alike(host, other):
        return other.ids
    theirs = other.by_meaning
    return {token: other.ids[theirs[meaning]] for meaning, token in host.by_meaning.items() if meaning in theirs}


def _characters() -> dict[int, str]:
    """Byte → its character: printable ones of Latin-1 are their own, the others follow from U+0100 on (Radford et al. 2019)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (number for number in range(256) if number not in printable)
    return {number: chr(number) for number in printable} | {number: chr(0x100 + at) for at, number in enumerate(others)}


_CHARACTER_OF = _characters()
_BYTE_OF = {character: number for number, character in _CHARACTER_OF.items()}
