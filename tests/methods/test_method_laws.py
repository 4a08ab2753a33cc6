"""What holds for every method, and the algebra of each."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given as drawn_from
from hypothesis import strategies as st
from torch import Tensor

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.errors import CandidateFailure
from vlmerge.methods import METHODS, Scratch, Values

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
WEIGHT = st.floats(-2, 2).filter(lambda weight: abs(weight) > 1e-3)
DEFAULTS = {
    "linear": {"normalize": False},
    "slerp": {"t": 0.3},
    "task_arithmetic": {"lambda": 1.0, "normalize": False},
    "ties": {"lambda": 1.1, "normalize": True, "rescale": False},
    "dare_linear": {"lambda": 1.1, "normalize": False, "rescale": True},
    "dare_ties": {"lambda": 1.1, "normalize": True, "rescale": True},
    "della": {"lambda": 1.1, "normalize": True, "rescale": True},
    "della_linear": {"lambda": 0.9, "normalize": False, "rescale": False},
    "breadcrumbs": {"lambda": 0.9, "normalize": False, "rescale": False},
    "breadcrumbs_ties": {"lambda": 1.1, "normalize": True, "rescale": True},
    "nuslerp": {"nuslerp_flatten": True, "nuslerp_row_wise": False},
    "multislerp": {"normalize_weights": True, "eps": 1e-8},
    "karcher": {"max_iter": 10, "tol": 1e-5},
    "nearswap": {"t": 0.6},
    "sce": {"select_topk": 0.6},
    "ram": {"epsilon": 0.9},
    "ramplus_tl": {"epsilon": 0.9, "r": 0.5, "alpha": 0.8},
    "model_stock": {"filter_wise": False},
    "arcee_fusion": {},
    "passthrough": {},
    "svd_linear": {"lambda": 1.1, "normalize": True},
}
FLAGS: dict[str, list[dict[str, float | bool]]] = {
    "nuslerp": [{"nuslerp_flatten": False}, {"nuslerp_flatten": False, "nuslerp_row_wise": True}],
    "model_stock": [{"filter_wise": True}],
    "sce": [{"select_topk": 1.0}],
}
"""Further parameters with which a method takes another way."""
WAYS = [(name, flags) for name in METHODS for flags in ({}, *FLAGS.get(name, []))]
COUNT = {"slerp": 1, "nuslerp": 2, "nearswap": 1, "arcee_fusion": 1, "passthrough": 1}
"""Inputs besides the base; three where nothing is said."""
WIDTH = 13
BY_SUMS = ("slerp", "nuslerp", "multislerp", "karcher", "model_stock", "sce")
"""Methods whose factors come from sums over whole tensors."""


def inputs_of(name: str, dtype: torch.dtype, length: int = 1001) -> tuple[list[Tensor], Tensor | None]:
    """As many models as the method takes, and a base for those that know one."""
    base = None if SPECS[name].base == "ordinary" else noise(5, dtype, length)
    return [noise(seed, dtype, length) for seed in range(COUNT.get(name, 3))], base


def noise(seed: int, dtype: torch.dtype = torch.float32, length: int = 1001) -> Tensor:
    tensor = torch.randn(length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    tensor[0] = -0.0
    return tensor


def given(name: str, weights: list[float], length: int = 1001, **shared: float | bool) -> Values:
    """Parameters: the method's defaults above, and a density for each source."""
    densities = itertools.cycle((0.6, 1.0, 0.3))
    sources = tuple(
        {"weight": weight, "density": (share := next(densities)), "rank": share, "gamma": 0.05, "epsilon": 0.1, "scale": 0.7}
        for weight in weights
    )
    keys = tuple((number, 7) for number in range(len(weights)))
    return Values({**DEFAULTS[name], **shared}, sources, keys, (length // WIDTH, WIDTH))


def run(
    name: str, tensors: list[Tensor], weights: list[float], base: Tensor | None = None, out: torch.dtype | None = None,
    chunk: int = 1 << 20, **shared: float | bool,
) -> Tensor:  # fmt: skip
    values = given(name, weights, len(tensors[0]), **shared)
    METHODS[name].check(values)
    result = torch.empty(tensors[0].shape, dtype=out or tensors[0].dtype)
    scratch = Scratch("cpu", chunk)
    METHODS[name].rule(tensors, base, values, METHODS[name].prepare(tensors, base, scratch), scratch).write(result, scratch)
    return result


def bits(tensor: Tensor) -> Tensor:
    return tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("name", "flags"), WAYS)
def test_parts_of_a_result_are_those_of_the_whole(name: str, flags: dict[str, float | bool], dtype: torch.dtype) -> None:
    tensors, base = inputs_of(name, dtype, 5005)
    values, scratch = given(name, [0.3, 0.5, -0.1][: len(tensors)], 5005, **flags), Scratch("cpu", 700)
    rule = METHODS[name].rule(tensors, base, values, METHODS[name].prepare(tensors, base, scratch), scratch)
    whole, parts = torch.empty(5005, dtype=dtype), torch.empty(5005, dtype=dtype)
    assert rule.write(whole, scratch)
    for start in (0, 1, 2500, 4999):
        span = slice(start, {0: 1, 1: 2500, 2500: 4999, 4999: 5005}[start])
        assert rule.part(span).write(parts[span], scratch)
    assert torch.equal(bits(whole), bits(parts))


def test_the_registry_is_the_table_of_available_methods() -> None:
    assert list(METHODS) == list(SPECS)
    assert all(method.spec is SPECS[name] for name, method in METHODS.items())
    assert set(DEFAULTS) == set(METHODS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normalize", [False, True])
def test_weight_one_among_zeros_is_the_model_bit_for_bit(dtype: torch.dtype, normalize: bool) -> None:
    models = [noise(seed, dtype) * 10.0 ** (2 * seed - 2) for seed in range(3)]
    for place, model in enumerate(models):
        weights = [float(number == place) for number in range(3)]
        assert torch.equal(bits(run("linear", models, weights, normalize=normalize)), bits(model))
        base = noise(9, dtype) * 1000
        assert torch.equal(bits(run("task_arithmetic", models, weights, base, normalize=normalize)), bits(model))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ends_of_the_arc_are_the_models_bit_for_bit(dtype: torch.dtype) -> None:
    base, other = noise(1, dtype), noise(2, dtype)
    assert torch.equal(bits(run("slerp", [other], [1], base, t=0)), bits(base))
    assert torch.equal(bits(run("slerp", [other], [1], base, t=1)), bits(other))


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_task_vector_is_the_base_bit_for_bit(dtype: torch.dtype) -> None:
    base, other = noise(1, dtype), noise(2, dtype)
    assert torch.equal(bits(run("task_arithmetic", [other], [0], base)), bits(base))
    assert torch.equal(bits(run("task_arithmetic", [other], [0.7], base, **{"lambda": 0})), bits(base))
    assert torch.equal(bits(run("task_arithmetic", [base, base], [0.7, -0.2], base)), bits(base + 0.0))


@drawn_from(st.lists(WEIGHT, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_the_sources_changes_nothing_but_the_last_place(weights: list[float], random: object) -> None:
    models = [noise(seed) for seed in range(len(weights))]
    order = list(range(len(weights)))
    random.shuffle(order)  # type: ignore[attr-defined]
    turned = [models[place] for place in order], [weights[place] for place in order]
    size = sum(abs(weight) * model.abs().double() for weight, model in zip(weights, models, strict=True))
    slack = 2.0**-22 * size
    for name, base in (("linear", None), ("task_arithmetic", noise(7))):
        room = slack if base is None else slack + 2.0**-21 * (1 + sum(map(abs, weights))) * base.abs().double()
        one, two = run(name, models, weights, base), run(name, *turned, base)
        assert ((one.double() - two.double()).abs() <= room).all()
        halves = [model.half() for model in models]
        in_halves = (halves, [halves[place] for place in order])
        one, two = run(name, in_halves[0], weights, base), run(name, in_halves[1], turned[1], base)
        ulp = 2.0**-10 * 2.0 ** one.double().abs().clamp_min(2.0**-14).log2().floor()
        assert ((one.double() - two.double()).abs() <= torch.maximum(ulp, room * 2)).all()


@drawn_from(st.lists(WEIGHT, min_size=1, max_size=4))
def test_float64_inputs_are_computed_in_float64(weights: list[float]) -> None:
    models = [noise(seed, torch.float64) for seed in range(len(weights))]
    want = sum(weight * model for weight, model in zip(weights, models, strict=True))
    assert torch.allclose(run("linear", models, weights), torch.as_tensor(want), rtol=0, atol=1e-14)
    base = noise(8, torch.float64)
    want = base + sum(weight * (model - base) for weight, model in zip(weights, models, strict=True))
    assert torch.allclose(run("task_arithmetic", models, weights, base), want, rtol=0, atol=1e-13)


@drawn_from(st.floats(-0.5, 1.5), st.sampled_from([0.0, 0.4, 1e-4]))
def test_slerp_of_unit_vectors_stays_on_the_sphere_and_divides_the_angle(t: float, closeness: float) -> None:
    base = torch.nn.functional.normalize(noise(1, torch.float64), dim=0)
    other = torch.nn.functional.normalize(base * bool(closeness) + noise(2, torch.float64) * (closeness or 1), dim=0)
    got = run("slerp", [other], [1], base, t=t)
    angle = math.acos(float(base @ other))
    if math.cos(angle) > 0.9995:  # the straight line, within the square of the angle
        assert torch.allclose(got, (1 - t) * base + t * other, atol=1e-15)
    else:
        assert float(got.norm()) == pytest.approx(1, abs=1e-12)
        assert float((got @ base).clamp(-1, 1)) == pytest.approx(math.cos(t * angle), abs=1e-12)


@pytest.mark.parametrize(("name", "flags"), WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_length_of_chunks_changes_no_bit(name: str, flags: dict[str, float | bool], dtype: torch.dtype) -> None:
    tensors, base = inputs_of(name, dtype)
    weights = [0.3, 0.5, -0.1][: len(tensors)]
    whole, pieces = run(name, tensors, weights, base, **flags), run(name, tensors, weights, base, chunk=64, **flags)
    if name in BY_SUMS or DEFAULTS[name].get("rescale"):
        assert torch.allclose(whole, pieces, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
    else:
        assert torch.equal(whole, pieces)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [0.5, -0.5], [0.1, 0.2, -0.3]])
def test_weights_that_sum_to_zero_do_not_normalise(weights: list[float]) -> None:
    models = [noise(seed) for seed in range(len(weights))]
    with pytest.raises(CandidateFailure, match="sum to zero"):
        run("linear", models, weights, normalize=True)
    assert torch.isfinite(run("linear", models, weights, normalize=False)).all()
    assert torch.isfinite(run("task_arithmetic", models, weights, noise(9), normalize=True)).all()


def test_task_arithmetic_of_one_model_on_the_line_through_base() -> None:
    base, other = noise(1), noise(2)
    assert torch.allclose(run("task_arithmetic", [other], [0.25], base), base + 0.25 * (other - base), atol=1e-6)
    assert torch.allclose(run("task_arithmetic", [other], [0.5], base, **{"lambda": 3}), base + 1.5 * (other - base), atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "flags"), WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_agrees_with_the_cpu(name: str, flags: dict[str, float | bool], dtype: torch.dtype) -> None:
    tensors, base = inputs_of(name, dtype)
    weights = [0.3, 0.5, -0.1][: len(tensors)]
    here = run(name, tensors, weights, base, **flags)
    values = given(name, weights, **flags)
    there = torch.empty_like(here, device="cuda")
    moved = None if base is None else base.cuda()
    scratch, inputs = Scratch("cuda"), [tensor.cuda() for tensor in tensors]
    METHODS[name].rule(inputs, moved, values, METHODS[name].prepare(inputs, moved, scratch), scratch).write(there, scratch)
    assert torch.allclose(here, there.cpu(), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
