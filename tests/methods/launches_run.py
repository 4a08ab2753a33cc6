"""Compares merges of many tensors in one launch, kernels interpreted on the CPU, with merges one by one. Not a test; tests
start it with TRITON_INTERPRET=1. Prints one JSON object.
"""

from __future__ import annotations

import json

import torch

from vlmerge.methods import METHODS, chosen_launches
from vlmerge.methods.chosen_launches import Chosen, ChosenLaunches
from vlmerge.methods.differences import Differences, key_of
from vlmerge.methods.kernels.gpu import Sum, add_up
from vlmerge.methods.kernels.gpu_table import Place, Tables
from vlmerge.methods.method import Values
from vlmerge.methods.scratch import Scratch
from vlmerge.methods.sparse import Sparse
from vlmerge.methods.sums import Terms
from vlmerge.methods.sums import add_up as add_up_here

CPU = torch.device("cpu")


def noise(length: int, dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn(length) * 0.02).to(dtype)


def terms_of(length: int, dtype: torch.dtype, *, based: bool) -> Terms:
    one, two, three = (noise(length, dtype) for _ in range(3))
    one[0] = -0.0
    if based:
        return Terms(one, (two, three), (0.5, 0.7), 1.3, 0.9)
    return Terms(None, (one, two, three), (0.5, 0.65, -0.03), 1.12)


def same(given: torch.dtype, result: torch.dtype, lengths: tuple[int, ...], *, based: bool) -> bool:
    """Bit for bit; run twice, so that the table of addresses is used again."""
    terms = [terms_of(length, given, based=based) for length in lengths]
    tables = Tables(CPU)
    jobs = [Sum(Place.of(torch.empty(n, dtype=result), t.base, t.inputs), t.weights, t.divisor, t.scale)
            for n, t in zip(lengths, terms, strict=True)]  # fmt: skip
    equal = True
    for _ in range(2):
        flags = add_up(jobs, tables, CPU)
        for job, each in zip(jobs, terms, strict=True):
            expected = torch.empty_like(job.place.out)
            add_up_here(each, expected, Scratch())
            equal &= bitwise(job.place.out, expected)
            job.place.out.zero_()
        equal &= not flags.any()
    return equal


def bitwise(one: torch.Tensor, two: torch.Tensor) -> bool:
    return torch.equal(one.view(torch.uint8), two.view(torch.uint8))


def close_relatives(length: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """A base and two models that differ from it by few units, in part not at all: many differences are equal."""
    base = noise(length, dtype)
    near = (base.float() * (1 + torch.randint(-2, 3, (length,)) * torch.finfo(dtype).eps)).to(dtype)
    far = (base.float() + torch.randn(length) * 0.002).to(dtype)
    return [base, near, far]


def values(name: str, densities: tuple[float, float], turn: int, *, rescale: bool, normalize: bool, draws: bool) -> Values:
    sources = tuple(
        {"weight": weight, "density": density} for weight, density in zip((0.7, 0.4 + turn), densities, strict=True)
    )
    keys = (key_of(1, "one", name), key_of(1, "two", name)) if draws else ()
    return Values({"lambda": 0.9, "rescale": rescale, "normalize": normalize}, sources, keys)


def same_chosen(method: str, given: torch.dtype, *, rescale: bool, normalize: bool, slots: int = chosen_launches.SLOTS) -> bool:
    """Bit for bit, for candidates of which one keeps more than differs from zero, and the last has densities of some before."""
    chosen_launches.SLOTS = slots
    lengths = (4096 + 16, 32, 5001)
    tensors = [close_relatives(length, given) for length in lengths]
    known = [Differences() for _ in lengths]
    launches = ChosenLaunches(CPU, Tables(CPU))
    one_by_one = METHODS[method]
    assert isinstance(one_by_one, Sparse)
    equal = True
    for turn, densities in enumerate(((0.3, 0.05), (0.62, 1.0), (0.0, 0.2), (0.95, 0.4), (0.3, 0.4))):
        draws = one_by_one.random
        wanted = values("tensor", densities, turn, rescale=rescale, normalize=normalize, draws=draws)
        jobs: list[Chosen] = []
        for (base, *inputs), each in zip(tensors, known, strict=True):
            shares = one_by_one.shares(wanted, len(base))
            place = Place.of(torch.empty_like(base), base, tuple(inputs[share.number] for share in shares))
            jobs.append(Chosen.of(one_by_one, wanted, place, shares, each))
        flags = launches.run(jobs)
        equal &= not flags.any()
        for job, (base, *inputs) in zip(jobs, tensors, strict=True):
            expected = torch.empty_like(base)
            one_by_one.rule(inputs, base, wanted, Differences(), Scratch()).write(expected, Scratch())
            equal &= bitwise(job.place.out, expected)
    return equal


torch.manual_seed(0)
# The interpreter cuts bfloat16 results off where a GPU rounds them: they are left to tests on a GPU.
found = {
    f"{given} to {result}, {'differences' if based else 'plain'}, {lengths}": same(given, result, lengths, based=based)
    for given in (torch.float16, torch.bfloat16, torch.float32)
    for result in (torch.float16, torch.float32)
    for based in (True, False)
    for lengths in ((4096 + 16, 32), (17, 9001))
}
found |= {
    f"{method}, {given}, rescale {rescale}, normalize {normalize}": same_chosen(
        method, given, rescale=rescale, normalize=normalize
    )
    for method in ("ties", "dare_linear", "dare_ties")
    for given in (torch.float16, torch.float32)
    for rescale in (True, False)
    for normalize in (True, False)
}
found |= {
    f"{method}, all that was found forgotten": same_chosen(method, torch.float16, rescale=True, normalize=True, slots=8)
    for method in ("ties", "dare_ties")
}
large = torch.full((100,), 60000.0).half()
places = [Place.of(torch.empty(100).half(), None, (large, large)) for _ in range(2)]
jobs = [Sum(place, (share, share), 1.0, 1.0) for place, share in zip(places, (1.0, 0.1), strict=True)]
print(json.dumps({"same": found, "flags": add_up(jobs, Tables(CPU), CPU).tolist()}))
