"""CMA-ES: today's defaults to the bit, covariance, bounds, restarts, injection, the diagonal mode."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import cma
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmerge.search.genes import Distribution, Gene
from vlmerge.search.optimizers import CmaEs
from vlmerge.types import Genome

COVARIANCE = ((4.0, 1.2, 0.0), (1.2, 1.0, -0.3), (0.0, -0.3, 0.25))


def free(count: int) -> tuple[Gene, ...]:
    return tuple(Gene(f"gene {place}") for place in range(count))


def climb(optimizer: CmaEs, height: Callable[[Genome], float]) -> CmaEs:
    while not optimizer.done:
        genomes = optimizer.ask()
        optimizer.tell(genomes, [height(genome) for genome in genomes])
    return optimizer


def sphere(*target: float) -> Callable[[Sequence[float]], float]:
    return lambda genome: -sum((number - at) ** 2 for number, at in zip(genome, target, strict=True))


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 5), st.integers(2, 9), st.integers(1, 500))
def test_with_defaults_it_is_cma_and_nothing_else_to_the_last_bit(genes: int, population: int, seed: int) -> None:
    """What runs of version 0.1 have stored is asked for again."""
    start, height = [0.3 - 0.1 * place for place in range(genes)], sphere(*[0.5] * genes)
    outside = np.random.get_state()
    plain = cma.CMAEvolutionStrategy(list(start), 0.2, {"seed": seed, "popsize": population, "verbose": -9, "verb_log": 0})
    expected: list[list[Genome]] = []
    means: list[Genome] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(6):
            asked = [tuple(map(float, genome)) for genome in plain.ask()]
            plain.tell([np.array(genome) for genome in asked], [-height(genome) for genome in asked])
            expected.append(asked)
            means.append(tuple(map(float, plain.mean)))
    np.random.set_state(outside)
    optimizer = CmaEs(free(genes), Distribution(tuple(start), 0.2), seed, population, 6)
    for genomes, mean in zip(expected, means, strict=True):
        assert optimizer.ask() == genomes
        optimizer.tell(genomes, [height(genome) for genome in genomes])
        assert optimizer.mean == mean
    assert optimizer.sigma == float(plain.sigma)


def first_generations(genes: tuple[Gene, ...], start: Distribution, options: dict[str, object] | None = None) -> np.ndarray:
    """First generations of many seeds: (candidates, genes)."""
    drawn = [genome for seed in range(1, 9) for genome in CmaEs(genes, start, seed, 500, 1, options).ask()]
    return np.array(drawn)


def test_the_first_generation_is_drawn_from_an_inherited_covariance() -> None:
    found = np.cov(first_generations(free(3), Distribution((1.0, 2.0, 3.0), 0.1, COVARIANCE)).T)
    # 4,000 draws: a variance is known to 2.2 % (one standard error), an entry to as much of its two deviations.
    deviations = np.sqrt(np.diag(COVARIANCE))
    assert np.abs(found / 0.01 - COVARIANCE) / np.outer(deviations, deviations) == pytest.approx(np.zeros((3, 3)), abs=0.08)


def test_the_diagonal_mode_takes_an_inherited_covariance_s_variances() -> None:
    found = np.cov(first_generations(free(3), Distribution((0.0,) * 3, 0.1, COVARIANCE), {"diagonal": True}).T) / 0.01
    assert np.diag(found) == pytest.approx(np.diag(COVARIANCE), rel=0.09)
    deviations = np.sqrt(np.diag(found))
    assert np.abs(found / np.outer(deviations, deviations) - np.eye(3)).max() < 0.06


def test_scales_are_first_standard_deviations() -> None:
    genes = (Gene("wide", scale=3.0), Gene("narrow", scale=0.2))
    assert first_generations(genes, Distribution((0.0, 0.0), 0.5)).std(axis=0) == pytest.approx([1.5, 0.1], rel=0.05)


def test_scales_and_their_squares_as_a_covariance_are_the_same_search() -> None:
    genes = (Gene("wide", scale=3.0), Gene("narrow", scale=0.25))
    scaled = climb(CmaEs(genes, Distribution((0.0, 0.0), 0.5), 1, 6, 10), sphere(0.5, 0.1))
    given_ = climb(CmaEs(free(2), Distribution((0.0, 0.0), 0.5, ((9.0, 0.0), (0.0, 0.0625))), 1, 6, 10), sphere(0.5, 0.1))
    assert scaled.mean == given_.mean


def test_what_it_has_learnt_is_where_the_next_search_begins() -> None:
    """An ellipse in an odd direction: the covariance that is handed on has its axes, and is sampled from."""

    def height(genome: Genome) -> float:
        return -((genome[0] - genome[1]) ** 2) - 1e-3 * (genome[0] + genome[1]) ** 2

    learnt = climb(CmaEs(free(2), Distribution((1.0, 1.0), 0.5), 1, 20, 25), height).distribution
    matrix = np.array(learnt.covariance)
    assert matrix[0, 1] / np.sqrt(matrix[0, 0] * matrix[1, 1]) > 0.9
    again = first_generations(free(2), learnt)
    assert again.mean(axis=0) == pytest.approx(learnt.mean, abs=0.1 * learnt.sigma * np.sqrt(matrix[0, 0]))
    assert np.cov(again.T) / learnt.sigma**2 == pytest.approx(matrix, rel=0.12)


def test_before_the_first_tell_the_distribution_is_the_start() -> None:
    start = Distribution((0.1, 0.2, 0.3), 0.1, COVARIANCE)
    optimizer = CmaEs(free(3), start, 1, 5, 3)
    optimizer.ask()
    assert optimizer.distribution == start


def test_a_covariance_that_is_none_is_refused_and_rounding_is_mended() -> None:
    for covariance in (((1.0, 2.0), (2.0, 1.0)), ((1.0, 0.5), (0.0, 1.0)), ((0.0, 0.0), (0.0, 1.0)), ((1.0,),)):
        with pytest.raises(ValueError, match=r"covariance|variance"):
            CmaEs(free(2), Distribution((0.0, 0.0), 0.1, covariance), 1, 5, 3)
    # Two genes that were one: they move together and can part.
    singular = CmaEs(free(2), Distribution((0.0, 0.0), 0.1, ((1.0, 1.0), (1.0, 1.0))), 1, 5, 3)
    assert np.corrcoef(np.array(singular.ask()).T)[0, 1] > 0.9999
    parting = CmaEs(free(2), Distribution((0.0, 0.0), 0.1, ((1.0, 1.0), (1.0, 1.0))), 1, 8, 120)
    assert climb(parting, sphere(0.1, 0.2)).mean == pytest.approx((0.1, 0.2), abs=0.01)


def test_where_cma_has_changed_its_coordinates_mean_and_covariance_are_the_genes_own() -> None:
    """cma does so where a covariance's condition exceeds 1e12; here it is told to."""
    optimizer = CmaEs(free(2), Distribution((1.0, 0.5), 0.3), 1, 200, 9)
    while optimizer.told < 8:
        genomes = optimizer.ask()
        optimizer.tell(genomes, [-((a + b) ** 2) * 1e4 - (a - b - 3) ** 2 for a, b in genomes])
    before, strategy = optimizer.distribution, optimizer._descent.strategy
    strategy.sm.update_now(-1)
    strategy.alleviate_conditioning(1.01)
    after = optimizer.distribution
    assert after.mean == pytest.approx(before.mean, rel=1e-9)
    assert after.sigma**2 * np.array(after.covariance) == pytest.approx(before.sigma**2 * np.array(before.covariance), rel=1e-4)
    asked = np.array(optimizer.ask())
    assert np.cov(asked.T) == pytest.approx(after.sigma**2 * np.array(after.covariance), rel=0.3)


