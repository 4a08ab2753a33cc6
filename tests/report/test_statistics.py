"""Intervals cover what they say, because whole pictures are drawn; differences are paired."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.statistics import (
    DRAWS,
    Interval,
    holm,
    interval,
    mean_interval,
    paired_p,
    resampled_task_means,
    tail,
    task_means,
    weighted,
)

GROUPS, EACH = 30, 3


def clustered(random: np.random.Generator) -> np.ndarray:
    """Scores around 0.5 of which three at a time share nearly all of their luck."""
    luck = np.repeat(random.normal(0, 0.2, GROUPS), EACH)
    return 0.5 + luck + random.normal(0, 0.05, GROUPS * EACH)


def coverage(groups: np.ndarray, repeats: int = 250) -> float:
    """How often the interval holds the true mean."""
    random = np.random.default_rng(3)
    hits = 0
    for seed in range(repeats):
        found = mean_interval(clustered(random), groups, draws=400, seed=seed + 1)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.5 <= found.high
    return hits / repeats


def skewed(random: np.random.Generator, sets: int, groups: int) -> np.ndarray:
    """Sets × groups × questions: scores like those of good merges, mostly near 1, alike within a picture."""
    luck = random.beta(4, 0.8, (sets, groups, 1))
    return np.where(random.random((sets, groups, EACH)) < 0.6, luck, random.beta(3, 1, (sets, groups, EACH)))


@pytest.mark.parametrize("groups", [64, 140])
def test_nominal_95_percent_cover_at_least_94(groups: int) -> None:
    """Over 9,600 invented sets of clustered, skewed scores, of as many pictures as the demo's sets have."""
    truth, outside = skewed(np.random.default_rng(11), 400, 2000).mean(), tail(groups)
    hits: list[bool] = []
    for part in range(4):
        random = np.random.default_rng(12 + part)
        scores = skewed(random, 2400, groups)
        times = random.multinomial(groups, np.full(groups, 1 / groups), size=2000) / groups
        low, high = np.quantile(scores.mean(axis=2) @ times.T, [outside, 1 - outside], axis=1)
        hits += ((low <= truth) & (truth <= high)).tolist()
        found = mean_interval(scores[0].ravel(), np.repeat(np.arange(groups), EACH), draws=4000)  # The product's own.
        assert (found.low, found.high) == (pytest.approx(low[0], abs=0.01), pytest.approx(high[0], abs=0.01))
    assert np.mean(hits) >= 0.94


def test_drawing_question_by_question_would_claim_too_much() -> None:
    assert coverage(np.repeat(np.arange(GROUPS), EACH)) >= 0.9
    assert coverage(np.arange(GROUPS * EACH)) < 0.85


def test_with_many_pictures_nothing_is_expanded() -> None:
    assert tail(5) < tail(30) < tail(1000) < 0.025
    assert tail(10**6) == pytest.approx(0.025, abs=1e-6)


def test_p_values_are_even_where_nothing_differs_and_small_where_much_does() -> None:
    random, groups = np.random.default_rng(8), np.repeat(np.arange(GROUPS), EACH)
    tasks = np.zeros(GROUPS * EACH, dtype=np.int64)

    def p(shift: float) -> float:
        pair = np.stack([clustered(random) + shift, clustered(random)])
        drawn = resampled_task_means(pair, tasks, groups, draws=300)
        found = paired_p(drawn[:, 0, 0] - drawn[:, 1, 0], GROUPS)
        assert found is not None
        return found

    null = [p(0.0) for _ in range(200)]
    assert 0.02 <= np.mean([each < 0.05 for each in null]) <= 0.12
    assert 0.4 <= np.mean(null) <= 0.6
    assert max(p(0.4) for _ in range(5)) <= 2 / 301
    assert paired_p(np.zeros(DRAWS), GROUPS) == 1
    assert paired_p(np.full(3, np.nan), GROUPS) is None
    assert paired_p(np.ones(DRAWS), 1) is None
    assert paired_p(np.ones(DRAWS), 3) == 0.25  # three pictures that agree are one of eight, on either side


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_one_comparison_and_bonferroni_and_keeps_the_order(alone: list[float]) -> None:
    adjusted = holm(alone)
    order = sorted(range(len(alone)), key=lambda place: alone[place])
    assert [adjusted[place] for place in order] == sorted(adjusted)
    assert adjusted[order[0]] == pytest.approx(min(1.0, len(alone) * alone[order[0]]))
    for mine, found in zip(alone, adjusted, strict=True):
        assert mine <= found <= 1


