"""NSGA-II: the front, its middle, failures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.search.genes import Distribution, Gene
from vlmerge.search.optimizers import FrontPoint, NsgaII, optimizer
from vlmerge.search.optimizers.nsga_ii import dominates, front
from vlmerge.types import Genome

GENES = (Gene("weight"), Gene("density", 0.0, 1.0), Gene("method", choices=("a", "b")))
START = Distribution((0.5, 0.5, 0.0), 0.25)


def both(genome: Genome) -> tuple[float, float]:
    """Near 0 and near 1 cannot be had at once: the front is the way between them, with density 0.3 and method b."""
    weight, density, method = genome
    lost = (density - 0.3) ** 2 + 0.2 * (method != 1)
    return -(weight**2) - lost, -((weight - 1) ** 2) - lost


def climb(chosen: NsgaII) -> NsgaII:
    while not chosen.done:
        genomes = chosen.ask()
        chosen.tell(genomes, [both(genome) for genome in genomes])
    return chosen


def covered(points: tuple[FrontPoint, ...]) -> float:
    """Area in which a front beats everything, above (-2, -2)."""
    area, floor = 0.0, -2.0
    for first, second in sorted((point.fitness for point in points), reverse=True):
        area += max(first + 2, 0) * max(second - floor, 0)
        floor = max(floor, second)
    return area


def test_the_front_lies_on_the_way_between_the_objectives() -> None:
    found = climb(NsgaII(GENES, START, 1, 16, 20)).front
    assert len(found) >= 10
    weights = [point.genome[0] for point in found]
    assert min(weights) < 0.15
    assert max(weights) > 0.85
    assert all(point.fitness == both(point.genome) for point in found)
    assert all(point.genome[2] == 1 and abs(point.genome[1] - 0.3) < 0.2 for point in found)


def test_it_covers_more_than_one_objective_and_more_than_chance() -> None:
    areas: list[float] = []
    for seed in (1, 2, 3):
        chance = optimizer("random", GENES, START, seed, 16, 20)
        told: list[FrontPoint] = []
        while not chance.done:
            genomes = chance.ask()
            told += [FrontPoint(genome, both(genome)) for genome in genomes]
            chance.tell(genomes, [0.0] * 16)
        areas.append(covered(climb(NsgaII(GENES, START, seed, 16, 20)).front) - covered(front(told)))
    assert float(np.median(areas)) > 0


def test_the_mean_is_the_most_balanced_point() -> None:
    chosen = climb(NsgaII(GENES, START, 1, 16, 20))
    assert chosen.mean in [point.genome for point in chosen.front]
    assert chosen.mean[0] == pytest.approx(0.5, abs=0.1)


def test_failures_never_displace_what_was_scored() -> None:
    chosen = NsgaII(GENES, START, 1, 10, 12)
    while not chosen.done:
        genomes = chosen.ask()
        # Scores far below 0: a failure is behind them all the same.
        chosen.tell(genomes, [None if g[0] < 0.4 else (both(g)[0] - 1e6, both(g)[1] - 1e6) for g in genomes])
    assert all(genome[0] > 0.4 for genome in (point.genome for point in chosen.front))
    survivors = chosen._algorithm.pop.get("G")
    assert (survivors < 0).all()


def test_a_number_of_objectives_stays() -> None:
    chosen = NsgaII(GENES, START, 1, 4, 3)
    chosen.tell(chosen.ask(), [(1.0, 2.0)] * 4)
    with pytest.raises(ValueError, match="objectives"):
        chosen.tell(chosen.ask(), [(1.0, 2.0, 3.0)] * 4)


def test_what_is_injected_is_asked_first() -> None:
    chosen = NsgaII(GENES, START, 1, 6, 3, {"inject": ((0.1, 0.2, 1.0), (0.9, 3.0, 0.0))})
    assert chosen.ask()[:2] == [(0.1, 0.2, 1.0), (0.9, 1.0, 0.0)]


points = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)).map(
        lambda f: FrontPoint((float(100 * f[0] + 10 * f[1] + f[2]),), f)
    ),
    max_size=12,
)


@given(points)
def test_a_front_is_what_nobody_beats_whatever_the_order(told: list[FrontPoint]) -> None:
    found = front(told)
    assert not any(dominates(one.fitness, other.fitness) for one in told for other in found)
    for point in told:
        assert point in found or any(dominates(other.fitness, point.fitness) for other in found)
    assert front(found) == found
    assert {point.fitness for point in front(told[::-1])} == {point.fitness for point in found}
