"""Which pictures a generation is asked, and how noisy its ranks are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.search.racing import PICTURES
from vlmerge.search.rotating import FIRST_SHARE, LEAST_SHARE, chosen, lengthened, next_share, reliability


@given(st.integers(1, 60), st.floats(0.01, 1), st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_every_generation_is_asked_as_many_pictures(count: int, share: float, seed: int, generation: int) -> None:
    pictures = [f"picture {at}" for at in range(count)] * 2
    shares = [share] * (generation + 1)
    found = chosen(pictures, shares, seed)
    assert found <= set(pictures)
    assert len(found) == min(count, max(PICTURES, int(np.ceil(share * count))))
    assert found == chosen(pictures, shares, seed)


def test_no_picture_comes_again_before_every_other_has_come() -> None:
    pictures = list(range(48))
    for first in (0, 2, 8):
        one, next_one = (chosen(pictures, [0.5] * count, 7) for count in (first + 1, first + 2))
        assert one | next_one == set(pictures)
    assert chosen(pictures, [0.5], 7) != chosen(pictures, [0.5] * 3, 7)


@given(st.lists(st.floats(0.25, 1), min_size=1, max_size=12), st.integers(0, 99))
def test_a_share_that_changes_goes_on_where_the_last_one_ended(shares: list[float], seed: int) -> None:
    """No picture is ever asked twice more often than another one; what has just been asked comes last."""
    times = dict.fromkeys(range(30), 0)
    for at in range(len(shares)):
        for picture in chosen(list(times), shares[: at + 1], seed):
            times[picture] += 1
        assert max(times.values()) - min(times.values()) <= 1


@pytest.mark.parametrize(("spread", "least", "most"), [(0.0, 0.0, 0.35), (0.05, 0.5, 0.9), (0.3, 0.95, 1.0)])
def test_reliability_is_how_well_other_pictures_would_rank_alike(spread: float, least: float, most: float) -> None:
    """Held against what it foretells: the correlation of the ranking with that by as many fresh pictures."""
    random, known, true = np.random.RandomState(3), [], []
    for _ in range(30):
        skill = random.normal(0, spread, (12, 1))
        here, elsewhere = (skill + random.normal(0, 0.2, (12, 40)) for _ in range(2))
        pictures = [at // 2 for at in range(40)]
        found = reliability(here, pictures, [1.0] * 40)
        assert found is not None
        known.append(found)
        true.append(np.corrcoef(here.mean(axis=1), elsewhere.mean(axis=1))[0, 1])
    assert least <= np.mean(known) <= most
    assert abs(np.mean(known) - np.mean(true)) < (0.3 if spread == 0 else 0.12)  # Cut off at 0, so that noise alone is above.


def test_more_pictures_are_more_reliable_and_as_many_are_as_reliable() -> None:
    """In steps or at once, as it has to be."""
    assert lengthened(0.5, 1) == 0.5 < lengthened(0.5, 2) < lengthened(0.5, 3) < 1
    assert lengthened(lengthened(0.3, 2), 1.5) == pytest.approx(lengthened(0.3, 3))
    assert (lengthened(0.0, 4), lengthened(1.0, 4)) == (0, 1)


def test_noise_asks_for_more_and_clear_ranks_for_less() -> None:
    assert next_share(0.5, 0.2) > 0.5 > next_share(0.5, 0.99)
    assert next_share(0.5, 0.8) == next_share(0.5, None) == 0.5
    assert next_share(1.0, 0.0) == 1.0
    assert next_share(LEAST_SHARE, 1.0) == LEAST_SHARE <= FIRST_SHARE
    assert reliability(np.zeros((2, 40)), list(range(40)), [1.0] * 40) is None
    assert reliability(np.zeros((5, 40)), list(range(40)), [1.0] * 40) == 0.0
