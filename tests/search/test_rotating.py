"""Which pictures a generation is asked, and how noisy its ranks are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.search.racing import PICTURES
from vlmerge.search.rotating import FIRST_SHARE, LEAST_SHARE, chosen, next_share, reliability


@given(st.integers(1, 60), st.floats(0.01, 1), st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_every_generation_is_asked_as_many_pictures(count: int, share: float, seed: int, generation: int) -> None:
    pictures = [f"picture {at}" for at in range(count)] * 2
    found = chosen(pictures, share, seed, generation)
    assert found <= set(pictures)
    assert len(found) == min(count, max(PICTURES, int(np.ceil(share * count))))
    assert found == chosen(pictures, share, seed, generation)


def test_no_picture_comes_again_before_every_other_has_come() -> None:
    pictures = list(range(48))
    for first in (0, 2, 8):
        assert chosen(pictures, 0.5, 7, first) | chosen(pictures, 0.5, 7, first + 1) == set(pictures)
    assert chosen(pictures, 0.5, 7, 0) != chosen(pictures, 0.5, 7, 2)


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


def test_noise_asks_for_more_and_clear_ranks_for_less() -> None:
    assert next_share(0.5, 0.2) > 0.5 > next_share(0.5, 0.99)
    assert next_share(0.5, 0.8) == next_share(0.5, None) == 0.5
    assert next_share(1.0, 0.0) == 1.0
    assert next_share(LEAST_SHARE, 1.0) == LEAST_SHARE <= FIRST_SHARE
    assert reliability(np.zeros((2, 40)), list(range(40)), [1.0] * 40) is None
    assert reliability(np.zeros((5, 40)), list(range(40)), [1.0] * 40) == 0.0
