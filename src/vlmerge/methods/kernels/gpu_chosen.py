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
from vlmerge.methods.kernels.gpu_select import read, whereabouts
from vlmerge.methods.kernels.gpu_table import BLOCK, Place, Table

ALL, LARGEST, DRAWN = 0, 1, 2
FIELDS = 6
"""Of a pair of tensor and input: what it keeps (one of the three), its row of thresholds, its row of norms (or -1), chance, two
words of a key."""
CHUNK = 1024


def add_chosen(
    table: Table, first: Place, pairs: Tensor, numbers: Tensor, found: Tensor, norms: Tensor, *, elect: bool, share: bool
) -> Tensor:
    """out = base + scale · (sum of the weighted differences that are kept) / divisor; see `cpu.add_chosen`.

    Args:
        table: Of the launch.
        first: Any of its places.
        pairs: int64 [tensors, inputs, FIELDS].
        numbers: float32 [tensors, inputs + 2]: weights, divisor, scale.
        found: int64 [rows, 2]: thresholds and last indices.
        norms: float64 [rows, 2]: sums of magnitudes before and after the choice.
        elect: Entries whose sign is not that of the sum are left out.
        share: With `elect`, divide by the weights of those that take part.

    Returns:
        int32 [tensors]: 1 where the result is not finite.
    """
    wrong = torch.zeros(len(numbers), dtype=torch.int32, device=numbers.device)
    _add_chosen[(table.programs,)](
        table.addresses, table.owners, table.starts, pairs, numbers, found, norms, wrong,
        len(first.inputs), FIELDS, elect, share, TYPES[first.inputs[0].dtype], TYPES[first.out.dtype], first.aligned, BLOCK,
        num_warps=8, enable_fp_fusion=False,
    )  # fmt: skip
    return wrong


def measure(table: Table, first: Place, pairs: Tensor, wanted: Tensor, found: Tensor, norms: Tensor) -> None:
    """Sums of magnitudes of all differences and of those that are kept, into the pairs' rows of `norms`.

    Args:
        table: Of the launch.
        first: Any of its places.
        pairs: int64 [tensors, inputs, FIELDS].
        wanted: int64 [tensors, inputs]: 1 where the sums are asked for.
        found: int64 [rows, 2].
        norms: float64 [rows, 2].
    """
    tensors, many = wanted.shape
    parts = torch.empty((table.programs, many, 2), dtype=torch.float64, device=norms.device)
    _measure[(table.programs,)](
        table.addresses, table.owners, table.starts, pairs, wanted, found, parts,
        many, FIELDS, TYPES[first.inputs[0].dtype], first.aligned, BLOCK, num_warps=8,
    )  # fmt: skip
    _collect[(tensors * many,)](table.firsts, pairs, wanted, parts, norms, many, FIELDS, CHUNK)


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
def _stays(difference, start, pair, found, BLOCK: tl.constexpr):  # noqa: N803
    """Which differences of a block a pair keeps; `start` is the index of the first of them."""
    kind = tl.load(pair)
    own = tl.arange(0, BLOCK)
    stays = own >= 0
    if kind == 1:
        slot = found + tl.load(pair + 1) * 2
        threshold = tl.load(slot).to(tl.int32)
        last = tl.minimum(tl.maximum(tl.load(slot + 1) - start, -1), BLOCK).to(tl.int32)
        bits = difference.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        stays = (bits > threshold) | ((bits == threshold) & (own <= last))
    elif kind == 2:
        lots = _lots(start.to(tl.uint32) + own.to(tl.uint32), tl.load(pair + 4).to(tl.uint32), tl.load(pair + 5).to(tl.uint32))
        stays = lots < tl.load(pair + 3).to(tl.uint32)
    return stays


