"""What tokens stand for: read from files that say how they are spelt, met one to one, never by their look."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordLevel, WordPiece

from vlmerge.anatomy import NewVocabulary, Vocabulary, new_vocabulary
from vlmerge.anatomy.rearrangement import rearrange
from vlmerge.anatomy.spelling import Spelling, TokenTable, partners
from vlmerge.anatomy.vocabulary import overlap, row_map
from vlmerge.config import ModelRef
from vlmerge.config.tokenizer_blocks import TokenizerSpec
from vlmerge.errors import CheckpointError

BYTE_LEVEL, LLAMA = Spelling("byte-level"), Spelling("sentencepiece", has_bytes=True)
HOST, OTHER, THIRD = ModelRef("host"), ModelRef("other"), ModelRef("third")


def table(spelling: Spelling | None, *tokens: str, special: tuple[str, ...] = ()) -> TokenTable:
    return TokenTable({token: index for index, token in enumerate(tokens)}, spelling, lambda: frozenset(special))


def model(name: str, tokens: TokenTable) -> Vocabulary:
    """A vocabulary whose files were read."""
    vocabulary = Vocabulary(Path("nowhere"), name)
    vocabulary.__dict__["table"] = tokens
    return vocabulary


def written(folder: Path, *tokens: str, **parts: object) -> Vocabulary:
    """A tokenizer.json with a decoder, pre-tokenizer, normalizer of its own."""
    folder.mkdir(exist_ok=True)
    tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.save(str(folder / "tokenizer.json"))
    return Vocabulary(folder, folder.name)


def spelling_of(vocabulary: Vocabulary) -> Spelling | None:
    assert vocabulary.table is not None
    return vocabulary.table.spelling


# ── what the files say ──

GEMMA = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
LLAMA_2 = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
LLAMA_3 = pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

PREPENDED = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"decoder": decoders.ByteLevel(), "pre_tokenizer": pre_tokenizers.ByteLevel()}, BYTE_LEVEL),
        ({"decoder": decoders.ByteLevel(), "pre_tokenizer": LLAMA_3}, BYTE_LEVEL),
        ({"pre_tokenizer": LLAMA_3}, BYTE_LEVEL),
        ({"decoder": LLAMA_2}, LLAMA),
        ({"decoder": GEMMA, "normalizer": normalizers.Replace(" ", "▁")}, LLAMA),
        ({"decoder": decoders.Metaspace(), "pre_tokenizer": pre_tokenizers.Metaspace()}, Spelling("sentencepiece")),
        ({"decoder": decoders.Metaspace("_")}, Spelling("sentencepiece", "_")),
        ({"normalizer": PREPENDED}, Spelling("sentencepiece")),
        ({"decoder": decoders.WordPiece()}, None),
        ({"normalizer": normalizers.Replace("a", " b")}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_a_tokenizer_json_says_how_it_spells(tmp_path: Path, parts: dict[str, object], expected: Spelling | None) -> None:
    # The look of the tokens says nothing.
    assert spelling_of(written(tmp_path, "▁a", "Ġa", "<0x41>", **parts)) == expected


@pytest.mark.parametrize("kind", [WordLevel, WordPiece])
def test_words_are_spelt_in_no_known_way(tmp_path: Path, kind: type[WordLevel] | type[WordPiece]) -> None:
    Tokenizer(kind({"a": 0, "<unk>": 1}, unk_token="<unk>")).save(str(tmp_path / "tokenizer.json"))
    assert spelling_of(Vocabulary(tmp_path, "x")) is None


@pytest.mark.parametrize(
    ("class_name", "merges", "expected"),
    [
        (None, True, BYTE_LEVEL),
        ("GPT2Tokenizer", True, BYTE_LEVEL),
        ("Qwen2Tokenizer", True, BYTE_LEVEL),
        ("CLIPTokenizer", True, None),
        ("GPT2Tokenizer", False, None),
    ],
)
def test_a_vocab_json_is_byte_level_with_merges_unless_its_class_is_another(
    tmp_path: Path, class_name: str | None, merges: bool, expected: Spelling | None
) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"Ġa": 0, "<|end|>": 1, "b": 2}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": class_name, "eos_token": "<|end|>"}))
    if merges:
        (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    vocabulary = Vocabulary(tmp_path, "x")
    assert spelling_of(vocabulary) == expected
    assert vocabulary.table is not None
    assert vocabulary.table.special == {"<|end|>"}


def test_special_tokens_of_slow_tokenizers_are_those_that_their_files_call_so(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "<s>": 1}))
    (tmp_path / "merges.txt").write_text("")
    decoder = {"2": {"content": "<image>", "special": True}, "3": {"content": "word", "special": False}}
    settings = {"added_tokens_decoder": decoder, "add_bos_token": True, "extra_special_tokens": {"eye": "<eye>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"word": 3, "<pad>": 4}))
    purposes = {"bos_token": {"content": "<s>"}, "additional_special_tokens": ["<more>"]}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(purposes))
    found = Vocabulary(tmp_path, "x").table
    assert found is not None
    assert found.special == {"<image>", "<pad>", "<s>", "<eye>", "<more>"}
    (tmp_path / "special_tokens_map.json").write_text("{broken")
    again = Vocabulary(tmp_path, "x").table
    assert again is not None
    with pytest.raises(CheckpointError, match="cannot be read"):
        _ = again.special


def test_special_tokens_of_a_tokenizer_json_are_those_that_it_flags(tmp_path: Path) -> None:
    tokenizer = Tokenizer(BPE(vocab={"a": 0, "<unk>": 1, "<s>": 2}, merges=[], unk_token="<unk>"))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<image>", special=True)])
    tokenizer.add_tokens([AddedToken("word", special=False)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = Vocabulary(tmp_path, "x").table
    assert found is not None
    assert found.special == {"<image>", "<unk>"}


# ── what tokens stand for ──


@pytest.mark.parametrize(
    ("spelling", "token", "meaning"),
    [
        (BYTE_LEVEL, "Ġthe", b" the"),
        (BYTE_LEVEL, "Ċ", b"\n"),
        (BYTE_LEVEL, "ãģ®", "の".encode()),
        (BYTE_LEVEL, "æ", b"\xe6"),
        (BYTE_LEVEL, " の", " の".encode()),  # added as it is: a space is no letter of the alphabet
        (BYTE_LEVEL, "▁the", "▁the".encode()),
        (BYTE_LEVEL, "<0x0A>", b"<0x0A>"),
        (LLAMA, "▁the", b" the"),
        (LLAMA, "▁▁", b"  "),
        (LLAMA, "<0x0A>", b"\n"),
        (LLAMA, "<0xE6>", b"\xe6"),
        (LLAMA, "æ", "æ".encode()),
        (LLAMA, "Ġ", "Ġ".encode()),
        (Spelling("sentencepiece"), "<0x0A>", b"<0x0A>"),
        (Spelling("sentencepiece", "_"), "_a▁", " a▁".encode()),
    ],
)
def test_a_token_stands_for_what_its_decoder_makes_of_it(spelling: Spelling, token: str, meaning: bytes) -> None:
    assert spelling.read(token) == meaning


@given(st.binary(min_size=1, max_size=8))
def test_what_is_written_is_read_back(meaning: bytes) -> None:
    at_byte_level, piece = BYTE_LEVEL.write(meaning), LLAMA.write(meaning)
    assert at_byte_level is not None
    assert BYTE_LEVEL.read(at_byte_level) == meaning
    assert (
        decoders.ByteLevel().decode(["a", at_byte_level, "a"]).encode()
        == (b"a" + meaning + b"a").decode(errors="replace").encode()
    )
    if piece is not None:
        assert LLAMA.read(piece) == meaning
    else:
        assert len(meaning) > 1  # a part of a character, or what would be read otherwise


@pytest.mark.parametrize("meaning", [b"\xe6\x97", "▁".encode(), b"<0x0A>", "a▁b".encode()])
def test_what_sentencepiece_has_no_token_for(meaning: bytes) -> None:
    assert LLAMA.write(meaning) is None


# ── who meets whom ──


def test_a_byte_meets_a_byte_and_a_special_token_a_special_one() -> None:
    host = table(LLAMA, "<s>", "<0x41>", "A", "<0x0A>", "▁the", "<0xE6>", "æ", "<b>", "▁", "<e>", special=("<s>", "<e>"))
    other = table(BYTE_LEVEL, "Ġthe", "A", "æ", "Ċ", "<s>", "<b>", "Ġ", "<e>", special=("<b>", "<e>"))
    # "<s>" is special in one and text in the other, "<b>" the other way round: neither meets. "<0x41>" leaves "A" to "A".
    assert partners(host, other) == {"A": 1, "<0x0A>": 3, "▁the": 0, "<0xE6>": 2, "▁": 6, "<e>": 7}
    assert {other_token: host.ids[token] for token, row in partners(host, other).items() for other_token in other.ids
            if other.ids[other_token] == row} == partners(other, host)  # fmt: skip


PIECES = st.lists(st.sampled_from(["a", "b", "▁a", "▁", "<0x61>", "<0x62>", "<0x20>", "<0xE6>", "æ", "<s>"]), unique=True)
LETTERS = st.lists(st.sampled_from(["a", "b", "Ġa", "Ġ", "æ", "Ã¦", "<s>", " a", "ĠĠ"]), unique=True)


@given(PIECES, LETTERS, st.booleans(), st.booleans())
def test_partners_are_one_to_one_mean_the_same_and_find_each_other(
    pieces: list[str], letters: list[str], here: bool, there: bool
) -> None:
    host, other = table(LLAMA, *pieces, special=("<s>",) * here), table(BYTE_LEVEL, *letters, special=("<s>",) * there)
    met = {token: letters[row] for token, row in partners(host, other).items()}
    assert len(set(met.values())) == len(met)
    assert all(host.meaning(token) == other.meaning(letter) for token, letter in met.items())
    assert {letter: token for token, letter in met.items()} == {
        letter: pieces[row] for letter, row in partners(other, host).items()
    }
    # Whatever both can say meets.
    assert {host.meaning(token) for token in met} == set(map(host.meaning, pieces)) & set(map(other.meaning, letters))


@pytest.mark.parametrize("spelling", [BYTE_LEVEL, LLAMA, None])
def test_tokenizers_that_spell_alike_are_compared_letter_by_letter(spelling: Spelling | None) -> None:
    host = table(spelling, "<0x41>", "A", "▁a", "Ġa", "<s>", special=("<s>",))
    other = table(spelling, "A", "<s>", "<0x41>")
    assert partners(host, other) == {"A": 0, "<s>": 1, "<0x41>": 2}


def test_rows_of_different_spellings_merge_by_what_they_stand_for() -> None:
    host = model("host", table(LLAMA, "<s>", "▁a", "<0x0A>", "x", "<image>", special=("<s>", "<image>")))
    other = model("other", table(BYTE_LEVEL, "x", "Ċ", "Ġa", "y", "<s>", special=("<s>",)))
    found, warnings = row_map((host, 6), {HOST: (host, 6), OTHER: (other, 5)})
    assert found is not None
    assert found.host.tolist() == [0, 1, 2, 3]
    assert found.sources[HOST].tolist() == [0, 1, 2, 3]
    assert found.sources[OTHER].tolist() == [4, 2, 1, 0]
    assert warnings == []
    assert overlap(host, other) == (4, 5)
    # A partner beyond the rows of its model is none.
    fewer, _ = row_map((host, 6), {OTHER: (other, 4)})
    assert fewer is not None
    assert fewer.host.tolist() == [1, 2, 3]


def test_few_tokens_in_common_are_told_of_where_a_spelling_is_not_known() -> None:
    host, other = model("host", table(LLAMA, "▁a", "▁b", "▁c", "d")), model("other", table(None, "Ġa", "Ġb", "Ġc", "d"))
    found, warnings = row_map((host, 4), {HOST: (host, 4), OTHER: (other, 4)})
    assert found is not None
    assert found.merged == 1
    assert len(warnings) == 1
    assert "only 1 of 4 tokens of other" in warnings[0]
    assert "files of other do not say" in warnings[0]
    _, known = row_map((host, 4), {OTHER: (model("other", table(BYTE_LEVEL, "Ġx", "Ġy", "Ġz", "w")), 4)})
    assert known == []


# ── a vocabulary of the result's own ──


def union(*models: Vocabulary) -> tuple[NewVocabulary, dict[ModelRef, tuple[Vocabulary, int]]]:
    vocabularies = {ModelRef(each.where): (each, len(each.ids or ())) for each in models}
    refs = list(vocabularies)
    return new_vocabulary(TokenizerSpec(), refs[0], vocabularies, refs), vocabularies


def test_a_union_adds_what_is_new_once_in_the_spelling_of_the_base() -> None:
    host = model("host", table(LLAMA, "<s>", "▁a", "<0x0A>", "<b>", special=("<s>",)))
    other = model("other", table(BYTE_LEVEL, "Ġa", "Ċ", "ĠçĬ¬", "çĬ", "<s>", "<b>", "<e>", special=("<s>", "<b>", "<e>")))
    third = model("third", table(LLAMA, "▁犬", "▁猫", "▁a"))
    new, vocabularies = union(host, other, third)
    assert list(new.ids) == ["<s>", "▁a", "<0x0A>", "<b>", "▁犬", "<e>", "▁猫"]
    assert new.added == ("▁犬", "<e>", "▁猫")
    assert new.table.special == {"<s>", "<e>"}
    plan = rearrange(new, vocabularies, {})
    assert {str(ref): rows.tolist() for ref, rows in plan.rows.items()} == {
        "host": [0, 1, 2, 3, -1, -1, -1],
        "other": [4, 0, 1, -1, 2, 6, -1],  # its special "<b>" finds a plain one in its place
        "third": [-1, 2, -1, -1, 0, -1, 1],
    }
    assert plan.lost == {HOST: 0, OTHER: 2, THIRD: 0}  # "<b>", and two of the three bytes of 犬


def test_a_union_at_byte_level_can_write_everything() -> None:
    host = model("host", table(BYTE_LEVEL, "Ġa", "æ"))
    other = model("other", table(LLAMA, "<0xE6>", "▁犬", "▁a", "<0xE7>", "æ"))
    new, vocabularies = union(host, other)
    assert list(new.ids) == ["Ġa", "æ", "ĠçĬ¬", "ç", "Ã¦"]
    assert rearrange(new, vocabularies, {}).rows[OTHER].tolist() == [2, 0, 1, 3, 4]


@given(PIECES, LETTERS, PIECES)
def test_a_union_has_every_meaning_once_and_loses_what_cannot_be_written(
    pieces: list[str], letters: list[str], more: list[str]
) -> None:
    models = [
        model("host", table(BYTE_LEVEL, *letters)),
        model("other", table(LLAMA, *pieces)),
        model("third", table(LLAMA, *more)),
    ]
    new, vocabularies = union(*models)
    tables = [each.table for each in models if each.table is not None]
    # The base keeps even two tokens of one meaning; nobody adds a second one.
    added = [new.table.meaning(token) for token in new.added]
    assert len(set(added)) == len(added)
    assert not set(added) & set(tables[0].by_meaning)
    assert {new.table.meaning(token) for token in new.ids} == {each for one in tables for each in one.by_meaning}
    plan = rearrange(new, vocabularies, {})
    for each in tables[1:]:
        ref = next(ref for ref, (vocabulary, _) in vocabularies.items() if vocabulary.table is each)
        assert plan.lost[ref] == len(each.ids) - len(each.by_meaning)