def test_holm_as_in_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_spread_is_that_of_group_means() -> None:
    scores = clustered(np.random.default_rng(1))
    groups = np.repeat(np.arange(GROUPS), EACH)
    drawn = resampled_task_means(scores[None, :], np.zeros(len(scores), dtype=np.int64), groups, draws=8000)[:, 0, 0]
    expected = scores.reshape(GROUPS, EACH).mean(axis=1).std() / np.sqrt(GROUPS)
    assert drawn.std() == pytest.approx(expected, rel=0.05)
    assert drawn.mean() == pytest.approx(scores.mean(), abs=expected / 10)


def test_candidates_share_the_draws_so_that_differences_are_paired() -> None:
    random = np.random.default_rng(2)
    hard = clustered(random)
    pair = np.stack([hard, hard + 0.02])
    tasks, groups = np.zeros(len(hard), dtype=np.int64), np.repeat(np.arange(GROUPS), EACH)
    drawn = resampled_task_means(pair, tasks, groups, draws=500)
    np.testing.assert_allclose(drawn[:, 1] - drawn[:, 0], 0.02)


def test_the_order_of_questions_and_the_names_of_groups_do_not_matter() -> None:
    scores, groups = clustered(np.random.default_rng(5)), np.repeat(np.arange(GROUPS), EACH)
    order = np.random.default_rng(6).permutation(len(scores))
    first, second = mean_interval(scores, groups), mean_interval(scores[order], groups[order])
    assert first.low == pytest.approx(second.low)
    assert first.high == pytest.approx(second.high)
    assert mean_interval(scores, groups * 7 - 100) == first


def test_one_picture_says_nothing_of_the_spread() -> None:
    assert mean_interval(np.array([0.0, 1.0, 1.0]), np.zeros(3, dtype=np.int64)) == Interval(pytest.approx(2 / 3), None, None)


def test_tasks_are_weighed_and_a_task_of_weight_zero_takes_no_part_even_unasked() -> None:
    scores = np.array([[1.0, 0.0, 0.5, np.nan], [1.0, 1.0, 0.0, 1.0]])
    means = task_means(scores, np.array([0, 0, 1, 2]))
    np.testing.assert_allclose(weighted(means, np.array([1.0, 3.0, 0.0])), [0.5, 0.25])
    assert np.isnan(weighted(means, np.array([1.0, 1.0, 1.0]))[0])


def test_what_a_candidate_was_not_asked_stays_its_own_gap() -> None:
    scores = np.array([[1.0, 0.0, np.nan, np.nan], [1.0, 1.0, 0.0, 1.0]])
    drawn = resampled_task_means(scores, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), draws=300)
    assert np.isnan(drawn[:, 0, 1]).all()
    assert not np.isnan(drawn[:, 0, 0]).any()
    assert not np.isnan(drawn[:, 1]).any()


def test_a_draw_without_a_question_of_a_task_does_not_spoil_its_interval() -> None:
    tasks, groups = np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3])
    drawn = resampled_task_means(np.array([[0.0, 1.0, 0.2, 0.8]]), tasks, groups, draws=300)
    assert np.isnan(drawn).any()
    found = interval(0.5, drawn[:, 0, 1], 2)
    assert found.low == pytest.approx(0.2)
    assert found.high == pytest.approx(0.8)
