"""Laws of the optimizer."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmerge.errors import RunFolderError
from vlmerge.search import Optimizer, default_population, plan
from vlmerge.store import Generation, Store
from vlmerge.types import Genome


def fitness_of(genomes: list[Genome], seed: int) -> list[float | None]:
    """Random fitness with failures, the same for the same genomes."""
    generator = random.Random(f"{seed}{genomes}")
    return [None if generator.random() < 0.2 else round(generator.random(), 2) for _ in genomes]


def drive(optimizer: Optimizer, seed: int) -> list[Generation]:
    """Runs to the end; what a store would hold."""
    kept: list[Generation] = []
    while not optimizer.done:
        genomes = optimizer.ask()
        fitness = fitness_of(genomes, seed)
        optimizer.tell(genomes, fitness)
        kept.append(Generation(0, len(kept), tuple(genomes), tuple(fitness), optimizer.mean, optimizer.sigma, None))
    return kept


@settings(max_examples=15)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 6), st.integers(1, 1000), st.data())
def test_interrupted_equals_uninterrupted(
    genes: int, population: int, generations: int, seed: int, data: st.DataObject
) -> None:
    def fresh() -> Optimizer:
        return Optimizer((0.3,) * genes, 0.2, seed, population, generations)

    whole = drive(fresh(), seed)
    cut = data.draw(st.integers(0, len(whole)))
    again = fresh()
    again.replay(whole[:cut])
    rest = drive(again, seed)
    assert [(g.genomes, g.mean, g.sigma) for g in whole[cut:]] == [(g.genomes, g.mean, g.sigma) for g in rest]


def test_a_generation_that_was_asked_but_not_told_is_asked_once_more(tmp_path: Path) -> None:
    first = Optimizer((0.1, 0.2), 0.1, 1, 5, 3)
    with Store.create(tmp_path / "run.sqlite") as store:
        genomes = first.ask()
        store.record_ask(0, 0, genomes)
        fitness = fitness_of(genomes, 1)
        first.tell(genomes, fitness)
        store.record_tell(0, 0, fitness, first.mean, first.sigma, 1.0)
        store.record_ask(0, 1, first.ask())
        again = Optimizer((0.1, 0.2), 0.1, 1, 5, 3)
        again.replay(store.generations(0))
        assert again.ask() == first.ask()
        assert (again.mean, again.told) == (first.mean, 1)


def test_another_record_is_refused() -> None:
    whole = drive(Optimizer((0.1, 0.2), 0.1, 1, 5, 3), 1)
    with pytest.raises(RunFolderError, match="cannot be rebuilt"):
        Optimizer((0.1, 0.2), 0.1, 2, 5, 3).replay(whole)


def test_numpys_global_random_numbers_neither_matter_nor_change() -> None:
    quiet = drive(Optimizer((0.3, 0.1, 0.2), 0.2, 7, 6, 5), 7)
    np.random.seed(123)
    expected = [np.random.rand() for _ in range(20)]
    np.random.seed(123)
    drawn: list[float] = []
    optimizer = Optimizer((0.3, 0.1, 0.2), 0.2, 7, 6, 5)
    noisy: list[tuple[Genome, ...]] = []
    while not optimizer.done:
        drawn += [np.random.rand(), np.random.rand()]
        genomes = optimizer.ask()
        drawn += [np.random.rand()]
        optimizer.tell(genomes, fitness_of(genomes, 7))
        drawn += [np.random.rand()]
        noisy.append(tuple(genomes))
    assert noisy == [generation.genomes for generation in quiet]
    assert drawn == expected


def test_two_optimizers_side_by_side_do_not_meet() -> None:
    alone = drive(Optimizer((0.3, 0.1), 0.2, 1, 6, 4), 1)
    one, two = Optimizer((0.3, 0.1), 0.2, 1, 6, 4), Optimizer((0.3, 0.1), 0.2, 2, 6, 4)
    for generation in alone:
        two.tell(two.ask(), fitness_of(two.ask(), 2))
        assert tuple(one.ask()) == generation.genomes
        one.tell(one.ask(), list(generation.fitness or ()))


@pytest.mark.parametrize("genes", [1, 2, 5])
def test_it_climbs(genes: int) -> None:
    target = [0.4 - 0.1 * index for index in range(genes)]
    optimizer = Optimizer((0.0,) * genes, 0.2, 1, 8, 40)
    while not optimizer.done:
        genomes = optimizer.ask()
        optimizer.tell(genomes, [-sum((g - t) ** 2 for g, t in zip(genome, target, strict=True)) for genome in genomes])
    assert optimizer.mean == pytest.approx(target, abs=0.01)


def test_failures_rank_behind_the_worst_and_drive_the_mean_away() -> None:
    optimizer = Optimizer((0.0, 0.0), 0.2, 1, 10, 20)
    while not optimizer.done:
        genomes = optimizer.ask()
        optimizer.tell(genomes, [None if genome[0] < 0.1 else -1e6 for genome in genomes])
    assert optimizer.mean[0] > 0.1


def test_a_generation_of_failures_alone_is_told() -> None:
    optimizer = Optimizer((0.0, 0.0), 0.2, 1, 4, 2)
    optimizer.tell(optimizer.ask(), [None] * 4)
    assert optimizer.told == 1
    assert all(np.isfinite(optimizer.ask()).ravel())


def test_it_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    optimizer = Optimizer((0.5,) * 3, 0.2, 1, 6, 30)
    while not optimizer.done:
        optimizer.tell(optimizer.ask(), [0.5] * 6)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_what_was_not_asked_cannot_be_told() -> None:
    optimizer = Optimizer((0.0, 0.0), 0.2, 1, 4, 2)
    with pytest.raises(ValueError, match="tell takes exactly what ask gave"):
        optimizer.tell([(0.0, 0.0)] * 4, [1.0] * 4)
    with pytest.raises(ValueError, match="not finite"):
        optimizer.tell(optimizer.ask(), [float("nan")] * 4)


@given(st.integers(1, 500), st.integers(1, 60), st.one_of(st.none(), st.integers(2, 40)), st.booleans())
def test_a_plan_never_exceeds_its_budget_and_wastes_less_than_a_generation(
    budget: int, genes: int, population: int | None, enlarge: bool
) -> None:
    size, generations = plan(budget, genes, population, enlarge=enlarge)
    assert 0 <= budget - size * generations < size
    wanted = min(population or default_population(genes), budget)
    if population is None and enlarge:
        assert wanted <= size <= wanted * 1.25
        assert size * generations >= budget // wanted * wanted
    else:
        assert size == wanted
