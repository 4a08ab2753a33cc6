"""Sums of chosen differences on a GPU (Triton): TIES and DARE for many tensors in one launch, in one pass.

The arithmetic is `cpu.py`'s, rounding by rounding. What is kept (a threshold, a chance) and what it is rescaled by lie on the
device, so that the host does not wait for them.
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# numba and Triton compile these functions from their source; they have no types of Python's.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from vlmerge.methods.kernels.gpu import TYPES
from vlmerge.methods.kernels.gpu_rows import piece_of, tensor_from, values
from vlmerge.methods.kernels.gpu_table import BLOCK, STEP, WARPS, Place, Table

FIELDS = 6
"""Of a pair of tensor and input: its row of thresholds (-1: all are kept), its rows of norms, of all and of those
that are kept (-1: no rescaling), its chance (of `differences.LOTS`), and two words of a key."""
PLANNED = 8
"""int32 words of a pair's plan: threshold (or chance); the last index's block and place in it (or the key's words); bits of the
weight; bits of what differences are rescaled by."""
CHUNK = 1024


def add_chosen(
    table: Table, first: Place, pairs: Tensor, numbers: Tensor, found: Tensor, norms: Tensor,
    *, draws: bool, elect: bool, share: bool,
) -> Tensor:  # fmt: skip
    """out = base + scale · (sum of the weighted differences that are kept) / divisor; see `cpu.add_chosen`.

    Args:
        table: Of the launch.
        first: Any of its places.
        pairs: int64 [tensors, inputs, FIELDS].
        numbers: float32 [tensors, inputs + 2]: weights, divisor, scale.
        found: int64 [rows, 2]: thresholds and last indices.
        norms: float64 [rows]: sums of magnitudes.
        draws: Differences are drawn by their lots; else those at and above a threshold are kept.
        elect: Entries whose sign is not that of the sum are left out.
        share: With `elect`, divide by the weights of those that take part.

    Returns:
        int32 [tensors]: 1 where the result is not finite.
    """
    wrong = torch.zeros(len(numbers), dtype=torch.int32, device=numbers.device)
    plan = _planned(pairs, numbers, found, norms, draws=draws)
    _add_chosen[(table.programs,)](
        table.addresses, table.owners, table.starts, plan, numbers, wrong, len(first.inputs), PLANNED,
        draws, elect, share, TYPES[first.inputs[0].dtype], TYPES[first.out.dtype], first.aligned, BLOCK, STEP,
        num_warps=WARPS, enable_fp_fusion=False,
    )  # fmt: skip
    return wrong


def measure(
    table: Table, first: Place, pairs: Tensor, numbers: Tensor, wanted: Tensor, found: Tensor, norms: Tensor, *, draws: bool
) -> None:
    """Sums of magnitudes of all differences and of those that are kept, into the pairs' rows of `norms`.

    Args:
        table, first, pairs, numbers, found, norms, draws: As for `add_chosen`.
        wanted: int64 [tensors, inputs, 2]: 1 where the sum of all, or of those that are kept, is asked for.
    """
    tensors, many, _ = wanted.shape
    plan = _planned(pairs, numbers, found, norms, draws=draws)
    parts = torch.empty((table.programs, many, 2), dtype=torch.float64, device=norms.device)
    _measure[(table.programs,)](
        table.addresses, table.owners, table.starts, plan, wanted, parts,
        many, PLANNED, draws, TYPES[first.inputs[0].dtype], first.aligned, BLOCK, STEP, num_warps=WARPS,
    )  # fmt: skip
    _collect[(tensors * many * 2,)](table.firsts, pairs, wanted, parts, norms, many, FIELDS, CHUNK)


def _planned(pairs: Tensor, numbers: Tensor, found: Tensor, norms: Tensor, *, draws: bool) -> Tensor:
    """What a kernel wants to know of each pair, side by side: int32 [tensors, inputs, PLANNED]."""
    tensors, many, _ = pairs.shape
    plan = torch.empty((tensors, many, PLANNED), dtype=torch.int32, device=pairs.device)
    _plan[(tensors * many,)](pairs, numbers, found, norms, plan, many, FIELDS, PLANNED, draws, BLOCK)
    return plan


@triton.jit
def _plan(
    pairs, numbers, found, norms, plan,
    MANY: tl.constexpr, FIELDS: tl.constexpr, PLANNED: tl.constexpr, DRAWS: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    pair = tl.program_id(0).to(tl.int64)
    given, into = pairs + pair * FIELDS, plan + pair * PLANNED
    if DRAWS:
        for word in tl.static_range(3):
            tl.store(into + word, tl.load(given + 3 + word).to(tl.int32))
    else:
        row = tl.load(given)
        last = tl.load(found + row * 2 + 1, mask=row >= 0, other=0)
        tl.store(into, tl.load(found + row * 2, mask=row >= 0, other=-1).to(tl.int32))
        tl.store(into + 1, (last // BLOCK).to(tl.int32))
        tl.store(into + 2, (last % BLOCK).to(tl.int32))
    factor = tl.full([], 1.0, tl.float32)
    kept = tl.load(given + 2)
    if kept >= 0:
        before, after = tl.load(norms + tl.load(given + 1)), tl.load(norms + kept)
        factor = tl.where(tl.minimum(before, after) < 1e-7, 1.0, before / after).to(tl.float32)
    weight = tl.load(numbers + (pair // MANY) * (MANY + 2) + pair % MANY)
    tl.store(into + 3, weight.to(tl.int32, bitcast=True))
    tl.store(into + 4, factor.to(tl.int32, bitcast=True))


@triton.jit
def _lots(at, key0, key1):
    """`differences.lots`."""
    bits = at * 0x9E3779B1 + key0
    bits = (bits ^ (bits >> 16)) * 0x85EBCA6B
    bits = (bits ^ (bits >> 13)) * 0xC2B2AE35
    bits = (bits ^ (bits >> 16)) + key1
    bits = (bits ^ (bits >> 16)) * 0x7FEB352D
    bits = (bits ^ (bits >> 15)) * 0x846CA68B
    return (bits ^ (bits >> 16)) >> 8


@triton.jit
def _stays(difference, first, own, plan, DRAWS: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803
    """Which differences a pair keeps of those at first + own; `first` is a multiple of BLOCK."""
    if DRAWS:
        at = (first.to(tl.uint32) + own.to(tl.uint32)).to(tl.uint32)
        lots = _lots(at, tl.load(plan + 1).to(tl.uint32), tl.load(plan + 2).to(tl.uint32))
        stays = lots < tl.load(plan).to(tl.uint32)
    else:
        threshold, block = tl.load(plan), (first // BLOCK).to(tl.int32)
        last_block = tl.load(plan + 1)
        last = tl.where(block < last_block, BLOCK, tl.where(block == last_block, tl.load(plan + 2), -1))
        bits = difference.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        # Of those at the threshold the ones up to the last index stay.
        stays = bits > tl.where(own <= last, threshold - 1, threshold)
    return stays


@triton.jit
def _add_chosen(
    addresses, owners, starts, plan, numbers, wrong,
    MANY: tl.constexpr, PLANNED: tl.constexpr, DRAWS: tl.constexpr, ELECT: tl.constexpr, SHARE: tl.constexpr,  # noqa: N803
    GIVEN: tl.constexpr, RESULT: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,  # noqa: N803
):  # fmt: skip
    owner, row, first, there = piece_of(addresses, owners, starts, tl.program_id(0), MANY, EVEN, BLOCK)
    number = numbers + owner * (MANY + 2)
    out = tensor_from(row, 0, first, RESULT, EVEN)
    base = tensor_from(row, 2, first, GIVEN, EVEN)
    broken = tl.zeros([STEP], tl.int32)
    for step in range(0, BLOCK, STEP):
        own = step + tl.arange(0, STEP)
        inside = own < there
        origin = values(base, own, there, True)
        total = tl.zeros([STEP], tl.float32)
        # Sums of either sign, so that each input is read once: which sign is elected is known at the end.
        plus = tl.zeros([STEP], tl.float32)
        minus = tl.zeros([STEP], tl.float32)
        plus_weights = tl.zeros([STEP], tl.float32)
        minus_weights = tl.zeros([STEP], tl.float32)
        for j in tl.static_range(MANY):
            pair = plan + (owner * MANY + j) * PLANNED
            difference = values(tensor_from(row, 3 + j, first, GIVEN, EVEN), own, there, True) - origin
            stays = _stays(difference, first, own, pair, DRAWS, BLOCK)
            weight = tl.load(pair + 3).to(tl.float32, bitcast=True)
            term = tl.where(stays, difference, 0.0) * tl.load(pair + 4).to(tl.float32, bitcast=True) * weight
            total = total + term
            if ELECT:
                above = term > 0
                plus = plus + tl.where(above, term, 0.0)
                # What is no number goes here, as the sum of all is none then.
                minus = minus + tl.where(above, 0.0, term)
                if SHARE:
                    plus_weights = plus_weights + tl.where(above, weight, 0.0)
                    minus_weights = minus_weights + tl.where(term < 0, weight, 0.0)
        if ELECT:
            elected = total >= 0
            total = tl.where(elected, plus, minus)
            if SHARE:
                part = tl.where(elected, plus_weights, minus_weights)
                total = tl.div_rn(total, tl.where(part == 0.0, 1.0, part))
        divisor = tl.load(number + MANY)
        if divisor != 1.0:
            total = tl.div_rn(total, tl.zeros([STEP], tl.float32) + divisor)
        result = tl.fma(total, tl.zeros([STEP], tl.float32) + tl.load(number + MANY + 1), origin).to(RESULT)
        tl.store(out + own, result, mask=inside)
        back = result.to(tl.float32)
        broken = broken | (inside & ((back - back) != 0.0)).to(tl.int32)
    if tl.max(broken, axis=0) > 0:
        tl.store(wrong + owner, 1)


@triton.jit
def _measure(
    addresses, owners, starts, plan, wanted, parts,
    MANY: tl.constexpr, PLANNED: tl.constexpr, DRAWS: tl.constexpr,  # noqa: N803
    GIVEN: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,  # noqa: N803
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    owner, row, first, there = piece_of(addresses, owners, starts, program, MANY, EVEN, BLOCK)
    base = tensor_from(row, 2, first, GIVEN, EVEN)
    for j in range(MANY):
        pair = owner * MANY + j
        all_wanted = tl.load(wanted + pair * 2) > 0
        kept_wanted = tl.load(wanted + pair * 2 + 1) > 0
        if all_wanted | kept_wanted:
            # Of float64: the sums are those of a CPU but for the order.
            before = tl.zeros([STEP], tl.float64)
            after = tl.zeros([STEP], tl.float64)
            one = tensor_from(row, 3 + j, first, GIVEN, EVEN)
            for step in range(0, BLOCK, STEP):
                own = step + tl.arange(0, STEP)
                difference = values(one, own, there, True) - values(base, own, there, True)
                if all_wanted:
                    before += tl.abs(difference).to(tl.float64)
                if kept_wanted:
                    stays = _stays(difference, first, own, plan + pair * PLANNED, DRAWS, BLOCK)
                    after += tl.where(stays, tl.abs(difference), 0.0).to(tl.float64)
            part = parts + (program * MANY + j) * 2
            tl.store(part, tl.sum(before, 0))
            tl.store(part + 1, tl.sum(after, 0))


@triton.jit
def _collect(firsts, pairs, wanted, parts, norms, MANY: tl.constexpr, FIELDS: tl.constexpr, CHUNK: tl.constexpr):  # noqa: N803
    each = tl.program_id(0).to(tl.int64)
    if tl.load(wanted + each) > 0:
        pair, which = each // 2, each % 2
        owner, j = pair // MANY, pair % MANY
        end = tl.load(firsts + owner + 1)
        total = tl.zeros([CHUNK], tl.float64)
        for first in range(tl.load(firsts + owner), end, CHUNK):
            program = first + tl.arange(0, CHUNK)
            total += tl.load(parts + (program * MANY + j) * 2 + which, mask=program < end, other=0.0)
        tl.store(norms + tl.load(pairs + pair * FIELDS + 1 + which), tl.sum(total, 0))
