"""The fast writer writes what PyYAML writes."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.config.plain_yaml import dump_plain

WORDS = st.from_regex(r"[A-Za-z0-9_./~=<-][A-Za-z0-9_./@+:#-]{0,12}", fullmatch=True) | st.sampled_from(
    ["yes", "no", "on", "null", "~", "1e5", "1e-5", "0x1F", "1_000", "12:30", "2020-01-01", ".inf", ".nan", "=", "<<", "-",
     "---", "...", "./a", "../b", "/m/a", "org/name@main", "a: b", "a #b", "y", "True", "x" * 130, "日本語", "two words", "",
     "a\x85b"]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=25
)


@given(st.dictionaries(WORDS, VALUES, max_size=4))
def test_the_text_is_that_of_pyyaml(plain: dict) -> None:
    text = dump_plain(plain)
    if "\x85" not in json.dumps(plain, ensure_ascii=False):
        assert text == yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
    assert yaml.safe_load(text) == plain


@pytest.mark.parametrize("number", [1e-5, 1e22, -1.5e300, 5e-324, 0.1, 3.0, -0.0, float("inf"), float("-inf")])
def test_numbers_come_back_to_the_last_bit(number: float) -> None:
    text = dump_plain({"weight": [number, {"value": number}]})
    assert repr(yaml.safe_load(text)) == repr({"weight": [number, {"value": number}]})
