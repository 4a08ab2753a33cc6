"""CatCMA with margin: choices and numbers together."""

from __future__ import annotations

import numpy as np
import pytest

from vlmerge.search.genes import Distribution, Gene
from vlmerge.search.optimizers import CatCma
from vlmerge.types import Genome

METHODS = ("linear", "ties", "slerp")
GENES = (Gene("method", choices=METHODS), Gene("weight", -1.0, 2.0), Gene("density", 0.0, 1.0, scale=0.5), Gene("free"))


def climb(optimizer: CatCma) -> CatCma:
    """The best weight depends on the method."""

    def height(genome: Genome) -> float:
        method, weight, density, free = genome
        best, top = {0.0: (0.2, 0.0), 1.0: (0.9, 0.3), 2.0: (0.5, 0.1)}[method]
        return top - (weight - best) ** 2 - (density - 0.7) ** 2 - (free + 0.4) ** 2

    while not optimizer.done:
        genomes = optimizer.ask()
        optimizer.tell(genomes, [height(genome) for genome in genomes])
    return optimizer


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_finds_the_choice_and_the_numbers_that_go_with_it(seed: int) -> None:
    optimizer = climb(CatCma(GENES, Distribution((0.0, 0.5, 0.5, 0.0), 0.3), seed, 12, 50))
    assert optimizer.mean == pytest.approx((1.0, 0.9, 0.7, -0.4), abs=0.05)
    assert optimizer.probabilities["method"][1] > 0.7


def test_every_choice_stays_possible() -> None:
    optimizer = climb(CatCma(GENES, Distribution((0.0, 0.5, 0.5, 0.0), 0.3), 1, 12, 60))
    assert min(optimizer.probabilities["method"]) > 0.1
    assert sum(optimizer.probabilities["method"]) == pytest.approx(1)


@pytest.mark.parametrize(("hold", "share"), [(0.0, 1 / 3), (0.7, 0.7 + 0.3 / 3)])
def test_the_first_generation_follows_the_start(hold: float, share: float) -> None:
    covariance = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.6), (0.0, 0.0, 0.04, 0.0), (0.0, 0.6, 0.0, 1.0))
    start = Distribution((2.0, 0.5, 0.5, 1.0), 0.1, covariance)
    drawn = np.array([genome for seed in (1, 2, 3) for genome in CatCma(GENES, start, seed, 800, 1, {"hold": hold}).ask()])
    assert np.mean(drawn[:, 0] == 2) == pytest.approx(share, abs=0.035)
    real = drawn[:, 1:]
    assert real.mean(axis=0) == pytest.approx(start.mean[1:], abs=0.01)
    assert np.cov(real.T) / 0.01 == pytest.approx(np.array(covariance)[1:, 1:], abs=0.1)


def test_what_it_has_learnt_is_handed_on() -> None:
    learnt = climb(CatCma(GENES, Distribution((0.0, 0.5, 0.5, 0.0), 0.3), 1, 12, 30)).distribution
    covariance = np.array(learnt.covariance)
    assert covariance == pytest.approx(covariance.T)
    assert covariance[0] == pytest.approx((1, 0, 0, 0))
    again = CatCma(GENES, learnt, 2, 200, 1, {"hold": 0.9})
    drawn = np.array(again.ask())
    assert np.mean(drawn[:, 0] == learnt.mean[0]) > 0.8
    assert drawn[:, 1:].mean(axis=0) == pytest.approx(learnt.mean[1:], abs=0.05)


def test_numbers_alone_and_choices_alone_are_searched() -> None:
    numbers = CatCma(GENES[1:], Distribution((0.5, 0.5, 0.0), 0.3), 1, 10, 30)
    while not numbers.done:
        numbers.tell(numbers.ask(), [-((g[0] - 1) ** 2) - g[2] ** 2 - g[1] ** 2 for g in numbers.ask()])
    assert numbers.mean == pytest.approx((1.0, 0.0, 0.0), abs=0.1)
    genes = tuple(Gene(f"layer {place}", choices=("a", "b", "c", "d")) for place in range(5))
    choices = CatCma(genes, Distribution((0.0,) * 5, 0.3), 1, 10, 40)
    while not choices.done:
        choices.tell(choices.ask(), [sum(number == 2 for number in g) for g in choices.ask()])
    assert choices.mean == (2.0,) * 5
    assert choices.sigma == 0.3
