"""Rows of models whose vocabularies are those of real ones: Llama's kind of 32,000, with Japanese behind it, and byte-level."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from real_vocabularies import JAPANESE, MOVED, data, pieces, tekken, write_elyza, write_llama, write_slow, write_tekken
from tiny_family import read_result, write_lm, write_vlm
from tokenizers import Tokenizer, decoders

from vlmerge.anatomy import Vocabulary
from vlmerge.anatomy.vocabulary import overlap
from vlmerge.check import check
from vlmerge.config.recipe import parse_recipe
from vlmerge.merge import merge, prepare

pytestmark = pytest.mark.skipif(
    data() is None, reason="the package mistral-common, whose vocabularies these are, is not installed"
)

SEEN = ("<image>", "<pad>")
HOST_ROWS = 32_064
"""LLaVA-1.5's: 32,000 of Llama, two of its own, padding."""
MET = 29_166
"""Of 32,000 pieces of Llama's kind, those that stand for the same as one of 131,072 of Tekken."""


def stands_for(piece: str) -> bytes:
    """What a piece of sentencepiece means, in this file's own words."""
    return bytes([int(piece[3:5], 16)]) if piece.startswith("<0x") and len(piece) == 6 else piece.replace("▁", " ").encode()


def is_text(meaning: bytes) -> bool:
    try:
        return meaning.decode() != ""
    except UnicodeDecodeError:
        return False


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models with real vocabularies."""
    home = tmp_path_factory.mktemp("models")
    vlm = write_vlm(home / "vlm", "hf", sizes=True, rows=HOST_ROWS).path
    write_llama(vlm, *SEEN)
    config = json.loads((vlm / "config.json").read_text()) | {"image_token_index": 32_000, "pad_token_id": 32_001}
    (vlm / "config.json").write_text(json.dumps(config))
    elyza = write_lm(home / "elyza", seed=3, rows=32_000 + JAPANESE + 1).path
    write_elyza(elyza)
    at_byte_level = write_lm(home / "tekken", seed=4, rows=len(tekken())).path
    write_tekken(at_byte_level)
    return home


def mixed(home: Path, *names: str, **keys: object) -> dict[str, object]:
    models = [{"model": str(home / name), "parameters": {"weight": 1 / len(names)}} for name in names]
    return {"merge_method": "linear", "models": models, **keys}


def test_every_token_stands_for_what_the_librarys_decoder_makes_of_it(home: Path) -> None:
    for name in ("elyza", "tekken"):
        table = Vocabulary(home / name, name).table
        assert table is not None
        tokenizer = Tokenizer.from_file(str(home / name / "tokenizer.json"))
        for token in table.ids:
            if token not in table.special:
                meaning = table.meaning(token)
                assert isinstance(meaning, bytes)
                # Letters around it, since Llama's decoder takes the first space of a text away.
                expected = tokenizer.decoder.decode(["x", token, "x"])
                assert (b"x" + meaning + b"x").decode(errors="replace") == expected, token


def test_a_tokenizer_model_says_the_same_as_its_tokenizer_json(tmp_path: Path) -> None:
    slow = Vocabulary(write_slow(tmp_path / "slow"), "slow").table
    write_llama(tmp_path / "fast")
    fast = Vocabulary(tmp_path / "fast", "fast").table
    assert slow is not None
    assert fast is not None
    assert (slow.ids, slow.spelling, slow.special) == (fast.ids, fast.spelling, fast.special)
    # "A" and "<0x41>" are two tokens that stand for one letter: that is so of all bytes below 128 that have a piece.
    assert len(slow.ids) - len(slow.by_meaning) == 125


def test_llama_in_llava_and_in_elyza(home: Path, tmp_path: Path) -> None:
    """45,043 tokens against 32,064 rows: 32,000 merge, by token, whatever their numbers; the host's own stay bit for bit."""
    host, other = Vocabulary(home / "vlm", "vlm"), Vocabulary(home / "elyza", "elyza")
    assert host.ids is not None
    assert other.ids is not None
    assert (len(host.ids), len(other.ids)) == (32_002, 45_043)
    assert overlap(host, other) == (32_000, 32_002)
    assert other.ids["の"] == host.ids["の"]
    assert other.ids[pieces()[MOVED.start]] == MOVED.stop - 1
    out = tmp_path / "out"
    merge(parse_recipe(mixed(home, "vlm", "elyza"), "a test"), out)
    result, own, theirs = read_result(out), read_result(home / "vlm"), read_result(home / "elyza")
    for mine, its in (
        ("language_model.model.embed_tokens.weight", "model.embed_tokens.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
    ):
        merged, before, source = result[mine], own[mine], theirs[its]
        rows = list(range(32_000))
        rows[MOVED.start : MOVED.stop] = rows[MOVED.start : MOVED.stop][::-1]
        assert torch.equal(merged[:32_000], ((before[:32_000].float() + source[rows].float()) / 2).half())
        assert torch.equal(merged[32_000:], before[32_000:])
    assert {name.name for name in out.glob("tokenizer*")} == {"tokenizer.json"}
    assert (out / "tokenizer.json").read_bytes() == (home / "vlm" / "tokenizer.json").read_bytes()


def test_sentencepiece_meets_byte_level(home: Path, tmp_path: Path) -> None:
    by_bytes = {each: row for row, each in enumerate(tekken()) if isinstance(each, bytes)}
    special = {each: row for row, each in enumerate(tekken()) if isinstance(each, str)}
    whole = {stands_for(piece) for piece in pieces() if len(piece) != 6 or not piece.startswith("<0x")}
    partner: dict[int, int] = {}
    for row, piece in enumerate(pieces()):
        is_byte = len(piece) == 6 and piece.startswith("<0x")
        if piece in special:
            partner[row] = special[piece]
        elif stands_for(piece) in by_bytes and not (is_byte and stands_for(piece) in whole):
            partner[row] = by_bytes[stands_for(piece)]
    assert len(partner) == MET
    assert overlap(Vocabulary(home / "vlm", "vlm"), Vocabulary(home / "tekken", "tekken")) == (MET, 32_002)
    found = check(parse_recipe(mixed(home, "vlm", "tekken"), "a test"))
    assert [row.shared_tokens for row in found.models] == [32_002, MET]
    assert not [each for each in found.warnings if "letter by letter" in each]
    out = tmp_path / "out"
    merge(parse_recipe(mixed(home, "vlm", "tekken"), "a test"), out)
    merged = read_result(out)["language_model.model.embed_tokens.weight"]
    own = read_result(home / "vlm")["language_model.model.embed_tokens.weight"]
    source = read_result(home / "tekken")["model.embed_tokens.weight"]
    mine, theirs = list(partner), list(partner.values())
    assert torch.equal(merged[mine], ((own[mine].float() + source[theirs].float()) / 2).half())
    rest = [row for row in range(HOST_ROWS) if row not in partner]
    assert torch.equal(merged[rest], own[rest])
    for piece, meaning in (
        ("▁the", b" the"),
        ("の", "の".encode()),
        ("<0x0A>", b"\n"),
        ("<0xE6>", b"\xe6"),
        ("é", "é".encode()),
    ):
        assert partner[pieces().index(piece)] == by_bytes[meaning]
    # The letter "æ" and the byte that GPT-2's alphabet writes "æ" are not one token.
    assert partner[pieces().index("æ")] == by_bytes["æ".encode()] != by_bytes[b"\xe6"]
    assert pieces().index("<0x41>") in rest
    assert partner[pieces().index("<s>")] == special["<s>"]


@pytest.mark.slow
def test_a_union_of_sentencepiece_and_byte_level_has_no_token_twice(home: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(mixed(home, "vlm", "tekken", tokenizer={"source": "union"}), "a test")
    parts = sum(1 for each in tekken() if isinstance(each, bytes) and len(each) > 1 and not is_text(each))
    pairing = prepare(recipe).pairing
    assert pairing.vocabulary is not None
    # All of both, what both have once; but what stands for parts of characters, sentencepiece cannot write.
    assert len(pairing.vocabulary.ids) == 32_002 + len(tekken()) - MET - parts
    told = {
        f"{role}: {parts} tokens of {home / 'tekken'} have no row in the result"
        for role in ("embed_tokens.weight", "lm_head.weight")
    }
    assert {each for each in pairing.warnings if "no row" in each} == told
    out = tmp_path / "out"
    merge(recipe, out)
    merged = read_result(out)["language_model.model.embed_tokens.weight"]
    own = read_result(home / "vlm")["language_model.model.embed_tokens.weight"]
    source = read_result(home / "tekken")["model.embed_tokens.weight"]
    at = {each: row for row, each in enumerate(tekken())}
    words = Tokenizer.from_file(str(out / "tokenizer.json"))
    assert words.get_vocab_size() == len(merged) == len(pairing.vocabulary.ids)
    for token, meaning in (("▁the", b" the"), ("の", "の".encode()), ("<0x0A>", b"\n")):
        row = words.token_to_id(token)
        assert row == pieces().index(token)
        assert torch.equal(merged[row], ((own[row].float() + source[at[meaning]].float()) / 2).half())
    # Tekken's alone: as Tekken has them, in the spelling of the result.
    for token, meaning in (("ありがとうございます", "ありがとうございます".encode()), ("<SPECIAL_7>", "<SPECIAL_7>")):
        row = words.token_to_id(token)
        assert row >= 32_002
        assert words.decode([row], skip_special_tokens=False) == (meaning.decode() if isinstance(meaning, bytes) else meaning)
        assert torch.equal(merged[row], source[at[meaning]])
    for token in SEEN:
        assert torch.equal(merged[words.token_to_id(token)], own[words.token_to_id(token)])


def test_the_alphabet_is_the_librarys(home: Path) -> None:
    """A byte-level token is read by the library's decoder as by ours, for each of the 256 bytes."""
    table = Vocabulary(home / "tekken", "tekken").table
    assert table is not None
    single = [table.by_meaning[bytes([number])] for number in range(128)]
    assert [decoders.ByteLevel().decode([token]) for token in single] == [chr(number) for number in range(128)]
