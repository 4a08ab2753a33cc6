"""What follows from unreliable ranks: more questions while there are some, then more candidates, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.search.noise import MOST, asked_on, next_population
from vlmerge.search.rotating import NOISY

reliabilities = st.none() | st.floats(0, 1)


@given(st.floats(0.01, 1), reliabilities)
def test_questions_come_first_and_candidates_only_where_there_are_none_left(share: float, known: float | None) -> None:
    more = asked_on(share, known, whole=False)
    noisy = known is not None and known < NOISY
    assert (more is not None) == noisy
    assert more is None or share < more <= 1 or share == 1
    assert asked_on(share, known, whole=True) is None
    assert next_population(10, 10, known, whole=False) == 10
    assert next_population(10, 10, known, whole=True) == (15 if noisy else 10)


@given(st.integers(2, 40), st.lists(reliabilities, max_size=20))
def test_a_generation_is_never_smaller_than_the_first_nor_larger_than_its_bound(
    first: int, reliabilities: list[float | None]
) -> None:
    sizes = [first]
    for known in reliabilities:
        sizes.append(next_population(sizes[-1], first, known, whole=True))
    assert all(first <= size <= MOST * first for size in sizes)


@pytest.mark.parametrize("first", [2, 5, 8, 12])
def test_noise_throughout_leads_to_the_bound_and_clear_ranks_lead_back(first: int) -> None:
    size = first
    for _ in range(8):
        size = next_population(size, first, 0.0, whole=True)
    assert size == MOST * first
    for _ in range(8):
        size = next_population(size, first, 1.0, whole=True)
    assert size == first
