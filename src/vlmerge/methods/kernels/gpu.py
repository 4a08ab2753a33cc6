"""Weighted sums on a GPU (Triton): many tensors in one launch, each parent read once and each result written once.

The arithmetic is `cpu.py`'s, rounding by rounding: multiply-adds are fused where they are there, and division is IEEE's.
With TRITON_INTERPRET=1 the kernels run on a CPU, slowly: that is how they are tested there.
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# numba and Triton compile these functions from their source; they have no types of Python's.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from vlmerge.methods.kernels.gpu_rows import piece_of, tensor_from, values
from vlmerge.methods.kernels.gpu_table import BLOCK, Place, Tables, sent

TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


@dataclass(frozen=True)
class Sum:
    """One tensor: out = [base +] (w₀·(x₀ [- base]) + …) / divisor · scale.

    Attributes:
        place: Its tensors.
        weights: One for each input.
        divisor: Divides the sum.
        scale: Multiplies it after that; 1 without a base.
    """

    place: Place
    weights: tuple[float, ...]
    divisor: float
    scale: float

    @property
    def kind(self) -> tuple[object, ...]:
        """What tensors of one launch have in common."""
        return self.place.kind


def add_up(sums: Sequence[Sum], tables: Tables, device: torch.device) -> Tensor:
    """Merges tensors of one kind; gives a flag for each (int32, on the device): 1 where the result is not finite."""
    places = [each.place for each in sums]
    table, first = tables.of(places), places[0]
    numbers = torch.tensor([[*each.weights, each.divisor, each.scale] for each in sums], dtype=torch.float32)
    wrong = torch.zeros(len(sums), dtype=torch.int32, device=device)
    _sum[(table.programs,)](
        table.addresses, sent(numbers, device), table.owners, table.starts, wrong,
        len(first.inputs), first.base is not None, TYPES[first.inputs[0].dtype], TYPES[first.out.dtype],
        first.aligned, BLOCK,
        num_warps=8, enable_fp_fusion=False,
    )  # fmt: skip
    return wrong


@triton.jit
def _sum(
    addresses, numbers, owners, starts, wrong,
    MANY: tl.constexpr, HAS_BASE: tl.constexpr, GIVEN: tl.constexpr, RESULT: tl.constexpr, EVEN: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    owner, row, first, there = piece_of(addresses, owners, starts, tl.program_id(0), MANY, EVEN, BLOCK)
    number = numbers + owner * (MANY + 2)
    own = tl.arange(0, BLOCK)
    inside = own < there
    origin = tl.zeros([BLOCK], tl.float32)
    if HAS_BASE:
        origin = values(tensor_from(row, 2, first, GIVEN, EVEN), own, there, True)
    total = tl.zeros([BLOCK], tl.float32)
    for j in tl.static_range(MANY):
        value = values(tensor_from(row, 3 + j, first, GIVEN, EVEN), own, there, True)
        if HAS_BASE:
            value = value - origin
        weight = tl.zeros([BLOCK], tl.float32) + tl.load(number + j)
        # The first product is not added to zero: -0.0 stays -0.0.
        total = value * weight if j == 0 else tl.fma(value, weight, total)
    divisor = tl.load(number + MANY)
    if divisor != 1.0:
        total = tl.div_rn(total, tl.zeros([BLOCK], tl.float32) + divisor)
    if HAS_BASE:
        total = tl.fma(total, tl.zeros([BLOCK], tl.float32) + tl.load(number + MANY + 1), origin)
    result = total.to(RESULT)
    tl.store(tensor_from(row, 0, first, RESULT, EVEN) + own, result, mask=inside)
    back = result.to(tl.float32)
    broken = tl.max((inside & ((back - back) != 0.0)).to(tl.int32), axis=0)
    if broken > 0:
        tl.store(wrong + owner, 1)
