"""Merge kernels for a GPU (Triton): many tensors in one launch, each parent read once and each result written once.

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

BLOCK = 4096
"""Elements of one program."""
ALIGNED = 16
"""Bytes of the widest words that memory is read in; and elements of a length that needs no narrower ones at its end."""
TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


@dataclass(frozen=True)
class Sum:
    """One tensor: out = [base +] (w₀·(x₀ [- base]) + …) / divisor · scale. All flat, contiguous, of one length.

    Attributes:
        out: Result; may not overlap an input.
        base: Base, or None for a sum of the inputs themselves (scale is then 1).
        inputs: At least one, all of the base's dtype.
        weights: One each.
        divisor: Divides the sum.
        scale: Multiplies it after that.
    """

    out: Tensor
    base: Tensor | None
    inputs: tuple[Tensor, ...]
    weights: tuple[float, ...]
    divisor: float
    scale: float

    @property
    def kind(self) -> tuple[object, ...]:
        """What tensors of one launch have in common."""
        return (len(self.inputs), self.base is None, self.inputs[0].dtype, self.out.dtype, self.aligned)

    @property
    def aligned(self) -> bool:
        """Whether every tensor begins and ends where the widest words do."""
        tensors = (self.out, *self.inputs, *(() if self.base is None else (self.base,)))
        return self.out.numel() % ALIGNED == 0 and all(each.data_ptr() % ALIGNED == 0 for each in tensors)


class Sums:
    """Launches sums. Tables of addresses are kept: a candidate sends its numbers alone."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._tables: dict[tuple[int, ...], _Table] = {}

    def run(self, sums: Sequence[Sum]) -> Tensor:
        """Merges tensors of one kind; gives a flag for each (int32, on the device): 1 where the result is not finite."""
        key = tuple(each.out.data_ptr() for each in sums)
        table = self._tables.get(key)
        if table is None or not table.fits(sums):
            table = self._tables[key] = _Table.of(sums, self._device)
        numbers = torch.tensor([[*each.weights, each.divisor, each.scale] for each in sums], dtype=torch.float32)
        if self._device.type == "cuda":
            numbers = numbers.pin_memory()
        wrong = torch.zeros(len(sums), dtype=torch.int32, device=self._device)
        first = sums[0]
        _sum[(len(table.owners),)](
            table.addresses, numbers.to(self._device, non_blocking=True), table.owners, table.starts, wrong,
            len(first.inputs), first.base is not None, TYPES[first.inputs[0].dtype], TYPES[first.out.dtype],
            first.aligned, BLOCK,
            num_warps=8, enable_fp_fusion=False,
        )  # fmt: skip
        return wrong


@dataclass(frozen=True)
class _Table:
    """Addresses and lengths of tensors [tensors, 3 + inputs], and for each program its tensor and first element."""

    addresses: Tensor
    owners: Tensor
    starts: Tensor
    held: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, sums: Sequence[Sum], device: torch.device) -> _Table:
        rows = tuple(_addresses(each) for each in sums)
        owners = [number for number, each in enumerate(sums) for _ in range(0, each.out.numel(), BLOCK)]
        starts = [start for each in sums for start in range(0, each.out.numel(), BLOCK)]
        return cls(
            torch.tensor(rows, dtype=torch.long).to(device),
            torch.tensor(owners, dtype=torch.int32).to(device),
            torch.tensor(starts, dtype=torch.long).to(device),
            rows,
        )

    def fits(self, sums: Sequence[Sum]) -> bool:
        """Whether the tensors are where they were."""
        return self.held == tuple(_addresses(each) for each in sums)


def _addresses(each: Sum) -> tuple[int, ...]:
    base = 0 if each.base is None else each.base.data_ptr()
    return (each.out.data_ptr(), each.out.numel(), base, *(one.data_ptr() for one in each.inputs))


@triton.jit
def _sum(
    addresses, numbers, owners, starts, wrong,
    MANY: tl.constexpr, HAS_BASE: tl.constexpr, GIVEN: tl.constexpr, RESULT: tl.constexpr, EVEN: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    program = tl.program_id(0)
    owner = tl.load(owners + program)
    row = addresses + owner * (3 + MANY)
    number = numbers + owner * (MANY + 2)
    length = tl.load(row + 1)
    if EVEN:  # Only then are the widest words right.
        length = tl.multiple_of(length, 16)
    at = tl.multiple_of(tl.load(starts + program), BLOCK) + tl.arange(0, BLOCK)
    inside = at < length
    origin = tl.zeros([BLOCK], tl.float32)
    if HAS_BASE:
        base = tl.load(row + 2).to(tl.pointer_type(GIVEN))
        if EVEN:
            base = tl.multiple_of(base, 16)
        origin = tl.load(base + at, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for j in tl.static_range(MANY):
        one = tl.load(row + 3 + j).to(tl.pointer_type(GIVEN))
        if EVEN:
            one = tl.multiple_of(one, 16)
        value = tl.load(one + at, mask=inside, other=0.0).to(tl.float32)
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
    out = tl.load(row).to(tl.pointer_type(RESULT))
    if EVEN:
        out = tl.multiple_of(out, 16)
    tl.store(out + at, result, mask=inside)
    back = result.to(tl.float32)
    broken = tl.max((inside & ((back - back) != 0.0)).to(tl.int32), axis=0)
    if broken > 0:
        tl.store(wrong + owner, 1)
