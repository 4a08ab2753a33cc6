"""Tokens from every kind of tokenizer file, and rows that meet by token."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.anatomy import Vocabulary
from vlmerge.anatomy.spelling import TokenTable
from vlmerge.anatomy.vocabulary import row_map
from vlmerge.config import ModelRef
from vlmerge.errors import CheckpointError, MismatchError

HOST, OTHER = ModelRef("host"), ModelRef("other")


def known(name: str, ids: dict[str, int] | None) -> Vocabulary:
    """A vocabulary whose files were read."""
    vocabulary = Vocabulary(Path("nowhere"), name)
    vocabulary.__dict__["table"] = None if ids is None else TokenTable(ids, None)
    return vocabulary


def counted(*tokens: str) -> dict[str, int]:
    return {token: index for index, token in enumerate(tokens)}


def test_tokenizer_json_with_added_tokens(tmp_path: Path) -> None:
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import BPE

    tokenizer = Tokenizer(BPE(vocab=counted("<unk>", "▁a", "b"), merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens([AddedToken("<image>", special=True)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert Vocabulary(tmp_path, "x").ids == counted("<unk>", "▁a", "b", "<image>")


def test_sentencepiece_with_the_tokens_beside_it_equals_the_fast_tokenizer(tmp_path: Path) -> None:
    import sentencepiece

    model = io.BytesIO()
    text = iter(["a cat sits on a mat", "the dog sees the cat", "dogs and cats"] * 20)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=text, model_writer=model, vocab_size=40, model_type="bpe", minloglevel=2
    )
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<pad>": 41}))
    settings = {"added_tokens_decoder": {"0": {"content": "<unk>"}, "40": {"content": "<image>"}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ids = Vocabulary(tmp_path, "x").ids
    assert ids is not None
    assert (len(ids), ids["<unk>"], ids["<s>"], ids["<image>"], ids["<pad>"]) == (42, 0, 1, 40, 41)
    assert any(token.startswith("▁") for token in ids)


def test_vocab_json(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps(counted("a", "b")))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<c>": 2}))
    assert Vocabulary(tmp_path, "x").ids == counted("a", "b", "<c>")


def test_no_file_and_a_broken_file(tmp_path: Path) -> None:
    assert Vocabulary(tmp_path, "x").ids is None
    for name in ("vocab.json", "tokenizer.model", "tokenizer.json"):
        (tmp_path / name).write_text("{broken")
        with pytest.raises(CheckpointError, match=name):
            _ = Vocabulary(tmp_path, "x").ids


def test_equal_tokenizers_that_fill_all_rows_need_no_map() -> None:
    one, two = known("host", counted("a", "b")), known("other", counted("a", "b"))
    assert row_map((one, 2), {HOST: (one, 2), OTHER: (two, 2)}) == (None, [])


def test_padding_stays_the_hosts_even_where_row_counts_agree() -> None:
    one, two = known("host", counted("a", "b")), known("other", counted("a", "b"))
    found, _ = row_map((one, 4), {HOST: (one, 4), OTHER: (two, 4)})
    assert found is not None
    assert (found.merged, found.total, found.straight) == (2, 4, True)


def test_without_a_tokenizer_equal_rows_are_taken_for_the_same_and_said_so() -> None:
    one, two = known("host", counted("a", "b")), known("other", None)
    found, warnings = row_map((one, 2), {HOST: (one, 2), OTHER: (two, 2)})
    assert found is None
    assert len(warnings) == 1
    assert "other" in warnings[0]
    with pytest.raises(MismatchError, match="without a tokenizer"):
        row_map((one, 2), {HOST: (one, 2), OTHER: (two, 3)})


TOKENS = st.lists(st.sampled_from("abcdefghij"), unique=True, min_size=1)


@given(TOKENS, TOKENS, TOKENS, st.integers(0, 3), st.integers(-2, 3))
def test_rows_that_meet_have_one_token_and_all_that_can_meet_do(
    host: list[str], one: list[str], two: list[str], padding: int, other_padding: int
) -> None:
    own, first, second = known("host", counted(*host)), known("one", counted(*one)), known("two", counted(*two))
    rows, first_rows = len(host) + padding, max(1, len(one) + other_padding)  # fewer rows than tokens: those tokens have none
    refs = {ModelRef("one"): (first, first_rows), ModelRef("two"): (second, len(two))}
    found, _ = row_map((own, rows), refs)
    usable = one[:first_rows]
    if found is None:
        assert host == usable == two
        assert rows == first_rows == len(two)
        return
    assert [host[row] for row in found.host] == [token for token in host if token in usable and token in two]
    assert [one[row] for row in found.sources[ModelRef("one")]] == [host[row] for row in found.host]
    assert [two[row] for row in found.sources[ModelRef("two")]] == [host[row] for row in found.host]
    counting = np.arange(found.merged)
    everything = (found.host, *found.sources.values())
    assert found.straight == all(np.array_equal(each, counting) for each in everything)