@pytest.mark.parametrize("genes", [1, 2, 5])
def test_it_climbs(genes: int) -> None:
    target = [0.4 - 0.1 * index for index in range(genes)]
    optimizer = climb(CmaEs(free(genes), Distribution((0.0,) * genes, 0.2), 1, 8, 40), sphere(*target))
    assert optimizer.mean == pytest.approx(target, abs=0.01)


def test_an_optimum_outside_the_bounds_is_met_at_them() -> None:
    genes = (Gene("low", 0.0, 1.0), Gene("high", None, 0.5), Gene("free"))
    optimizer = climb(CmaEs(genes, Distribution((0.0, 0.5, 0.0), 0.2), 1, 8, 40), sphere(-1.0, 2.0, 0.3))
    assert optimizer.mean == pytest.approx((0.0, 0.5, 0.3), abs=0.02)
    assert optimizer.mean[0] >= 0
    assert optimizer.mean[1] <= 0.5


def test_failures_rank_behind_the_worst_and_drive_the_mean_away() -> None:
    optimizer = CmaEs(free(2), Distribution((0.0, 0.0), 0.2), 1, 10, 20)
    while not optimizer.done:
        genomes = optimizer.ask()
        optimizer.tell(genomes, [None if genome[0] < 0.1 else -1e6 for genome in genomes])
    assert optimizer.mean[0] > 0.1


def test_the_diagonal_mode_learns_scales_in_many_genes() -> None:
    genes, factors = 40, np.logspace(0, 3, 40)

    def height(genome: Genome) -> float:
        return -float(np.dot(factors, np.square(genome)))

    start, budget = Distribution((0.3,) * genes, 0.1), (16, 120)
    full, diagonal = (climb(CmaEs(free(genes), start, 1, *budget, {"diagonal": mode}), height) for mode in (False, True))
    assert height(diagonal.mean) > height(full.mean)
    matrix = np.array(diagonal.distribution.covariance)
    assert np.count_nonzero(matrix - np.diag(np.diag(matrix))) == 0
    assert matrix[0, 0] > 5 * matrix[-1, -1]


def test_switched_off_the_active_update_asks_otherwise() -> None:
    active, passive = (
        climb(CmaEs(free(3), Distribution((0.0,) * 3, 0.2), 1, 8, 6, {"active": each}), sphere(1, 2, 3))
        for each in (True, False)
    )
    assert active.mean != passive.mean


