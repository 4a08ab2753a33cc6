"""TIES, DARE, Breadcrumbs, DELLA: what is kept, exactly; what is drawn, by its statistics; all paths compute the same bits."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from vlmerge.errors import CandidateFailure
from vlmerge.methods import METHODS, Scratch, Values, differences, sparse, sums
from vlmerge.methods.differences import ALL, Choice, drawn, kept, key_of, largest, lots, norms
from vlmerge.methods.ranks import ranked

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
LENGTHS = [1, 5, 5003, 2_500_000]
"""The last takes more than one part of the kernels' work."""


def pair(length: int, dtype: torch.dtype, seed: int = 1) -> tuple[Tensor, Tensor]:
    """A base and a source that is equal to it in a third of the places: many differences are 0, and many others tie."""
    generator = torch.Generator().manual_seed(seed)
    base = (torch.randn(length, generator=generator) * 0.02).to(dtype)
    one = base + (torch.randn(length, generator=generator) * 0.002).to(dtype)
    one[: length // 3] = base[: length // 3]
    return base, one


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs something without the compiled kernels."""

    def run(work: Any) -> Any:
        with monkeypatch.context() as patch:
            for module in (differences, sparse, sums):
                patch.setattr(module, "kernels", lambda _: None)
            return work()

    return run


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_the_largest_are_what_a_stable_sort_puts_first(dtype: torch.dtype, length: int, plain: Any) -> None:
    base, one = pair(length, dtype)
    sizes = (one.float() - base.float()).abs()
    order = torch.sort(sizes, descending=True, stable=True).indices
    for count in {1, max(1, length // 5), max(1, length // 2), max(1, int(length * 0.9)), max(1, length - 1)}:
        choice = largest(one, base, count)
        assert choice == plain(lambda count=count: largest(one, base, count))
        stays = torch.zeros(length, dtype=torch.bool)
        stays[order[:count]] = True
        found = kept(torch.ones(length), ALL, 0).bool() if choice == ALL else _stays(sizes, choice)
        assert torch.equal(found, stays)


def _stays(sizes: Tensor, choice: Choice) -> Tensor:
    bits, index = sizes.view(torch.int32), torch.arange(len(sizes))
    return (bits > choice.threshold) | ((bits == choice.threshold) & (index <= choice.last))


def test_the_largest_of_equal_differences_are_the_first() -> None:
    base = torch.zeros(70_000)
    assert largest(base + 1, base, 30_000) == Choice("largest", torch.tensor(1.0).view(torch.int32).item(), 29_999)
    assert largest(base, base, 12) == Choice("largest", 0, 11)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_does_not_keep_the_selection_from_ending(bad: float, plain: Any) -> None:
    base, one = torch.zeros(5000), torch.rand(5000, generator=torch.Generator().manual_seed(3))
    one[100:400] = bad
    for count in (1, 200, 300, 1000):
        assert largest(one, base, count) == plain(lambda count=count: largest(one, base, count))


def bits(tensor: Tensor) -> Tensor:
    """As integers: -0.0 is not 0.0."""
    return tensor.view(torch.int16 if tensor.element_size() == 2 else torch.int32)


def test_a_sample_that_misleads_changes_nothing() -> None:
    """The selection looks at every n-th element first: here all of these are different from the rest."""
    base = torch.zeros(400_000)
    one = torch.rand(400_000, generator=torch.Generator().manual_seed(3))
    one[::6] = 1000.0
    for count in (10, 60_000, 100_000, 399_000):
        order = torch.sort(one, descending=True, stable=True).indices
        last = order[:count]
        choice = largest(one, base, count)
        assert torch.equal(_stays(one, choice).nonzero().flatten(), last.sort().values)


def test_lots_are_even_and_independent_of_one_another() -> None:
    count = 1_000_000
    index = torch.arange(count)
    first, second = (lots(index, key_of(1, name, "layers.0.mlp.up_proj.weight")) / differences.LOTS for name in ("a", "b"))
    for sample in (first, second):
        assert abs(float(sample.mean()) - 0.5) < 5 * (1 / 12 / count) ** 0.5
        assert abs(float(sample.var()) - 1 / 12) < 1e-3
        buckets = torch.histc(sample.float(), bins=100, min=0, max=1)
        chi_squared = float(((buckets - count / 100) ** 2 / (count / 100)).sum())
        assert chi_squared < 99 + 5 * (2 * 99) ** 0.5
    limit = 5 / count**0.5
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < limit
    for step in (1, 2, 64, 4096):
        assert abs(float(torch.corrcoef(torch.stack([first[:-step], first[step:]]))[0, 1])) < limit


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_what_is_drawn_is_the_share_asked_for_and_unbiased_when_rescaled(density: float) -> None:
    base, one = torch.zeros(200_000), torch.randn(200_000, generator=torch.Generator().manual_seed(5))
    choice = drawn(density, key_of(1, "a", "r"))
    stays = kept(one, choice, 0) != 0
    spread = (density * (1 - density) / len(one)) ** 0.5
    assert abs(float(stays.float().mean()) - density) < 5 * spread
    before, after = norms(one, base, choice, Scratch())
    assert after / before == pytest.approx(density, rel=0.02)


@pytest.mark.parametrize(("density", "epsilon"), [(0.5, 0.15), (0.3, 0.25), (0.7, 0.0)])
def test_what_is_drawn_by_rank_is_likelier_the_larger_it_is(density: float, epsilon: float) -> None:
    rows, width = 8000, 25
    base, one = torch.zeros(rows * width), torch.randn(rows * width, generator=torch.Generator().manual_seed(5))
    choice = ranked(one, base, (rows, width), (density - epsilon, density + epsilon), key_of(1, "a", "r"), Scratch())
    stays = (kept(one, choice, 0) != 0).view(rows, width)
    assert abs(float(stays.float().mean()) - density) < 5 * (density * (1 - density) / stays.numel()) ** 0.5
    order = one.view(rows, width).abs().argsort(dim=1)
    by_rank = stays.gather(1, order).double().mean(0)
    chances = density - epsilon + 2 * epsilon * torch.arange(width, dtype=torch.float64) / (width - 1)
    assert ((by_rank - chances).abs() < 5 * (chances * (1 - chances) / rows).sqrt()).all()
    # Rows and keys do not depend on each other.
    other = ranked(one, base, (rows, width), (density - epsilon, density + epsilon), key_of(2, "a", "r"), Scratch())
    both = torch.stack([stays.double().view(-1), (kept(one, other, 0) != 0).double()])
    # What both share is that larger ones are likelier: the covariance of the chances.
    shared = float(chances.var(unbiased=False)) / (density * (1 - density))
    assert abs(float(torch.corrcoef(both)[0, 1]) - shared) < 5 / stays.numel() ** 0.5
    neighbours = torch.stack([both[0, :-width], both[0, width:]])
    assert abs(float(torch.corrcoef(neighbours)[0, 1])) < 5 / stays.numel() ** 0.5


def test_equal_differences_and_rows_of_one_are_drawn_as_well() -> None:
    ones, base = torch.ones(10_000), torch.zeros(10_000)
    for shape in ((1, 10_000), (10_000,), (10_000, 1), (100, 100)):
        choice = ranked(ones, base, shape, (0.4, 0.6), (1, 2), Scratch())
        assert abs(float(kept(ones, choice, 0).mean()) - 0.5) < 5 * 0.005
    whole = kept(ones, ranked(ones, base, (100, 100), (0.4, 0.6), (1, 2), Scratch("cpu", 300)), 0)
    assert torch.equal(whole, kept(ones, ranked(ones, base, (100, 100), (0.4, 0.6), (1, 2), Scratch()), 0))


@pytest.mark.parametrize("name", ["della", "della_linear"])
def test_chances_by_rank_have_to_lie_between_nought_and_one(name: str) -> None:
    method = METHODS[name]
    for density, epsilon in ((0.9, 0.1), (0.1, 0.15), (0.5, 0.5)):
        with pytest.raises(CandidateFailure, match="between 0 and 1"):
            method.check(Values({}, ({"weight": 1.0, "density": density, "epsilon": epsilon},)))
    for density in (0.0, 1.0, 2.0):
        method.check(Values({}, ({"weight": 1.0, "density": density, "epsilon": 0.15},)))


def test_lots_depend_on_seed_source_and_role_alone() -> None:
    assert key_of(1, "a", "r") == key_of(1, "a", "r")
    assert len({key_of(seed, source, role) for seed in (1, 2) for source in "ab" for role in "rs"}) == 8
    one = torch.ones(1000)
    whole = kept(one, drawn(0.5, (1, 2)), 0)
    assert torch.equal(whole[300:], kept(one[300:], drawn(0.5, (1, 2)), 300))


@pytest.mark.parametrize(("dtype", "out"), list(itertools.product(DTYPES, DTYPES)))
@pytest.mark.parametrize("length", [7, 5003])
def test_kernels_and_plain_torch_give_the_same_bits(dtype: torch.dtype, out: torch.dtype, length: int, plain: Any) -> None:
    base, one = pair(length, dtype)
    other = pair(length, dtype, seed=2)[1]
    base[length // 2] = -0.0
    known = differences.Differences()
    choices = [
        (largest(one, base, max(1, length // 4)), drawn(0.5, (3, 4))),
        (ALL, drawn(0.2, (9, 1))),
        (known.band(0, one, base, length // 10, length // 2), known.band(1, other, base, length // 3, length // 3)),
    ]
    for source, choice in itertools.product((one, other), itertools.chain(*choices)):
        found = norms(source, base, choice, Scratch())
        assert found == pytest.approx(plain(lambda s=source, c=choice: norms(s, base, c, Scratch())), rel=1e-9)
    for elect, share, both, weights in itertools.product((True, False), (True, False), choices, ((0.7, -0.4), (-0.7, -0.4))):
        divisor = 1.0 if elect else 0.9
        terms = sparse.ChosenTerms(
            base, (one, other), weights, (1.3, 1.0), both, elect, share and elect, divisor, 1.1
        )  # fmt: skip
        results = [torch.empty(length, dtype=out) for _ in range(2)]
        sparse.add_chosen(terms, results[0], Scratch())
        plain(lambda terms=terms, into=results[1]: sparse.add_chosen(terms, into, Scratch()))
        assert torch.equal(*map(bits, results))
    for terms in (
        sums.weighted([base, one, other], [0.3, 0.9, -0.1], normalize=True),
        sums.weighted([base, one, other], [0.3, 0.9, -0.1]),
        sums.Terms(base, (one, other), (0.5, 0.7), 1.3, 0.9),
    ):
        results = [torch.empty(length, dtype=out) for _ in range(2)]
        sums.add_up(terms, results[0], Scratch())
        plain(lambda terms=terms, into=results[1]: sums.add_up(terms, into, Scratch()))
        assert torch.equal(*map(bits, results))


def reference(values: Values, tensors: list[Tensor], base: Tensor, *, elect: bool) -> Tensor:
    """TIES in float64, from its paper: trim, elect, merge what agrees. No rescaling."""
    trimmed: list[Tensor] = []
    for tensor, source in zip(tensors, values.sources, strict=True):
        difference = (tensor.float() - base.float()).double()
        count = max(1, int(float(source["density"] or 0) * len(base)))
        stays = torch.zeros(len(base), dtype=torch.bool)
        stays[torch.sort(difference.abs(), descending=True, stable=True).indices[:count]] = True
        trimmed.append(torch.where(stays, difference, 0.0) * float(source["weight"] or 0))
    total = torch.stack(trimmed).sum(0)
    weights = torch.tensor([float(source["weight"] or 0) for source in values.sources]).double()[:, None]
    if elect:
        sign = torch.where(total >= 0, 1.0, -1.0)
        joins = torch.stack([(part.sign() == sign) & (part != 0) for part in trimmed])
        total = (torch.stack(trimmed) * joins).sum(0)
        share = (joins * weights).sum(0)
        total = total / torch.where(share == 0, 1.0, share)
    return base.double() + float(values.shared["lambda"] or 0) * total


@pytest.mark.parametrize("dtype", DTYPES)
def test_ties_is_the_papers(dtype: torch.dtype) -> None:
    base, one = pair(4001, dtype)
    other = pair(4001, dtype, seed=2)[1]
    sources = ({"weight": 0.6, "density": 0.3}, {"weight": 0.5, "density": 0.7})
    values = Values({"lambda": 0.9, "normalize": True, "rescale": False}, sources)
    out, method = torch.empty(4001), METHODS["ties"]
    method.rule([one, other], base, values, method.prepare([one, other], base, Scratch()), Scratch()).write(out, Scratch())
    assert torch.allclose(out.double(), reference(values, [one, other], base, elect=True), atol=1e-7)


def test_density_one_is_task_arithmetic_and_density_zero_is_the_base() -> None:
    base, one = pair(4001, torch.float16)
    for density, expected in ((1.0, base.float() + 0.7 * (one.float() - base.float())), (0.0, base.float())):
        for name in ("ties", "dare_linear", "dare_ties"):
            values = Values(
                {"lambda": 0.7, "normalize": name == "ties", "rescale": True}, ({"weight": 1.0, "density": density},), ((1, 2),)
            )
            out = torch.empty(4001)
            known = METHODS[name].prepare([one], base, Scratch())
            METHODS[name].rule([one], base, values, known, Scratch()).write(out, Scratch())
            assert torch.allclose(out, expected, atol=1e-7), name


def test_one_run_asks_for_a_threshold_once(monkeypatch: pytest.MonkeyPatch) -> None:
    base, one = pair(4001, torch.float16)
    asked: list[int] = []
    monkeypatch.setattr(differences, "largest", lambda *given: asked.append(given[2]) or largest(*given))
    known = METHODS["ties"].prepare([one], base, Scratch())
    for weight, density in ((0.5, 0.3), (0.9, 0.3), (0.9, 0.4), (0.1, 0.3)):
        values = Values({"lambda": 1.0, "normalize": True, "rescale": True}, ({"weight": weight, "density": density},))
        METHODS["ties"].rule([one], base, values, known, Scratch()).write(torch.empty(4001), Scratch())
    assert asked == [1200, 1600]
