"""Laws of racing, and simulations of what it gets wrong and what it saves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmerge.search.racing import PICTURES, Race, Scores, nominal_level

ERROR_RATE = 0.2


def run(race: Race, whole: Scores) -> Scores:
    """A race over scores that are all known; what of them was asked."""
    seen = np.full(whole.shape, math.nan)
    for block, places in enumerate(race.blocks):
        for candidate in race.running(seen, block):
            seen[candidate, list(places)] = whole[candidate, list(places)]
    return seen


def generation(random: np.random.RandomState, candidates: int, spread: float, *, pictures: int = 48, each: int = 2) -> Scores:
    """Scores in 0..1: how difficult picture and question are, a candidate's skill, what it makes of each of them."""
    questions = pictures * each
    difficulty = np.repeat(random.normal(1.2, 1, pictures), each) + random.normal(0, 0.5, questions)
    skill = random.normal(0, spread, (candidates, 1))
    of_picture = np.repeat(random.normal(0, 0.5, (candidates, pictures)), each, axis=1)
    return 1 / (1 + np.exp(-2 * (difficulty + skill + of_picture + random.normal(0, 0.5, (candidates, questions)))))


def with_means(whole: Scores, means: list[float]) -> Scores:
    """The same with these whole scores exactly (but for the last bits, which order equal ones)."""
    return whole - whole.mean(axis=1, keepdims=True) + np.array(means)[:, None]


def pictures_of(whole: Scores, each: int = 2) -> list[int]:
    return [question // each for question in range(whole.shape[1])]


@pytest.mark.parametrize("case", ["equal", "alike", "apart", "the last place contested"])
def test_of_the_survivors_no_more_than_the_stated_rate_are_stopped(case: str) -> None:
    """Null: whole scores equal, with an order by their last bits, or candidates alike but for chance."""
    random, candidates, survivors = np.random.RandomState(1), 8, 4
    lost: list[float] = []
    for seed in range(1, 121):
        whole = generation(random, candidates, 0.2 if case == "apart" else 0.0)
        if case == "equal":
            whole = with_means(whole, [1e-9 * place for place in range(candidates)])
        if case == "the last place contested":
            whole = with_means(whole, [0.3, 0.3, 0.3, 1e-9, 0, 0, 0, 0])
        race = Race.deal(pictures_of(whole), survivors=survivors, error_rate=ERROR_RATE, seed=seed)
        seen = run(race, whole)
        best = np.argsort(-whole.mean(axis=1))[:survivors]
        lost.append(float(np.isnan(seen[best]).any(axis=1).mean()))
    assert float(np.mean(lost)) <= ERROR_RATE
    assert case != "equal" or float(np.mean(lost)) > 0  # It is no test if nothing is ever stopped.


def test_of_two_equals_the_one_stops_the_other_at_the_stated_rate() -> None:
    """Two candidates and one survivor: the comparison itself, over all looks. Both directions count."""
    random = np.random.RandomState(2)
    stopped = 0
    for seed in range(1, 601):
        whole = with_means(generation(random, 2, 0.0), [0.5, 0.5])
        seen = run(Race.deal(pictures_of(whole), survivors=1, error_rate=0.1, seed=seed), whole)
        stopped += int(np.isnan(seen).any())
    # Twice the rate, and three standard errors of a simulation of 600.
    assert 0.12 < stopped / 600 <= 0.2 + 3 * math.sqrt(0.2 * 0.8 / 600)


@pytest.mark.parametrize(("spread", "least"), [(0.1, 0.08), (0.2, 0.15), (0.4, 0.22)])
def test_questions_are_saved_where_candidates_differ(spread: float, least: float) -> None:
    random = np.random.RandomState(3)
    saved: list[float] = []
    for seed in range(1, 61):
        whole = generation(random, 8, spread)
        race = Race.deal(pictures_of(whole), survivors=4, error_rate=ERROR_RATE, seed=seed)
        saved.append(race.saved(run(race, whole)))
    assert float(np.mean(saved)) > least
    # Half of the candidates, after a quarter of the questions: there is no more to save.
    assert max(saved) <= 0.375


matrices = st.integers(0, 10_000).map(lambda seed: generation(np.random.RandomState(seed), 7, 0.4, pictures=36))


@settings(max_examples=25, deadline=None)
@given(matrices, st.integers(1, 6), st.integers(1, 50))
def test_whoever_finishes_ranks_before_whoever_is_stopped(whole: Scores, survivors: int, seed: int) -> None:
    race = Race.deal(pictures_of(whole), survivors=survivors, error_rate=0.4, seed=seed)
    seen = run(race, whole)
    told = race.fitness(seen)
    finished = [place for place in range(7) if not np.isnan(seen[place]).any()]
    assert len(finished) >= survivors
    for place in finished:
        assert told[place] == pytest.approx(float(whole[place].mean()))
    answered = [int(np.count_nonzero(~np.isnan(row))) for row in seen]
    for one in range(7):
        for other in range(7):
            if answered[one] > answered[other]:
                assert (told[one] or 0) > (told[other] or 0)
            if answered[one] == answered[other] and np.nanmean(seen[one]) > np.nanmean(seen[other]):
                assert (told[one] or 0) > (told[other] or 0)


@settings(max_examples=25, deadline=None)
@given(matrices, st.permutations(range(7)), st.integers(1, 50))
def test_the_order_of_candidates_decides_nothing(whole: Scores, order: list[int], seed: int) -> None:
    race = Race.deal(pictures_of(whole), survivors=3, error_rate=0.4, seed=seed)
    assert np.array_equal(run(race, whole)[order], run(race, whole[order]), equal_nan=True)
    assert [race.fitness(run(race, whole))[place] for place in order] == race.fitness(run(race, whole[order]))


@settings(max_examples=25, deadline=None)
@given(matrices, st.integers(1, 50), st.integers(0, 1000))
def test_comparisons_are_paired(whole: Scores, seed: int, salt: int) -> None:
    """How difficult a question is, the same for everybody, decides nothing, however much it varies."""
    race = Race.deal(pictures_of(whole), survivors=3, error_rate=0.4, seed=seed)
    harder = whole + np.random.RandomState(salt).randint(-8, 9, whole.shape[1])
    assert np.array_equal(np.isnan(run(race, whole)), np.isnan(run(race, harder)))


@settings(max_examples=20, deadline=None)
@given(matrices, st.integers(1, 50))
def test_questions_said_twice_tell_nothing_new(whole: Scores, seed: int) -> None:
    """A picture with every question twice is one picture: clustering, not counting questions."""
    twice = np.repeat(whole, 2, axis=1)
    once = run(Race.deal(pictures_of(whole), survivors=3, error_rate=0.4, seed=seed), whole)
    again = run(Race.deal(pictures_of(twice, 4), survivors=3, error_rate=0.4, seed=seed), twice)
    assert np.array_equal(np.repeat(np.isnan(once), 2, axis=1), np.isnan(again))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=150), st.integers(1, 9), st.integers(1, 100))
