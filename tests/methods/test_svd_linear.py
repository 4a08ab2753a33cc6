"""svd_linear: what is kept of a difference is the best of its rank; nothing else about task arithmetic changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as drawn_from
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from vlmerge.anatomy.roles import is_matrix
from vlmerge.config.parameter_values import ParameterValue
from vlmerge.config.recipe import parse_recipe
from vlmerge.config.run_blocks import MergeSpec
from vlmerge.errors import CandidateFailure, ConfigError
from vlmerge.methods import METHODS, Scratch, Values, low_rank

Matrix = NDArray[np.float64]
SHAPES = [(12, 30), (30, 12), (17, 17), (1, 9), (9, 1)]


def noise(seed: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def values_of(weights: Sequence[float], ranks: Sequence[float], shape: tuple[int, ...], **shared: float | bool) -> Values:
    sources = tuple({"weight": weight, "rank": rank} for weight, rank in zip(weights, ranks, strict=True))
    return Values({"lambda": 1.0, "normalize": False, **shared}, sources, (), shape)


def run(
    models: Sequence[Tensor], base: Tensor, values: Values, known: Any = None, out: torch.dtype | None = None,
    name: str = "svd_linear",
) -> Tensor:  # fmt: skip
    method, scratch = METHODS[name], Scratch()
    flat, origin = [model.reshape(-1) for model in models], base.reshape(-1)
    known = method.prepare(flat, origin, scratch) if known is None else known
    result = torch.empty(base.numel(), dtype=out or base.dtype)
    assert method.rule(flat, origin, values, known, scratch).write(result, scratch)
    return result.view(base.shape)


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def best_of_rank(difference: Matrix, rank: int) -> tuple[Matrix, Matrix]:
    """The best approximation, and the singular values that it drops."""
    left, sizes, right = np.linalg.svd(difference, full_matrices=False)
    return (left[:, :rank] * sizes[:rank]) @ right[:rank], sizes[rank:]


def reference(models: Sequence[Tensor], base: Tensor, values: Values) -> Matrix:
    """The formula in float64."""
    total, origin = np.zeros(base.shape), base.double().numpy()
    for model, own in zip(models, values.sources, strict=True):
        difference = model.double().numpy() - origin
        count = min(base.shape)
        kept = max(1, int(float(own["rank"]) * count))
        total += float(own["weight"]) * (difference if kept >= count else best_of_rank(difference, kept)[0])
    if values.shared["normalize"]:
        total /= sum(float(own["weight"]) for own in values.sources)
    return origin + float(values.shared["lambda"]) * total


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("normalize", [False, True])
def test_the_whole_rank_is_task_arithmetic_bit_for_bit(shape: tuple[int, int], dtype: torch.dtype, normalize: bool) -> None:
    models, base = [noise(seed, shape, dtype) for seed in range(3)], noise(9, shape, dtype)
    values = values_of([0.3, 0.9, -0.2], [1.0] * 3, shape, normalize=normalize, **{"lambda": 0.7})
    want = run(models, base, values, name="task_arithmetic")
    assert torch.equal(bits(run(models, base, values)), bits(want))
    # So is what has no directions: a tensor that is no matrix comes without a shape.
    cut = values_of([0.3, 0.9, -0.2], [0.1] * 3, (), normalize=normalize, **{"lambda": 0.7})
    assert torch.equal(bits(run(models, base, cut)), bits(want))


def test_what_is_kept_whole_is_not_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("decomposed")

    monkeypatch.setattr(low_rank, "factors", never)
    models, base = [noise(1, (8, 8)), noise(2, (8, 8))], noise(3, (8, 8))
    run(models, base, values_of([0.5, 0.5], [1.0, 1.0], (8, 8)))
    run(models, base, values_of([0.5, 0.0], [1.0, 0.2], (8, 8)))
    run(models, base, values_of([0.5, 0.5], [0.2, 0.2], (8, 8), **{"lambda": 0.0}))
    with pytest.raises(AssertionError, match="decomposed"):
        run(models, base, values_of([0.5, 0.5], [1.0, 0.2], (8, 8)))


@drawn_from(
    st.tuples(st.integers(2, 40), st.integers(2, 40)),
    st.floats(0.01, 0.99),
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_the_error_is_the_singular_values_that_are_dropped(
    shape: tuple[int, int], share: float, seed: int, decay: float, dtype: torch.dtype
) -> None:
    """Eckart and Young, of a flat spectrum, of one that falls, and of one that falls beyond what float32 holds."""
    count = min(shape)
    left = np.linalg.qr(noise(seed, (shape[0], count), torch.float64).numpy())[0]
    right = np.linalg.qr(noise(seed + 1, (shape[1], count), torch.float64).numpy())[0]
    one = torch.as_tensor((left * np.exp(-decay * np.arange(count))) @ right.T).to(dtype)
    difference, rank = one.double().numpy(), max(1, int(share * count))
    best, dropped = best_of_rank(difference, rank) if rank < count else (difference, np.zeros(0))
    got = run([one], torch.zeros(shape, dtype=dtype), values_of([1.0], [share], shape)).double().numpy()
    slack = 4 * torch.finfo(dtype).eps * np.linalg.norm(difference)
    # float64 products lose what lies below their own rounding, at the root of it.
    slack = max(slack, 4e-8 * np.linalg.norm(difference) if dtype == torch.float64 else 0.0)
    assert abs(np.linalg.norm(difference - got) - np.sqrt((dropped**2).sum())) <= slack
    assert np.linalg.matrix_rank(got, tol=max(shape) * slack) <= rank
    if dropped.size and decay == 2.0:
        assert np.abs(got - best).max() <= slack


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (24, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_difference_of_low_rank_is_kept_as_it_is(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Where any model is float64 all is reckoned in it, whichever is cut."""
    base = noise(0, shape, dtype)
    difference = 1e-3 * noise(1, (shape[0], 3), torch.float64) @ noise(2, (3, shape[1]), torch.float64)
    one = base.double() + difference  # In float64: a sum that is rounded has a difference of full rank.
    for share in (3 / min(shape), 4 / min(shape), 0.5):
        got = run([one], base, values_of([1.0], [share], shape), out=torch.float64)
        assert float((got - one).abs().max()) <= 1e-10
    got = run([base.float(), one], base, values_of([0.3, 1.0], [0.5, 0.5], shape), out=torch.float64)
    assert float((got - one).abs().max()) <= (1e-10 if dtype == torch.float32 else 1e-7)
    got = run([one], base, values_of([1.0], [2 / min(shape)], shape), out=torch.float64)
    assert float((got - one).abs().max()) > 1e-5


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (24, 24)])
@pytest.mark.parametrize("normalize", [False, True])
def test_sums_of_cleaned_and_whole_differences(shape: tuple[int, int], normalize: bool) -> None:
    models, base = [noise(seed, shape) for seed in range(4)], noise(9, shape)
    weights, ranks = [0.7, -0.3, 0.5, 0.4], [0.2, 1.0, 0.5, 0.01]
    values = values_of(weights, ranks, shape, normalize=normalize, **{"lambda": 1.3})
    got, want = run(models, base, values).double().numpy(), reference(models, base, values)
    assert np.abs(got - want).max() <= 1e-5
    shared: dict[str, Any] = dict(values.shared)
    assert np.abs(want - reference(models, base, values_of(weights, [1.0] * 4, shape, **shared))).max() > 0.1
    order = [2, 0, 3, 1]
    turned = values_of([weights[place] for place in order], [ranks[place] for place in order], shape, **shared)
    assert np.abs(run([models[place] for place in order], base, turned).double().numpy() - got).max() <= 4e-6


