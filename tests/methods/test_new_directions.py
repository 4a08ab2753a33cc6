"""The algebra of methods that think of weights as directions, or choose between models element by element."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vlmerge.errors import CandidateFailure, NoResult
from vlmerge.methods import METHODS, Scratch, Values

SHAPE = (40, 25)
LENGTH = 1000
Shared = dict[str, float | bool]


def noise(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(LENGTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def unit(seed: int) -> Tensor:
    return torch.nn.functional.normalize(noise(seed), dim=0)


def run(
    name: str, tensors: list[Tensor], base: Tensor | None = None, weights: tuple[float, ...] = (), **shared: float | bool
) -> Tensor:
    method = METHODS[name]
    defaults = {each.name: each.default for each in method.spec.parameters.values()}
    own = [{**defaults, "weight": weight} for weight in weights or (1.0,) * len(tensors)]
    values = Values({**defaults, **shared}, tuple({**each, **shared} for each in own), ((1, 2),) * len(tensors), SHAPE)
    method.check(values)
    scratch = Scratch("cpu", 300)
    out = torch.empty_like(tensors[0])
    assert method.rule(tensors, base, values, method.prepare(tensors, base, scratch), scratch).write(out, scratch)
    return out


@pytest.mark.parametrize("flags", [{}, {"nuslerp_flatten": False}, {"nuslerp_flatten": False, "nuslerp_row_wise": True}])
@pytest.mark.parametrize("base", [None, noise(9)])
def test_the_ends_of_nuslerps_arc_are_the_models(flags: Shared, base: Tensor | None) -> None:
    one, two = noise(1), noise(2)
    for weights, model in (((1.0, 0.0), one), ((0.0, 3.0), two)):
        assert torch.allclose(run("nuslerp", [one, two], base, weights, **flags), model, rtol=0, atol=1e-15)


def test_nuslerp_is_slerp_by_weights_and_of_differences_from_a_base() -> None:
    one, two, base = noise(1), noise(2), noise(3)
    assert torch.allclose(run("nuslerp", [one, two], weights=(0.3, 0.9)), run("slerp", [two], one, t=0.75), atol=1e-12)
    there = run("slerp", [two - base], one - base, t=0.75)
    assert torch.allclose(run("nuslerp", [one, two], base, (0.3, 0.9)), base + there, atol=1e-12)


def test_nuslerp_by_row_is_nuslerp_of_every_row() -> None:
    one, two = noise(1), noise(2)
    by_row = run("nuslerp", [one, two], weights=(0.6, 0.4), nuslerp_flatten=False).view(SHAPE)
    by_column = run("nuslerp", [one, two], weights=(0.6, 0.4), nuslerp_flatten=False, nuslerp_row_wise=True).view(SHAPE)
    for place in (0, 7, 24):
        rows = [one.view(SHAPE)[place], two.view(SHAPE)[place]]
        assert torch.allclose(by_row[place], _arc(*rows, 0.4), atol=1e-12)
        columns = [one.view(SHAPE)[:, place], two.view(SHAPE)[:, place]]
        assert torch.allclose(by_column[:, place], _arc(*columns, 0.4), atol=1e-12)


def _arc(one: Tensor, two: Tensor, t: float) -> Tensor:
    angle = torch.arccos(torch.nn.functional.cosine_similarity(one, two, dim=0))
    return (torch.sin((1 - t) * angle) * one + torch.sin(t * angle) * two) / torch.sin(angle)


@pytest.mark.parametrize("name", ["multislerp", "karcher"])
def test_means_on_the_sphere(name: str) -> None:
    one, two, three = unit(1), unit(2), unit(3)
    assert torch.allclose(run(name, [one, two]), run("slerp", [two], one, t=0.5), atol=1e-12)
    assert torch.allclose(run(name, [3 * one, 3 * one, 3 * one]), 3 * one, atol=1e-12)
    mean = run(name, [one, 2 * two, 6 * three])
    assert float(mean.norm()) == pytest.approx(3, abs=1e-9)
    assert torch.allclose(mean, run(name, [6 * three, one, 2 * two]), atol=1e-9)


def test_the_karcher_mean_is_where_tangents_cancel() -> None:
    models = [torch.nn.functional.normalize(unit(9) + 0.6 * unit(seed), dim=0) for seed in (1, 2, 3, 4)]
    mean = run("karcher", models, max_iter=50, tol=1e-12)
    pull = torch.zeros(LENGTH, dtype=torch.float64)
    for model in models:
        cosine = float(model @ mean)
        pull += torch.arccos(torch.tensor(cosine)) / (1 - cosine**2) ** 0.5 * (model - cosine * mean)
    assert float(pull.norm()) < 1e-6


def test_directions_that_cancel_have_no_mean() -> None:
    one, two = unit(1), unit(2)
    three = [one, two, -(one + two)]
    with pytest.raises(NoResult, match="cancel"):
        run("multislerp", [each / each.norm() for each in (one, -one / 2, -one / 2)], weights=(2.0, 1.0, 1.0))
    assert torch.allclose(run("multislerp", [one, -one], weights=(0.5, 0.5)), torch.zeros_like(one), atol=1e-9)
    with pytest.raises(NoResult, match="opposite"):
        run("karcher", three)
    assert torch.isfinite(run("karcher", [one, two, unit(3) - one])).all()
    with pytest.raises(CandidateFailure, match="sum to zero"):
        run("multislerp", [one, two], weights=(0.5, -0.5))


def test_a_tensor_that_no_model_changed_is_the_base() -> None:
    base = noise(1)
    for name in ("multislerp", "nuslerp", "model_stock", "sce", "ram", "ramplus_tl"):
        same = [base.clone()] * (2 if name == "nuslerp" else 3)
        assert torch.allclose(run(name, same, base), base, rtol=0, atol=0), name
    for name in ("sce", "ram", "ramplus_tl"):
        method = METHODS[name]
        values, out = Values({each.name: each.default for each in method.spec.parameters.values()}, ()), torch.empty_like(base)
        assert method.rule([], base, values, method.prepare([], base, Scratch()), Scratch()).write(out, Scratch())
        assert torch.equal(out, base), name


def test_opposite_directions_have_no_karcher_mean() -> None:
    with pytest.raises(NoResult, match="opposite"):
        run("karcher", [noise(1), -noise(1)])
    with pytest.raises(CandidateFailure, match="eps"):
        run("multislerp", [noise(1), noise(2)], eps=0.0)


@pytest.mark.parametrize("flags", [{}, {"nuslerp_flatten": False}, {"nuslerp_flatten": False, "nuslerp_row_wise": True}])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_ends_of_nuslerps_arc_are_the_models_bit_for_bit(flags: Shared, dtype: torch.dtype) -> None:
    one, two, base = (noise(seed, dtype) * 10.0 ** torch.arange(LENGTH).remainder(7).to(dtype) for seed in (1, 2, 3))
    assert torch.equal(run("nuslerp", [one, two], base, (1.0, 0.0), **flags), one)
    assert torch.equal(run("nuslerp", [one, two], base, (0.0, 1.0), **flags), two)


@pytest.mark.parametrize("filter_wise", [False, True])
def test_model_stock_goes_as_far_as_differences_agree(filter_wise: bool) -> None:
    base, step = noise(1), noise(2)
    agreed = run("model_stock", [base + step, base + 2 * step], base, filter_wise=filter_wise)
    assert torch.allclose(agreed, base + 1.5 * step, atol=1e-9)
    apart = step.clone().view(SHAPE)
    apart[:, 1::2] *= -1  # In every row half of it turned round: neither for nor against.
    apart = apart.view(-1)
    scaled = step.view(SHAPE)[:, 0::2].norm(dim=1) / step.view(SHAPE)[:, 1::2].norm(dim=1)
    apart = (apart.view(SHAPE) * torch.stack([torch.ones(40), scaled], 1).repeat(1, 13)[:, :25]).view(-1)
    even = (step.view(SHAPE) * torch.stack([torch.ones(40), scaled], 1).repeat(1, 13)[:, :25]).view(-1)
    assert torch.allclose(run("model_stock", [base + even, base + apart], base, filter_wise=filter_wise), base, atol=1e-9)


def test_nearswap_takes_what_is_near() -> None:
    base, other = noise(1, torch.float32), noise(2, torch.float32)
    assert torch.equal(run("nearswap", [other], base, t=0.0), base)
    assert torch.equal(run("nearswap", [other], base, t=100.0), other)
    near = (other - base).abs() <= 0.5
    got = run("nearswap", [other], base, t=0.5)
    assert torch.equal(got[near], other[near])
    assert torch.allclose((got - base)[~near].abs(), torch.tensor(0.5), atol=1e-6)


def test_ram_keeps_what_one_model_has_and_averages_what_many_have() -> None:
    base = noise(1)
    one, two = base.clone(), base.clone()
    one[:400] += 1.0
    two[300:600] += 3.0
    got = run("ram", [one, two], base) - base
    expected = torch.cat([torch.full((300,), 1.0), torch.full((100,), 2.0), torch.full((200,), 3.0), torch.zeros(400)])
    assert torch.allclose(got, expected.double(), atol=1e-12)
    # Shared over unique: 100/300 for one, 100/200 for the other, at most alpha.
    plus = run("ramplus_tl", [one, two], base, r=0.3, alpha=0.4) - base
    factors = torch.cat([torch.full((300,), 1 + 0.3 / 3), torch.ones(100), torch.full((200,), 1 + 0.3 * 0.4), torch.ones(400)])
    assert torch.allclose(plus, expected.double() * factors.double(), atol=1e-7)


def test_sce_of_models_that_agree_is_the_model() -> None:
    base, step = noise(1), noise(2)
    assert torch.allclose(run("sce", [base + step] * 3, base), base + step, atol=1e-12)
    assert torch.equal(run("sce", [base + step, base + 2 * step], base, select_topk=0.0), base)
    # One of ten entries differs between the models: half of those are selected, and nothing else changes.
    other = base + step
    other[::10] += 5.0
    assert int((run("sce", [base + step, other], base, select_topk=0.5) != base).sum()) == 50


def test_arcee_fusion_takes_every_element_from_one_of_the_two() -> None:
    base, other = noise(1, torch.float32), noise(2, torch.float32)
    got = run("arcee_fusion", [other], base)
    taken = got == other
    assert torch.equal(got[~taken], base[~taken])
    assert 0 < int(taken.sum()) < LENGTH / 4
    assert torch.equal(run("arcee_fusion", [base], base), base)


def test_passthrough_is_a_copy_or_a_multiple() -> None:
    model = noise(1, torch.float16)
    assert torch.equal(run("passthrough", [model]), model)
    assert torch.equal(run("passthrough", [model], scale=0.5), (model.float() * 0.5).half())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_breadcrumbs_without_outliers_is_ties(dtype: torch.dtype) -> None:
    tensors, base = [noise(1, dtype), noise(2, dtype)], noise(3, dtype)
    shared: Shared = {"density": 0.4, "normalize": True, "rescale": True, "lambda": 1.1}
    crumbs = run("breadcrumbs_ties", tensors, base, (0.6, 0.5), gamma=0.0, **shared)
    assert torch.equal(crumbs, run("ties", tensors, base, (0.6, 0.5), **shared))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("density", "gamma"), [(0.5, 0.1), (0.95, 0.3), (0.2, 0.8), (0.1, 0.0)])
def test_breadcrumbs_keeps_its_share_below_the_outliers(dtype: torch.dtype, density: float, gamma: float) -> None:
    base, other = torch.zeros(LENGTH, dtype=dtype), noise(2, dtype)
    got = run("breadcrumbs", [other], base, density=density, gamma=gamma)
    kept, count = got != 0, int(density * LENGTH)
    assert int(kept.sum()) == count
    above = min(int(gamma * LENGTH), LENGTH - count)
    order = other.float().abs().argsort(descending=True, stable=True)
    assert set(kept.nonzero().view(-1).tolist()) == set(order[above : above + count].tolist())
