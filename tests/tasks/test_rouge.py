"""The bit-parallel ROUGE-L against rouge_score's own table, and against its laws."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.scoring import BootstrapAggregator

from vlmerge.tasks.rouge import bootstrap_mid, common_length, f_measure, mean, profile

TOKENS = st.lists(st.sampled_from("abcde"), max_size=90)
TEXT = st.text(max_size=80)


class SpaceTokens:
    """rouge_score's tokenizer interface: words are what stands between spaces."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


@given(TOKENS, TOKENS)
def test_equals_rouge_score_on_the_same_tokens(reference: list[str], answer: list[str]) -> None:
    theirs = RougeScorer(["rougeL"], tokenizer=SpaceTokens()).score(" ".join(reference), " ".join(answer))["rougeL"].fmeasure
    assert f_measure(profile(reference), answer) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(
    ("reference", "answer", "common", "f"),
    [
        ("abcbdab", "bdcaba", 4, 8 / 13),  # the textbook's pair
        ("左に船がある", "船がある", 4, 8 / 10),
        ("abc", "xyz", 0, 0.0),
        ("", "abc", 0, 0.0),
        ("abc", "", 0, 0.0),
        ("", "", 0, 0.0),
        ("aaaa", "aa", 2, 4 / 6),
    ],
)
def test_hand_computed(reference: str, answer: str, common: int, f: float) -> None:
    assert common_length(profile(reference), answer) == common
    assert f_measure(profile(reference), answer) == pytest.approx(f, abs=1e-15)


@given(TEXT, TEXT)
def test_is_symmetric_and_bounded(one: str, other: str) -> None:
    length = common_length(profile(one), other)
    assert length == common_length(profile(other), one)
    assert 0 <= length <= min(len(one), len(other))
    assert 0.0 <= f_measure(profile(one), other) <= 1.0
    assert f_measure(profile(one), other) == f_measure(profile(other), one)


@given(st.text(min_size=1, max_size=80))
def test_identity_is_one(text: str) -> None:
    assert f_measure(profile(text), text) == 1.0


@given(TEXT, TEXT, TEXT)
def test_more_of_both_never_shortens_the_common_part(one: str, other: str, more: str) -> None:
    assert common_length(profile(one + more), other + more) >= common_length(profile(one), other) + len(more)


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.randoms(use_true_random=False))
def test_the_mean_does_not_depend_on_the_order(scores: list[float], shuffler: random.Random) -> None:
    shuffled = list(scores)
    shuffler.shuffle(shuffled)
    assert mean(shuffled) == mean(scores)
    assert min(scores) - 1e-12 <= mean(scores) <= max(scores) + 1e-12


def test_the_bootstrap_mid_is_rouge_scores_within_its_own_noise() -> None:
    generator = random.Random(5)
    sentences = [" ".join(generator.choices("abcdef", k=8)) for _ in range(121)]
    scorer, aggregator = RougeScorer(["rougeL"], tokenizer=SpaceTokens()), BootstrapAggregator()
    ours: list[float] = []
    for reference, answer in zip(sentences[1:], sentences[:-1], strict=True):
        aggregator.add_scores(scorer.score(reference, answer))
        ours.append(f_measure(profile(reference.split()), answer.split()))
    theirs = aggregator.aggregate()["rougeL"].mid.fmeasure
    # Standard error of the mean is about 0.01 here; a median of 1000 resampled means wanders by a tenth of that.
    assert bootstrap_mid(ours) == pytest.approx(theirs, abs=0.003)
    assert bootstrap_mid(ours) == pytest.approx(mean(ours), abs=0.003)
    assert bootstrap_mid(ours, seed=3) == bootstrap_mid(ours, seed=3)