def test_every_question_is_asked_once_and_pictures_stay_together(pictures: list[int], blocks: int, seed: int) -> None:
    race = Race.deal(pictures, survivors=2, blocks=blocks, seed=seed)
    assert sorted(question for block in race.blocks for question in block) == list(range(len(pictures)))
    found = [{pictures[question] for question in block} for block in race.blocks]
    assert sum(map(len, found)) == len(set(pictures))
    assert len(race.blocks) == 1 or min(map(len, found)) >= PICTURES
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert Race.deal(pictures, survivors=2, blocks=blocks, seed=seed) == race


def test_a_failure_is_none_and_no_rival() -> None:
    whole = generation(np.random.RandomState(5), 6, 0.5)
    race = Race.deal(pictures_of(whole), survivors=3, error_rate=0.4)
    without = run(race, whole[1:])
    failed = whole.copy()
    failed[0] = math.nan
    seen = run(race, failed)
    assert np.array_equal(seen[1:], without, equal_nan=True)
    assert race.fitness(seen) == [None, *race.fitness(without)]
    assert race.saved(seen) == race.saved(without)


def test_a_weight_counts_as_so_many_questions() -> None:
    whole = generation(np.random.RandomState(6), 7, 0.3)
    tripled = np.concatenate([whole] + [whole[:, :48]] * 2, axis=1)
    weighed = Race.deal(pictures_of(whole), survivors=3, error_rate=0.4, weights=[3.0] * 48 + [1.0] * 48)
    counted = Race.deal([*pictures_of(whole), *pictures_of(whole)[:48] * 2], survivors=3, error_rate=0.4)
    assert np.array_equal(np.isnan(run(weighed, whole)), np.isnan(run(counted, tripled)[:, :96]))


def test_the_error_is_spent_over_the_looks() -> None:
    assert nominal_level(0.1, (0.5,)) == 0.1
    # Pocock's constants for 2 to 5 looks of equal information, two-sided 5 % (Jennison and Turnbull, 2000, table 2.1).
    for looks, constant in ((2, 2.178), (3, 2.289), (4, 2.361), (5, 2.413)):
        shares = tuple(step / (step + 1) for step in range(1, looks + 1))
        level = nominal_level(0.025, shares)
        assert level == pytest.approx(math.erfc(constant / math.sqrt(2)) / 2, rel=0.06)


def test_what_is_no_race_is_refused() -> None:
    for pictures, survivors, rate, weights in (
        ([], 1, 0.1, None),
        ([1], 0, 0.1, None),
        ([1], 1, 1.0, None),
        ([1], 1, 0.1, [0.0]),
    ):
        with pytest.raises(ValueError, match=r"race|weight"):
            Race.deal(pictures, survivors=survivors, error_rate=rate, weights=weights)
