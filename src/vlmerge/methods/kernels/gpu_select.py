"""The n-th largest magnitude of differences on a GPU (Triton), exactly and without sorting: radix select in two digits.

How many differences have which upper digit does not depend on the genome: that is counted once per run. A new density then
costs one pass that counts lower digits; and, where the threshold is not the difference that was guessed to be frequent, one
that looks for the last of those that are equal to it. The host waits for neither.
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# numba and Triton compile these functions from their source; they have no types of Python's.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from vlmerge.methods.kernels.gpu import TYPES
from vlmerge.methods.kernels.gpu_rows import length_from, magnitudes, piece_of, tensor_from
from vlmerge.methods.kernels.gpu_table import BLOCK, STEP, WARPS, Place, Table

LOW = 17
"""Bits of the lower digit; the upper one has the other 14 of a magnitude."""
HIGHS, LOWS = 1 << (31 - LOW), 1 << LOW
CHUNK = 8192
"""Counters that are looked through together."""
SAMPLE = 16
"""Blocks at a tensor's beginning that show which difference is frequent."""


def count_high(table: Table, first: Place, into: Tensor) -> None:
    """Counts upper digits of differences that are not zero.

    Args:
        table: Of the launch.
        first: Any of its places: they are of one kind.
        into: int64 [tensors, inputs], addresses of int32 [HIGHS] counters, zero before; 0 where nothing is to be counted.
    """
    _count_high[(table.programs,)](
        table.addresses, table.owners, table.starts, into,
        len(first.inputs), TYPES[first.inputs[0].dtype], first.aligned, LOW, BLOCK, STEP, num_warps=WARPS,
    )  # fmt: skip


def select(table: Table, first: Place, highs: Tensor, wanted: Tensor, slots: Tensor, found: Tensor) -> None:
    """Finds thresholds.

    Args:
        table: Of the launch.
        first: Any of its places.
        highs: int64 [tensors, inputs], addresses of the counters of upper digits.
        wanted: int64 [tensors, inputs]: how many differences are kept; 0 where nothing is asked for.
        slots: int64 [tensors, inputs]: rows of `found`.
        found: int64 [rows, 2]: receives bits of the smallest magnitude that is kept, and the index of the last one that is
            kept among those of this magnitude.
    """
    tensors, many = wanted.shape
    given, device = (TYPES[first.inputs[0].dtype], first.aligned), found.device
    # For each pair: upper digit (then the threshold) and rank among what shares it (then 0 where no index is looked for).
    state = torch.empty((tensors * many, 2), dtype=torch.long, device=device)
    _find_high[(tensors * many,)](highs, wanted, state, HIGHS, CHUNK, num_warps=8)
    lows = torch.zeros((tensors * many, LOWS), dtype=torch.int32, device=device)
    # For each pair: a magnitude that may be frequent; for each program and input: how often it is there.
    guesses = torch.empty(tensors * many, dtype=torch.int32, device=device)
    equal = torch.empty((table.programs, many), dtype=torch.int32, device=device)
    where = (table.addresses, table.owners, table.starts)
    _guess[(tensors * many,)](table.addresses, wanted, state, guesses, many, *given, LOW, SAMPLE, BLOCK, num_warps=8)
    # Words as narrow as the elements: then each counter is told of by the thread that read the element.
    narrow = (given[0], False)
    _count_low[(table.programs,)](
        *where, wanted, state, guesses, lows, equal, many, *narrow, LOW, BLOCK, STEP, num_warps=WARPS
    )  # fmt: skip
    _find_low[(tensors * many,)](table.addresses, wanted, state, lows, slots, found, many, LOW, CHUNK, num_warps=8)
    _count_equal[(table.programs,)](
        *where, wanted, state, guesses, equal, many, *given, BLOCK, STEP, num_warps=WARPS
    )  # fmt: skip
    _find_index[(tensors * many,)](
        table.addresses, table.firsts, wanted, state, equal, slots, found, many, *given, CHUNK, BLOCK, num_warps=8
    )  # fmt: skip


@triton.jit
def _count_high(
    addresses, owners, starts, into,
    MANY: tl.constexpr, GIVEN: tl.constexpr, EVEN: tl.constexpr, LOW: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr, STEP: tl.constexpr,  # noqa: N803
):  # fmt: skip
    owner, row, first, there = piece_of(addresses, owners, starts, tl.program_id(0), MANY, EVEN, BLOCK)
    base = tensor_from(row, 2, first, GIVEN, EVEN)
    for j in range(MANY):
        counters = tl.load(into + owner * MANY + j)
        if counters != 0:
            one = tensor_from(row, 3 + j, first, GIVEN, EVEN)
            for step in range(0, BLOCK, STEP):
                bits = magnitudes(one, base, step + tl.arange(0, STEP), there, True)
                # Most differences of many fine-tuned models are zero: they would all wait for one counter.
                tl.atomic_add(counters.to(tl.pointer_type(tl.int32)) + (bits >> LOW), 1, mask=bits != 0, sem="relaxed")