def test_directions_of_a_larger_rank_serve_a_smaller_one_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once per run and source, whatever the weights; again where more of them are wanted than are there."""
    asked: list[int] = []
    real = low_rank.factors

    def counted(one: Tensor, base: Tensor, rank: int, work: torch.dtype) -> low_rank.Factors:
        asked.append(rank)
        return real(one, base, rank, work)

    monkeypatch.setattr(low_rank, "factors", counted)
    for shape in ((300, 170), (170, 300)):
        asked.clear()
        models, base = [noise(1, shape, torch.bfloat16), noise(2, shape, torch.bfloat16)], noise(3, shape, torch.bfloat16)
        flat = [model.reshape(-1) for model in models]
        known = METHODS["svd_linear"].prepare(flat, base.reshape(-1), Scratch())
        shares = ((0.5, 0.8), (0.5, 0.8), (0.1, 0.76), (0.9, 0.3), (0.04, 0.8))
        for number, ranks in enumerate(shares):
            values = values_of([0.3 + number, 0.6], ranks, shape)
            remembered = run(models, base, values, known, torch.float32)
            wanted = list(asked)
            assert torch.equal(bits(remembered), bits(run(models, base, values, out=torch.float32)))
            asked[:] = wanted
        assert asked == [85, 136, 153]


def test_neither_threads_nor_blocks_nor_parts_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (150, 211)
    models, base = [noise(1, shape), noise(2, shape)], noise(3, shape)
    values = values_of([0.3, 0.6], [0.3, 0.6], shape)
    monkeypatch.setattr(low_rank, "BLOCK", 211 * 40 + 5)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(run(models, base, values))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(bits(found[0]), bits(each)) for each in found)
    assert np.abs(found[0].double().numpy() - reference(models, base, values)).max() <= 1e-5
    method, scratch = METHODS["svd_linear"], Scratch(chunk=999)
    flat, origin = [model.reshape(-1) for model in models], base.reshape(-1)
    rule = method.rule(flat, origin, values, method.prepare(flat, origin, scratch), scratch)
    parts = torch.empty(base.numel())
    for begin in range(0, base.numel(), 7001):
        span = slice(begin, min(begin + 7001, base.numel()))
        assert rule.part(span).write(parts[span], scratch)
    assert torch.equal(bits(parts), bits(found[0].view(-1)))


def test_no_difference_is_the_base(recwarn: pytest.WarningsRecorder) -> None:
    base = noise(1, (20, 30))
    assert torch.equal(run([base, base], base, values_of([0.7, -0.2], [0.2, 0.5], (20, 30))), base)
    assert not recwarn.list


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_difference_that_is_not_finite(bad: float) -> None:
    one, base = noise(1, (20, 30)), noise(2, (20, 30))
    one[3, 4] = bad
    with pytest.raises(CandidateFailure, match="NaN or infinity"):
        run([one], base, values_of([0.5], [0.5], (20, 30)))


@pytest.mark.parametrize(
    ("role", "shape", "is_one"),
    [
        ("layers.0.self_attn.q_proj.weight", (8, 8), True),
        ("vision.encoder.layers.0.mlp.fc1.weight", (8, 4), True),
        ("projector.linear_1.weight", (8, 4), True),
        ("embed_tokens.weight", (32, 8), False),
        ("lm_head.weight", (32, 8), False),
        ("vision.embeddings.position_embedding.weight", (9, 8), False),
        ("vision.embeddings.patch_embedding.weight", (8, 3, 2, 2), False),
        ("layers.0.input_layernorm.weight", (8,), False),
        ("layers.0.self_attn.q_proj.bias", (8,), False),
    ],
)
def test_which_tensors_have_directions(role: str, shape: tuple[int, ...], is_one: bool) -> None:
    assert is_matrix(role, shape) is is_one


def recipe_of(rank: object, *, of_source: bool) -> dict[str, Any]:
    own = {"weight": 0.5, **({"rank": rank} if of_source else {})}
    return {
        "merge_method": "svd_linear", "base_model": "./base", "models": [{"model": "./ja", "parameters": own}],
        "parameters": {} if of_source else {"rank": rank},
    }  # fmt: skip


@pytest.mark.parametrize("rank", [0, -0.1, 1.5, [0.5, 0.0], [{"filter": "mlp", "value": 2}, {"value": 0.5}]])
@pytest.mark.parametrize("of_source", [False, True])
def test_ranks_that_are_no_shares_are_refused(rank: ParameterValue, of_source: bool) -> None:
    with pytest.raises(ConfigError, match="`rank` cannot have this value") as caught:
        parse_recipe(recipe_of(rank, of_source=of_source), "a test")
    assert "above 0, up to 1" in str(caught.value)
    block = {"models": ["./vlm", "./ja"], "base_model": "./base", "method": "svd_linear"}
    assert MergeSpec.model_validate({**block, "parameters": {"rank": 0.1}}).parameters == {"rank": 0.1}
    with pytest.raises(ValueError, match="not usable"):
        MergeSpec.model_validate({**block, "parameters": {"rank": rank}})


@pytest.mark.parametrize("rank", [1e-6, 0.2, 1])
def test_ranks_that_are_shares(rank: float) -> None:
    assert parse_recipe(recipe_of(rank, of_source=True), "a test").merge_method == "svd_linear"