@triton.jit
def _add_chosen(
    addresses, owners, starts, pairs, numbers, found, norms, wrong,
    MANY: tl.constexpr, FIELDS: tl.constexpr, ELECT: tl.constexpr, SHARE: tl.constexpr,  # noqa: N803
    GIVEN: tl.constexpr, RESULT: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    program = tl.program_id(0)
    owner = tl.load(owners + program).to(tl.int64)
    row = addresses + owner * (3 + MANY)
    number = numbers + owner * (MANY + 2)
    start = tl.load(starts + program)
    at, inside = whereabouts(row, starts + program, EVEN, BLOCK)
    out = tl.load(row).to(tl.pointer_type(RESULT))
    if EVEN:
        out = tl.multiple_of(out, 16)
    origin = read(row, 2, at, inside, GIVEN, EVEN)
    total = tl.zeros([BLOCK], tl.float32)
    kept = tl.zeros([BLOCK], tl.int32)
    for j in tl.static_range(MANY):
        pair = pairs + (owner * MANY + j) * FIELDS
        difference = read(row, 3 + j, at, inside, GIVEN, EVEN) - origin
        stays = _stays(difference, start, pair, found, BLOCK)
        kept = kept | (stays.to(tl.int32) << j)
        total = total + _weighed(difference, stays, pair, norms, tl.load(number + j))
    if ELECT:
        plus = total >= 0
        total = tl.zeros([BLOCK], tl.float32)
        part = tl.zeros([BLOCK], tl.float32)
        for j in tl.static_range(MANY):
            pair = pairs + (owner * MANY + j) * FIELDS
            difference = read(row, 3 + j, at, inside, GIVEN, EVEN) - origin
            weight = tl.load(number + j)
            term = _weighed(difference, ((kept >> j) & 1) != 0, pair, norms, weight)
            joins = (term != 0) & ((term > 0) == plus)
            total = total + tl.where(joins, term, 0.0)
            part = part + tl.where(joins, weight, 0.0)
        if SHARE:
            total = tl.div_rn(total, tl.where(part == 0.0, 1.0, part))
    divisor = tl.load(number + MANY)
    if divisor != 1.0:
        total = tl.div_rn(total, tl.zeros([BLOCK], tl.float32) + divisor)
    result = tl.fma(total, tl.zeros([BLOCK], tl.float32) + tl.load(number + MANY + 1), origin).to(RESULT)
    tl.store(out + at, result, mask=inside)
    back = result.to(tl.float32)
    broken = tl.max((inside & ((back - back) != 0.0)).to(tl.int32), axis=0)
    if broken > 0:
        tl.store(wrong + owner, 1)


@triton.jit
def _weighed(difference, stays, pair, norms, weight):
    """Kept differences, rescaled, times their weight."""
    factor = tl.full([], 1.0, tl.float32)
    slot = tl.load(pair + 2)
    if slot >= 0:
        before, after = tl.load(norms + slot * 2), tl.load(norms + slot * 2 + 1)
        factor = tl.where(tl.minimum(before, after) < 1e-7, 1.0, before / after).to(tl.float32)
    return tl.where(stays, difference, 0.0) * factor * weight


@triton.jit
def _measure(
    addresses, owners, starts, pairs, wanted, found, parts,
    MANY: tl.constexpr, FIELDS: tl.constexpr, GIVEN: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    owner = tl.load(owners + program).to(tl.int64)
    row = addresses + owner * (3 + MANY)
    start = tl.load(starts + program)
    at, inside = whereabouts(row, starts + program, EVEN, BLOCK)
    origin = read(row, 2, at, inside, GIVEN, EVEN)
    for j in range(MANY):
        if tl.load(wanted + owner * MANY + j) > 0:
            difference = read(row, 3 + j, at, inside, GIVEN, EVEN) - origin
            stays = _stays(difference, start, pairs + (owner * MANY + j) * FIELDS, found, BLOCK)
            size = tl.abs(difference).to(tl.float64)
            part = parts + (program * MANY + j) * 2
            tl.store(part, tl.sum(size, 0))
            tl.store(part + 1, tl.sum(tl.where(stays, size, 0.0), 0))


@triton.jit
def _collect(firsts, pairs, wanted, parts, norms, MANY: tl.constexpr, FIELDS: tl.constexpr, CHUNK: tl.constexpr):  # noqa: N803
    pair = tl.program_id(0).to(tl.int64)
    if tl.load(wanted + pair) > 0:
        owner, j = pair // MANY, pair % MANY
        end = tl.load(firsts + owner + 1)
        before = tl.zeros([CHUNK], tl.float64)
        after = tl.zeros([CHUNK], tl.float64)
        for first in range(tl.load(firsts + owner), end, CHUNK):
            program = first + tl.arange(0, CHUNK)
            part = parts + (program * MANY + j) * 2
            before += tl.load(part, mask=program < end, other=0.0)
            after += tl.load(part + 1, mask=program < end, other=0.0)
        slot = norms + tl.load(pairs + pair * FIELDS + 2) * 2
        tl.store(slot, tl.sum(before, 0))
        tl.store(slot + 1, tl.sum(after, 0))
