"""Writing, length and loops of answers: what stands beside a score so that it cannot be gamed unseen."""

import json
from pathlib import Path

import pytest

from vlmerge.report.sanity import runs_in_circles
from vlmerge.writing import script


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("左に猫がいます。", "CJK"), ("猫", "CJK"), ("ｶﾀｶﾅ", "CJK"), ("a cat", "LATIN"), ("ＡＢＣ", "LATIN"),
        ("고양이", "HANGUL"), ("кошка", "CYRILLIC"), ("42", None), ("…！", None), ("", None), ("これは cat です", "CJK"),
        ("The word 猫 is a cat", "LATIN"),
    ],
)  # fmt: skip
def test_the_writing_of_a_text_is_that_of_most_letters(text: str, expected: str | None) -> None:
    assert script(text) == expected


@pytest.mark.parametrize("text", ["犬です。" * 5, "x" * 40, "The cat is " + "very " * 9, "猫と犬" * 4])
def test_what_goes_on_and_on_runs_in_circles(text: str) -> None:
    assert runs_in_circles(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "左に船があります。",
        "はいはいはいはい",
        "a a a a",
        "     ",
        "ha" * 6 + " and other words",
    ],
)
def test_what_people_say_does_not(text: str) -> None:
    assert not runs_in_circles(text)


def test_every_candidate_of_the_claims_set_is_looked_at(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    rows = {row["candidate"]: row for row in results["rows"] if (row["set"], row["task"]) == ("holdout", "all")}
    told = {one["candidate"]: one for one in results["sanity"]}
    assert set(told) == set(rows)
    for candidate, one in told.items():
        assert (one["trial"], one["set"], one["answers"]) == (rows[candidate]["trial"], "holdout", rows[candidate]["questions"])
        assert 0.9 < one["same_script"] <= 1  # A few answers of the invented run are markup.
        assert one["loops"] == one["empty"] == 0
        assert 3 < one["reference_length"] < 30
        assert 3 < one["length"] < 30
