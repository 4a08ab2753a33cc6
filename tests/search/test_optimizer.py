"""Laws that every optimizer of the registry keeps."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlmerge.errors import ConfigError, RunFolderError
from vlmerge.search import OPTIMIZERS, Optimizer, default_population, optimizer, plan
from vlmerge.search.genes import Distribution, Gene
from vlmerge.search.optimizers import Fitness
from vlmerge.search.optimizers.contract import costs, within
from vlmerge.store import Generation, Store
from vlmerge.types import Genome

FREE, BOUNDED, HALF = Gene("free"), Gene("bounded", -0.2, 0.9), Gene("half", low=0.0, scale=0.5)
CHOICE, ALONE = Gene("choice", choices=("a", "b", "c")), Gene("alone", choices=("only",))
SPACES: dict[str, tuple[Gene, ...]] = {
    "real": (FREE, BOUNDED, HALF),
    "mixed": (FREE, CHOICE, BOUNDED, ALONE),
    "choices": (CHOICE, Gene("two", choices=("x", "y"))),
}
VARIANTS: dict[str, tuple[str, Mapping[str, object]]] = {
    **{name: (name, {}) for name in OPTIMIZERS},
    "cma-es, ipop": ("cma-es", {"restarts": "ipop", "tolx": 0.05}),
    "cma-es, bipop": ("cma-es", {"restarts": "bipop", "tolx": 0.05}),
    "cma-es, diagonal, not active": ("cma-es", {"diagonal": True, "active": False}),
    "optuna, cma-es": ("optuna", {"sampler": "cma-es"}),
    "optuna, qmc": ("optuna", {"sampler": "qmc"}),
}
PAIRS = [(name, space) for name in VARIANTS for space in SPACES if VARIANTS[name][0] != "cma-es" or space == "real"]
"""Every algorithm with every kind of genes that it can search."""

LEARNING = tuple(name for name in VARIANTS if name not in ("random", "optuna, qmc"))

each_pair = pytest.mark.parametrize(("name", "space"), PAIRS)


def made(name: str, space: str, seed: int = 1, population: int = 6, generations: int = 4) -> Optimizer:
    """A fresh one."""
    algorithm, options = VARIANTS[name]
    genes = SPACES[space]
    return optimizer(algorithm, genes, Distribution((0.3,) * len(genes), 0.2), seed, population, generations, options)


def fitness_of(chosen: Optimizer, genomes: Sequence[Genome], salt: object = "") -> list[Fitness | None]:
    """Random fitness with failures and ties, the same for the same genomes."""
    generator = random.Random(f"{salt}{list(genomes)}")
    one = [None if generator.random() < 0.2 else round(generator.random(), 1) for _ in genomes]
    return [None if score is None else (score, round(generator.random(), 1)) for score in one] if chosen.several else [*one]


def drive(chosen: Optimizer, salt: object = "") -> list[Generation]:
    """Runs to the end; what a store would hold."""
    kept: list[Generation] = []
    while not chosen.done:
        genomes = chosen.ask()
        fitness = fitness_of(chosen, genomes, salt)
        chosen.tell(genomes, fitness)
        kept.append(Generation(0, len(kept), tuple(genomes), tuple(fitness), chosen.mean, chosen.sigma, None))
    return kept


def digest_of_everything() -> str:
    """Whatever the whole registry asks for, from one seed."""
    asked = [[generation.genomes for generation in drive(made(name, space, generations=3))] for name, space in PAIRS]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


@each_pair
def test_replay_equals_going_on(name: str, space: str) -> None:
    whole = drive(made(name, space))
    assert whole
    for cut in (1, len(whole) - 1, len(whole)):
        again = made(name, space)
        again.replay(whole[:cut])
        assert again.told == cut
        if cut:
            assert (again.mean, again.sigma) == (whole[cut - 1].mean, whole[cut - 1].sigma)
        rest = drive(again)
        assert [(g.genomes, g.mean, g.sigma) for g in whole[cut:]] == [(g.genomes, g.mean, g.sigma) for g in rest]


SIZES = (6, 9, 14, 9, 24, 6)


@each_pair
def test_generations_of_other_sizes_are_replayed_as_they_were_or_refused(name: str, space: str) -> None:
    chosen = made(name, space, generations=11)
    if not chosen.resizes:
        chosen.resize(chosen.population)
        with pytest.raises(ValueError, match="began with 6"):
            chosen.resize(9)
        return
    kept: list[Generation] = []
    while not chosen.done:
        wanted, left = SIZES[len(kept) % len(SIZES)], chosen.left
        chosen.resize(wanted)
        genomes = chosen.ask()
        assert len(genomes) == min(wanted, left) == chosen.population
        with pytest.raises(ValueError, match="told first"):
            chosen.resize(7 if chosen.population != 7 and left > 7 else 8)
        chosen.tell(genomes, fitness_of(chosen, genomes))
        kept.append(Generation(0, len(kept), tuple(genomes), (), chosen.mean, chosen.sigma, None))
    assert 60 < sum(len(one.genomes) for one in kept) <= 66
    told = [fitness_of(chosen, one.genomes) for one in kept]
    stored = [Generation(0, at, one.genomes, tuple(told[at]), one.mean, one.sigma, None) for at, one in enumerate(kept)]
    for cut in range(1, len(kept) + 1):
        again = made(name, space, generations=11)
        again.replay(stored[:cut])
        assert (again.mean, again.sigma, again.told) == (kept[cut - 1].mean, kept[cut - 1].sigma, cut)
        if cut < len(kept):
            again.resize(SIZES[cut % len(SIZES)])
            assert tuple(again.ask()) == kept[cut].genomes


@each_pair
def test_a_generation_that_was_asked_but_not_told_is_asked_once_more(name: str, space: str, tmp_path: Path) -> None:
    first = made(name, space)
    genomes = first.ask()
    fitness = fitness_of(first, genomes)
    first.tell(genomes, fitness)
    with Store.create(tmp_path / "run.sqlite") as store:
        store.record_ask(0, 0, genomes)
        store.record_tell(0, 0, fitness, first.mean, first.sigma, 1.0)
        store.record_ask(0, 1, first.ask())
        stored = store.generations(0)
    again = made(name, space)
    again.replay(stored)
    assert again.ask() == first.ask()
    assert (again.mean, again.told) == (first.mean, 1)


@each_pair
def test_the_seed_decides(name: str, space: str) -> None:
    one, same, other = (drive(made(name, space, seed=seed)) for seed in (1, 1, 2))
    assert one == same
    assert [each.genomes for each in one] != [each.genomes for each in other]
    with pytest.raises(RunFolderError, match="cannot be rebuilt"):
        made(name, space, seed=2).replay(one)


def test_the_hash_seed_decides_nothing() -> None:
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import test_optimizer; print(test_optimizer.digest_of_everything())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": seed}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [digest_of_everything()]


@each_pair
def test_the_global_random_numbers_neither_matter_nor_change(name: str, space: str) -> None:
    quiet = drive(made(name, space))
    np.random.seed(123)
    random.seed(123)
    expected = [(np.random.rand(), random.random()) for _ in range(40)]
    np.random.seed(123)
    random.seed(123)
    drawn: list[tuple[float, float]] = []
    noisy: list[tuple[Genome, ...]] = []
    chosen = made(name, space)
    while not chosen.done:
        drawn.append((np.random.rand(), random.random()))
        genomes = chosen.ask()
        drawn.append((np.random.rand(), random.random()))
        fitness_state = random.getstate()
        chosen.tell(genomes, fitness_of(chosen, genomes))
        assert random.getstate() == fitness_state
        noisy.append(tuple(genomes))
    assert noisy == [generation.genomes for generation in quiet]
    assert drawn == expected[: len(drawn)]


@each_pair
def test_two_side_by_side_do_not_meet(name: str, space: str) -> None:
    alone = drive(made(name, space))
    one, two = made(name, space), made(name, space, seed=2)
    for generation in alone:
        if not two.done:
            two.tell(two.ask(), fitness_of(two, two.ask(), 2))
        assert tuple(one.ask()) == generation.genomes
        one.tell(one.ask(), fitness_of(one, one.ask()))


@each_pair
@pytest.mark.parametrize(("population", "generations"), [(1, 3), (2, 3), (7, 4), (5, 0)])
def test_the_budget_is_never_exceeded_and_everything_stays_within_the_bounds(
    name: str, space: str, population: int, generations: int
) -> None:
    chosen, asked = made(name, space, population=population, generations=generations), 0
    genes = SPACES[space]
    assert within(genes, chosen.mean) == chosen.mean
    while not chosen.done:
        genomes = chosen.ask()
        assert len(genomes) == chosen.population
        asked += len(genomes)
        assert genomes == [within(genes, genome) for genome in genomes]
        # The farther out the better: the mean is driven to the bounds.
        chosen.tell(genomes, [(sum(genome),) * 2 if chosen.several else sum(genome) for genome in genomes])
        assert chosen.mean == within(genes, chosen.mean)
        assert np.isfinite(chosen.sigma)
        assert chosen.sigma > 0
    assert population * generations - population < asked <= population * generations or generations == 0
    with pytest.raises(ValueError, match="done"):
        chosen.ask()


@each_pair
@pytest.mark.parametrize("score", [0.5, None])
def test_flat_scores_and_failures_alone_do_not_stop_it(name: str, space: str, score: float | None) -> None:
    chosen = made(name, space, generations=8)
    for _ in range(8):
        genomes = chosen.ask()
        assert np.isfinite(genomes).all()
        chosen.tell(genomes, [(score, score) if chosen.several and score is not None else score] * len(genomes))
    assert chosen.mean == within(SPACES[space], chosen.mean)


@pytest.mark.parametrize(("name", "space"), [(name, space) for name, space in PAIRS if name in LEARNING and name != "nsga-ii"])
def test_a_failure_counts_as_the_worst_of_its_generation(name: str, space: str) -> None:
    """To fail and to be clearly the worst are the same."""
    failing, worst = made(name, space, generations=3), made(name, space, generations=3)
    for _ in range(3):
        genomes = failing.ask()
        assert worst.ask() == genomes
        place = max(range(len(genomes)), key=lambda index: genomes[index])
        scores = [0.1 * index for index in range(len(genomes))]
        failing.tell(genomes, [None if index == place else score for index, score in enumerate(scores)])
        worst.tell(genomes, [-1e6 if index == place else score for index, score in enumerate(scores)])


@pytest.mark.parametrize(("name", "space"), [(name, space) for name, space in PAIRS if name in LEARNING and space != "choices"])
def test_it_climbs_higher_than_random_search(name: str, space: str) -> None:
    genes = SPACES[space]
    target = [0.6, 1.0, 0.5, 0.0] if space == "mixed" else [0.6, 0.5, 0.4]

    def height(genome: Genome) -> float:
        return -sum(0.05 * (g != t) if gene.choices else (g - t) ** 2 for gene, g, t in zip(genes, genome, target, strict=True))

    def reached(name: str, seed: int) -> float:
        chosen = made(name, space, seed, population=8, generations=15)
        while not chosen.done:
            genomes = chosen.ask()
            chosen.tell(genomes, [(height(g), height(g)) if chosen.several else height(g) for g in genomes])
        return height(chosen.mean)

    seeds = (1,) if name.startswith("optuna") else (1, 2, 3)
    assert float(np.median([reached(name, s) for s in seeds])) > float(np.median([reached("random", s) for s in (1, 2, 3)]))


@each_pair
def test_what_was_not_asked_cannot_be_told(name: str, space: str) -> None:
    chosen = made(name, space)
    good, bad = ((1.0, 1.0), (float("nan"), 1.0)) if chosen.several else (1.0, float("nan"))
    with pytest.raises(ValueError, match="tell takes exactly what ask gave"):
        chosen.tell([(0.0,) * len(SPACES[space])] * 6, [good] * 6)
    with pytest.raises(ValueError, match="not finite"):
        chosen.tell(chosen.ask(), [bad] * 6)
    with pytest.raises(ValueError, match="a fitness is"):
        chosen.tell(chosen.ask(), [1.0 if chosen.several else (1.0, 2.0)] * 6)
    genomes = chosen.ask()
    chosen.tell(genomes, [good] * 6)
    assert chosen.told == 1


@each_pair
def test_it_writes_nothing(
    name: str, space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    drive(made(name, space))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_wrong_option_is_told_with_its_remedy(name: str) -> None:
    start = Distribution((0.0,), 0.1)
    with pytest.raises(ConfigError, match=f"unknown option `injekt` of {name}"):
        optimizer(name, [FREE], start, 1, 4, 2, {"injekt": []})
    with pytest.raises(ConfigError, match="unknown algorithm"):
        optimizer("cmaes", [FREE], start, 1, 4, 2)


def test_a_wrong_value_of_an_option_is_told_with_what_was_expected() -> None:
    with pytest.raises(ConfigError, match="'none', 'ipop' or 'bipop'"):
        optimizer("cma-es", [FREE], Distribution((0.0,), 0.1), 1, 4, 2, {"restarts": "often"})
    with pytest.raises(ConfigError, match="algorithm: catcma"):
        optimizer("cma-es", [FREE, CHOICE], Distribution((0.0, 0.0), 0.1), 1, 4, 2)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_cannot_be_is_refused(name: str) -> None:
    start = Distribution((0.0,), 0.1)
    for seed, population, generations, begin in (
        (0, 4, 2, start), (1, 0, 2, start), (1, 4, -1, start), (1, 4, 2, Distribution((0.0, 1.0), 0.1)),
        (1, 4, 2, Distribution((0.0,), 0.0)), (1, 4, 2, Distribution((0.0,), 0.1, ((-1.0,),))),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"seeds|population|numbers|step size|variance"):
            optimizer(name, [FREE], begin, seed, population, generations)


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=12))
def test_a_failure_costs_more_than_everything_else(fitness: list[float | None]) -> None:
    paid = costs(fitness)
    others = [cost for cost, score in zip(paid, fitness, strict=True) if score is not None]
    assert all(cost > max(others, default=-1.0) for cost, score in zip(paid, fitness, strict=True) if score is None)
    scores = [score for score in fitness if score is not None]
    assert others == [-score for score in scores]


@given(st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4))
def test_bringing_to_the_bounds_is_done_at_once(numbers: list[float]) -> None:
    genes = SPACES["mixed"]
    once = within(genes, numbers)
    assert within(genes, once) == once
    assert once[0] == numbers[0]


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


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 6), st.integers(1, 1000), st.data())
def test_interrupted_equals_uninterrupted(
    genes: int, population: int, generations: int, seed: int, data: st.DataObject
) -> None:
    def fresh() -> Optimizer:
        return optimizer("cma-es", [FREE] * genes, Distribution((0.3,) * genes, 0.2), seed, population, generations)

    whole = drive(fresh(), seed)
    cut = data.draw(st.integers(0, len(whole)))
    again = fresh()
    again.replay(whole[:cut])
    rest = drive(again, seed)
    assert [(g.genomes, g.mean, g.sigma) for g in whole[cut:]] == [(g.genomes, g.mean, g.sigma) for g in rest]


def test_without_optuna_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"vlmerge\[optuna\]"):
        optimizer("optuna", [FREE], Distribution((0.0,), 0.1), 1, 4, 2)