def hills(genome: Genome) -> float:
    """Rastrigin's: a hill at every pair of whole numbers, the highest at 0, of height 0."""
    return -sum(number**2 + 4 * (1 - math.cos(2 * math.pi * number)) for number in genome)


@pytest.mark.parametrize("restarts", ["ipop", "bipop"])
def test_a_collapsed_search_begins_anew_within_its_budget(restarts: str) -> None:
    better = 0
    for seed in (1, 2, 3):
        once, optimizer = (
            CmaEs(free(2), Distribution((2.3, 2.3), 0.8), seed, 6, 150, {"restarts": how, "tolx": 1e-3})
            for how in ("none", restarts)
        )
        climb(once, hills)
        assert once.told < 150
        sizes: list[int] = []
        while not optimizer.done:
            genomes = optimizer.ask()
            sizes.append(len(genomes))
            optimizer.tell(genomes, [hills(genome) for genome in genomes])
        assert optimizer.restarts > 1
        assert 0 <= 900 - sum(sizes) < max(sizes)
        assert max(sizes) >= (24 if restarts == "ipop" else 12)
        if restarts == "ipop":
            assert sizes[:-1] == sorted(sizes[:-1])
        handed = optimizer.distribution
        assert handed.sigma * np.sqrt(np.diag(np.array(handed.covariance))).max() < 0.2
        assert hills(optimizer.mean) > hills(once.mean) - 0.1
        better += hills(optimizer.mean) > hills(once.mean) + 0.5
    assert better >= 2


def test_what_is_injected_is_asked_first_as_it_is() -> None:
    winners = ((0.25, -0.5, 1.0), (5.0, 5.0, 5.0))
    optimizer = CmaEs(free(3), Distribution((0.0,) * 3, 0.1), 1, 6, 4, {"inject": winners})
    assert tuple(optimizer.ask()[:2]) == winners
    assert len(optimizer.ask()) == 6
    bounded = CmaEs((Gene("a", 0.0, 1.0),) * 3, Distribution((0.5,) * 3, 0.1), 1, 6, 4, {"inject": winners})
    assert bounded.ask()[0] == pytest.approx((0.25, 0.0, 1.0), abs=1e-9)
    with pytest.raises(ValueError, match="a genome to inject"):
        CmaEs(free(2), Distribution((0.0,) * 2, 0.1), 1, 6, 4, {"inject": winners})


def test_a_good_genome_from_elsewhere_leads_the_search_there() -> None:
    height = sphere(1.0, -1.0, 1.0)
    plain, led = (
        climb(CmaEs(free(3), Distribution((0.0,) * 3, 0.1), 1, 8, 6, options), height)
        for options in ({}, {"inject": ((1.0, -1.0, 1.0),)})
    )
    assert height(led.mean) > height(plain.mean)


@pytest.mark.parametrize("options", [{}, {"active": False}, {"diagonal": True}])
@pytest.mark.parametrize(("first", "then"), [(4, 6), (6, 9), (12, 48)])
def test_a_generation_of_another_size_teaches_as_in_a_search_that_began_with_it(
    first: int, then: int, options: dict[str, object]
) -> None:
    """Weights and rates are those of a fresh distribution; what was learnt stays, and the way back leads where it began."""
    start = Distribution((0.3,) * 5, 0.2)

    def told(optimizer: CmaEs) -> Any:
        genomes = optimizer.ask()
        optimizer.tell(genomes, list(map(sphere(*[0.5] * 5), genomes)))
        return optimizer._descent.strategy

    def rates(strategy: Any) -> list[object]:
        sp, csa = strategy.sp, strategy.adapt_sigma
        learning = {} if options.get("diagonal") else strategy.sm.parameters(mueff=sp.weights.mueff, lam=sp.weights.lambda_)
        return [list(sp.weights), sp.weights.mueff, sp.c1, sp.cmu, sp.cc, sp.cc_sep, sp.lam_mirr, csa.cs, csa.damps, learning]

    resized, fresh, same = (CmaEs(free(5), start, 3, size, 40, options) for size in (first, then, first))
    strategy, expected, before = told(resized), told(fresh), told(same)
    began = rates(strategy)
    resized.resize(then)
    assert rates(strategy) == rates(expected) != began
    assert (resized.mean, resized.sigma) == (same.mean, same.sigma)
    assert np.array_equal(strategy.adapt_sigma.ps, before.adapt_sigma.ps)
    assert np.array_equal(strategy.pc, before.pc)
    assert np.array_equal(strategy.sm.covariance_matrix, before.sm.covariance_matrix)
    resized.resize(first)
    assert rates(strategy) == began
    assert resized.ask() == same.ask()


def test_restarts_say_themselves_how_many_candidates_there_are() -> None:
    assert CmaEs(free(2), Distribution((0.0, 0.0), 0.1), 1, 6, 4).resizes
    assert not CmaEs(free(2), Distribution((0.0, 0.0), 0.1), 1, 6, 4, {"restarts": "ipop"}).resizes