@triton.jit
def _digit(counters, wanted, DIGITS: tl.constexpr, CHUNK: tl.constexpr):  # noqa: N803
    """From the greatest digit down: the one that holds the wanted rank, the rank within it, how many share it."""
    above = tl.zeros([], tl.int64)
    digit = tl.full([], -1, tl.int64)
    rest = tl.zeros([], tl.int64)
    shared = tl.zeros([], tl.int64)
    for chunk in range(DIGITS // CHUNK):
        place = DIGITS - 1 - chunk * CHUNK - tl.arange(0, CHUNK)
        count = tl.load(counters + place).to(tl.int64)
        upto = above + tl.cumsum(count, 0)
        here = (upto >= wanted) & (upto - count < wanted)
        digit += tl.sum(tl.where(here, place.to(tl.int64) + 1, 0), 0)
        rest += tl.sum(tl.where(here, wanted - upto + count, 0), 0)
        shared += tl.sum(tl.where(here, count, 0), 0)
        above += tl.sum(count, 0)
    return digit, rest, shared


@triton.jit
def _find_high(highs, wanted, state, DIGITS: tl.constexpr, CHUNK: tl.constexpr):  # noqa: N803
    pair = tl.program_id(0).to(tl.int64)
    count = tl.load(wanted + pair)
    if count > 0:
        digit, rest, _ = _digit(tl.load(highs + pair).to(tl.pointer_type(tl.int32)), count, DIGITS, CHUNK)
        tl.store(state + pair * 2, digit)
        tl.store(state + pair * 2 + 1, rest)


@triton.jit
def _guess(
    addresses, wanted, state, guesses,
    MANY: tl.constexpr, GIVEN: tl.constexpr, EVEN: tl.constexpr, LOW: tl.constexpr,  # noqa: N803
    SAMPLE: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Differences of 16-bit weights are multiples of few units: most that share an upper digit are equal, and rounder than the
    others. The roundest of a sample is what many others will turn out to be."""
    pair = tl.program_id(0).to(tl.int64)
    if tl.load(wanted + pair) > 0:
        row = addresses + (pair // MANY) * (3 + MANY)
        high = tl.load(state + pair * 2).to(tl.int32)
        there = length_from(row, 0, EVEN, SAMPLE * BLOCK)
        base, one = tensor_from(row, 2, 0, GIVEN, EVEN), tensor_from(row, 3 + pair % MANY, 0, GIVEN, EVEN)
        most = tl.zeros([], tl.int32)
        guess = tl.full([], -1, tl.int32)
        for block in range(SAMPLE):
            bits = magnitudes(one, base, block * BLOCK + tl.arange(0, BLOCK), there, True)
            near = (bits != 0) & ((bits >> LOW) == high)
            # The lowest bit that is set; of a lower digit of zero, one that is higher than all.
            more = bits & ((1 << LOW) - 1) | (1 << LOW)
            roundness = tl.where(near, more & -more, 0)
            here = tl.max(roundness, 0)
            roundest = tl.max(tl.where(near & (roundness == here), bits, -1), 0)
            guess = tl.where(here > most, roundest, guess)
            most = tl.maximum(here, most)
        tl.store(guesses + pair, guess)


@triton.jit
def _count_low(
    addresses, owners, starts, wanted, state, guesses, lows, equal,
    MANY: tl.constexpr, GIVEN: tl.constexpr, EVEN: tl.constexpr, LOW: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr, STEP: tl.constexpr,  # noqa: N803
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    owner, row, first, there = piece_of(addresses, owners, starts, program, MANY, EVEN, BLOCK)
    base = tensor_from(row, 2, first, GIVEN, EVEN)
    for j in range(MANY):
        pair = owner * MANY + j
        if tl.load(wanted + pair) > 0:
            one = tensor_from(row, 3 + j, first, GIVEN, EVEN)
            # The smallest magnitude that shares the upper digit and is not zero; digits are counted from it on.
            least = tl.maximum(tl.load(state + pair * 2).to(tl.int32) << LOW, 1)
            counters = lows + (pair << LOW) + (least & 1)
            guess = tl.load(guesses + pair) - least
            if there == BLOCK:
                number = _lows(one, base, there, least, guess, counters, False, LOW, BLOCK, STEP)
            else:
                number = _lows(one, base, there, least, guess, counters, True, LOW, BLOCK, STEP)
            # All of a frequent difference would wait for one counter: a program adds its own in one go.
            if number > 0:
                tl.atomic_add(counters + guess, number, sem="relaxed")
            tl.store(equal + program * MANY + j, number)


@triton.jit
def _lows(
    one, base, there, least, guess, counters,
    CUT: tl.constexpr, LOW: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Counts lower digits but the guessed one, whose number it gives."""
    guessed = tl.zeros([STEP], tl.int32)
    digits = (1 << LOW) - (least & 1)
    for step in range(0, BLOCK, STEP):
        digit = magnitudes(one + step, base + step, tl.arange(0, STEP), there - step, CUT) - least
        guessed += (digit == guess).to(tl.int32)
        # What is less than the least one is a great number without a sign.
        near = digit.to(tl.uint32, bitcast=True) < digits
        tl.atomic_add(counters + digit, 1, mask=near & (digit != guess), sem="relaxed")
    return tl.sum(guessed, 0)


@triton.jit
def _find_low(
    addresses, wanted, state, lows, slots, found,
    MANY: tl.constexpr, LOW: tl.constexpr, CHUNK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    pair = tl.program_id(0).to(tl.int64)
    if tl.load(wanted + pair) > 0:
        high = tl.load(state + pair * 2)
        length = tl.load(addresses + (pair // MANY) * (3 + MANY) + 1)
        threshold = tl.zeros([], tl.int64)
        looked_for = tl.zeros([], tl.int64)
        if high >= 0:
            digit, rest, shared = _digit(lows + (pair << LOW), tl.load(state + pair * 2 + 1), 1 << LOW, CHUNK)
            threshold = (high << LOW) | digit
            looked_for = tl.where(rest == shared, 0, rest)
        # Fewer differ from zero than are kept: which of the zeros are kept is the same to every result.
        tl.store(state + pair * 2, threshold)
        tl.store(state + pair * 2 + 1, looked_for)
        slot = found + tl.load(slots + pair) * 2
        tl.store(slot, threshold)
        tl.store(slot + 1, length)


@triton.jit
def _count_equal(
    addresses, owners, starts, wanted, state, guesses, equal,
    MANY: tl.constexpr, GIVEN: tl.constexpr, EVEN: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr, STEP: tl.constexpr,  # noqa: N803
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    owner, row, first, there = piece_of(addresses, owners, starts, program, MANY, EVEN, BLOCK)
    base = tensor_from(row, 2, first, GIVEN, EVEN)
    for j in range(MANY):
        pair = owner * MANY + j
        if (tl.load(wanted + pair) > 0) & (tl.load(state + pair * 2 + 1) > 0):
            threshold = tl.load(state + pair * 2).to(tl.int32)
            if threshold != tl.load(guesses + pair):
                one = tensor_from(row, 3 + j, first, GIVEN, EVEN)
                same = tl.zeros([STEP], tl.int32)
                for step in range(0, BLOCK, STEP):
                    # A threshold that is looked for is not zero: nothing beyond the end is equal to it.
                    bits = magnitudes(one, base, step + tl.arange(0, STEP), there, True)
                    same += (bits == threshold).to(tl.int32)
                tl.store(equal + program * MANY + j, tl.sum(same, 0))


@triton.jit
def _find_index(
    addresses, firsts, wanted, state, equal, slots, found,
    MANY: tl.constexpr, GIVEN: tl.constexpr, EVEN: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    pair = tl.program_id(0).to(tl.int64)
    if tl.load(wanted + pair) > 0:
        rank = tl.load(state + pair * 2 + 1)
        if rank > 0:
            owner, j = pair // MANY, pair % MANY
            begin, end = tl.load(firsts + owner), tl.load(firsts + owner + 1)
            before = tl.zeros([], tl.int64)
            block = tl.zeros([], tl.int64)
            rest = tl.zeros([], tl.int64)
            for first in range(begin, end, CHUNK):
                program = first + tl.arange(0, CHUNK)
                count = tl.load(equal + program * MANY + j, mask=program < end, other=0).to(tl.int64)
                upto = before + tl.cumsum(count, 0)
                here = (upto >= rank) & (upto - count < rank)
                block += tl.sum(tl.where(here, program - begin, 0), 0)
                rest += tl.sum(tl.where(here, rank - upto + count, 0), 0)
                before += tl.sum(count, 0)
            row = addresses + owner * (3 + MANY)
            at, own = block * BLOCK, tl.arange(0, BLOCK)
            base, one = tensor_from(row, 2, at, GIVEN, EVEN), tensor_from(row, 3 + j, at, GIVEN, EVEN)
            bits = magnitudes(one, base, own, length_from(row, at, EVEN, BLOCK), True)
            same = bits == tl.load(state + pair * 2).to(tl.int32)
            number = tl.cumsum(same.to(tl.int32), 0)
            index = at + tl.sum(tl.where(same & (number == rest), own, 0), 0)
            tl.store(found + tl.load(slots + pair) * 2 + 1, index)
