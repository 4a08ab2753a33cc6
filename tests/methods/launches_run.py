"""Compares merges of many tensors in one launch, kernels interpreted on the CPU, with merges one by one. Not a test; tests
start it with TRITON_INTERPRET=1. Prints one JSON object.
"""

from __future__ import annotations

import json

import torch

from vlmerge.methods.kernels.gpu import Sum, Sums
from vlmerge.methods.scratch import Scratch
from vlmerge.methods.sums import Terms, add_up

CPU = torch.device("cpu")


def terms_of(length: int, dtype: torch.dtype, *, based: bool) -> Terms:
    one, two, three = ((torch.randn(length) * 0.02).to(dtype) for _ in range(3))
    one[0] = -0.0
    if based:
        return Terms(one, (two, three), (0.5, 0.7), 1.3, 0.9)
    return Terms(None, (one, two, three), (0.5, 0.65, -0.03), 1.12)


def same(given: torch.dtype, result: torch.dtype, lengths: tuple[int, ...], *, based: bool) -> bool:
    """Bit for bit; run twice, so that the table of addresses is used again."""
    terms = [terms_of(length, given, based=based) for length in lengths]
    sums = Sums(CPU)
    jobs = [Sum(torch.empty(n, dtype=result), t.base, t.inputs, t.weights, t.divisor, t.scale)
            for n, t in zip(lengths, terms, strict=True)]  # fmt: skip
    equal = True
    for _ in range(2):
        flags = sums.run(jobs)
        for job, each in zip(jobs, terms, strict=True):
            expected = torch.empty_like(job.out)
            add_up(each, expected, Scratch())
            equal &= torch.equal(job.out.view(torch.uint8), expected.view(torch.uint8))
            job.out.zero_()
        equal &= not flags.any()
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
large = torch.full((100,), 60000.0).half()
jobs = [Sum(torch.empty(100).half(), None, (large, large), (share, share), 1.0, 1.0) for share in (1.0, 0.1)]
print(json.dumps({"same": found, "flags": Sums(CPU).run(jobs).tolist()}))
