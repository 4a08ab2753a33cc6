"""Merge kernels for a CPU: one pass over the inputs, block by block within the innermost cache, on all threads.

Every result is rounded to float32 in the order written here (of `sum_up` and `add_tasks` a product together with the sum that
it is added to: fused multiply-add), so that the same values come out on a GPU and of plain torch.
Arrays are flat; uint16 holds bfloat16 and int16 float16 (see `bits.py`). Where the inputs may be many, their addresses are
given (uint64, all of the type of another argument): a kernel is then compiled once, not for each number of models.
Compiled at first use, and kept (see `kept.py`).
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# numba and Triton compile these functions from their source; they have no types of Python's.

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from vlmerge.methods.kernels.bits import span
from vlmerge.methods.kernels.blocks import (
    add,
    add_difference,
    all_of,
    band,
    count,
    drawn,
    finish,
    join,
    largest,
    moments_of,
    norms_of,
    put,
    share,
    take,
    take_difference,
    weigh,
)

BLOCK = 2048
"""Elements that a thread takes at a time: a few float32 buffers of this length fit the innermost cache."""
FLOAT = np.float32
UNSIGNED = np.uint32

ALL, LARGEST, DRAWN, BAND = 0, 1, 2, 3
"""Which differences a source keeps: all; the largest (a threshold and a last index); some drawn (a key and a chance); the
largest but for those above another threshold. Thresholds and indices come in pairs, the upper one second."""


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def sum_up(first: Any, others: Any, weights: Any, divisor: Any, out: Any) -> Any:
    """out = (w₀·x₀ + w₁·x₁ + …) / divisor, by addresses after x₀; returns how many blocks have results that are not finite."""
    bad = 0
    for block in prange((len(out) + BLOCK - 1) // BLOCK):
        begin, end = block * BLOCK, min((block + 1) * BLOCK, len(out))
        total = np.empty(end - begin, FLOAT)
        # The first product is not added to zero: -0.0 stays -0.0.
        take(first[begin:end], weights[0], total)
        for j in range(len(others)):
            add(span(others[j], begin, end, first), weights[j + 1], total)
        bad += put(total, divisor, out[begin:end])
    return bad


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def add_tasks(base: Any, inputs: Any, weights: Any, divisor: Any, scale: Any, out: Any) -> Any:
    """out = base + (w₀·(x₀ - base) + …) / divisor · scale; returns how many blocks have results that are not finite."""
    bad = 0
    for block in prange((len(out) + BLOCK - 1) // BLOCK):
        begin, end = block * BLOCK, min((block + 1) * BLOCK, len(out))
        origin, total = np.empty(end - begin, FLOAT), np.empty(end - begin, FLOAT)
        take(base[begin:end], FLOAT(1.0), origin)
        take_difference(span(inputs[0], begin, end, base), origin, weights[0], total)
        for j in range(1, len(inputs)):
            add_difference(span(inputs[j], begin, end, base), origin, weights[j], total)
        bad += finish(total, divisor, scale, origin, out[begin:end])
    return bad


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def moments(one: Any, two: Any) -> Any:
    """Sums of x·y, x·x and y·y in float64."""
    product, first, second = 0.0, 0.0, 0.0
    for block in prange((len(one) + BLOCK - 1) // BLOCK):
        begin, end = block * BLOCK, min((block + 1) * BLOCK, len(one))
        sums = moments_of(one[begin:end], two[begin:end])
        product += sums[0]
        first += sums[1]
        second += sums[2]
    return product, first, second


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def norms(base: Any, one: Any, kind: Any, threshold: Any, last: Any, chance: Any, key: Any) -> Any:
    """Sums of |x - base| before and after the choice, in float64."""
    before, after = 0.0, 0.0
    for block in prange((len(one) + BLOCK - 1) // BLOCK):
        begin, end = block * BLOCK, min((block + 1) * BLOCK, len(one))
        kept = np.empty(end - begin, FLOAT)
        choose(base[begin:end], one[begin:end], begin, kind, threshold, last, chance, key, kept)
        sums = norms_of(base[begin:end], one[begin:end], kept)
        before += sums[0]
        after += sums[1]
    return before, after


@njit(error_model="numpy")
def choose(
    origin: Any, source: Any, begin: Any, kind: Any, threshold: Any, last: Any, chance: Any, key: Any, kept: Any
) -> None:
    """The differences of a block that are kept, 0 elsewhere; `begin` is the index of its first element."""
    if kind == LARGEST:
        largest(source, origin, begin, threshold[0], last[0], kept)
    elif kind == BAND:
        band(source, origin, begin, threshold[0], last[0], threshold[1], last[1], kept)
    elif kind == DRAWN:
        drawn(source, origin, begin, chance, key, kept)
    else:
        all_of(source, origin, kept)


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def add_chosen(
    base: Any, inputs: Any, weights: Any, factors: Any, kinds: Any, thresholds: Any, lasts: Any, chances: Any, keys: Any,
    elect: Any, normalize: Any, divisor: Any, scale: Any, start: Any, out: Any,
) -> Any:  # fmt: skip
    """out = base + scale · (sum of the weighted differences that are kept), of the elected sign alone with `elect`.

    Args:
        base: What the differences are taken from.
        inputs: Addresses of the sources.
        weights: Of each source.
        factors: What its kept differences are rescaled by.
        kinds, thresholds, lasts, chances, keys: What each source keeps.
        elect: Entries whose sign is not that of the sum are left out (a sum of zero elects plus).
        normalize: With `elect`, divide each entry by the weights of the sources that take part in it (0 counts as 1).
        divisor: Divides every entry; 1 where `elect` is.
        scale: lambda.
        start: Index of the first elements in the tensors that the choices are about.
        out: Result.

    Returns:
        How many blocks have results that are not finite.
    """
    bad = 0
    many = len(inputs)
    for block in prange((len(out) + BLOCK - 1) // BLOCK):
        begin, end = block * BLOCK, min((block + 1) * BLOCK, len(out))
        origin, total = np.empty(end - begin, FLOAT), np.zeros(end - begin, FLOAT)
        terms = np.empty((many, end - begin), FLOAT)
        take(base[begin:end], FLOAT(1.0), origin)
        for j in range(many):
            source = span(inputs[j], begin, end, base)
            choose(origin, source, start + begin, kinds[j], thresholds[j], lasts[j], chances[j], keys[j], terms[j])
            weigh(terms[j], factors[j], weights[j], total)
        if elect:
            elected, part = total.copy(), np.zeros(end - begin, FLOAT)
            total[:] = FLOAT(0.0)
            for j in range(many):
                join(terms[j], weights[j], elected, total, part)
            if normalize:
                share(part, total)
        bad += finish(total, divisor, scale, origin, out[begin:end])
    return bad


@njit(cache=True)
def step_of(length: Any, parts: Any) -> Any:
    """Elements of a part: whole blocks."""
    return ((length + parts - 1) // parts + BLOCK - 1) // BLOCK * BLOCK


@njit(nogil=True, cache=True, error_model="numpy")
def magnitudes(base: Any, one: Any, bits: Any) -> None:
    """Bits of |one - base|."""
    for begin in range(0, len(one), BLOCK):
        end = min(begin + BLOCK, len(one))
        difference = np.empty(end - begin, FLOAT)
        all_of(one[begin:end], base[begin:end], difference)
        for i in range(end - begin):
            bits[begin + i] = FLOAT(abs(difference[i])).view(UNSIGNED)


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def between(base: Any, one: Any, low: Any, high: Any, sizes: Any, places: Any, counts: Any) -> Any:
    """Counts magnitudes above `high` and collects those in [low, high], part by part in order.

    Args:
        base, one: Their differences are looked at.
        low, high: Magnitude bits; where they are equal nothing is collected.
        sizes, places: [parts, room]: bits and index of what is collected; room is not overrun.
        counts: [parts], filled with how many lie between (more than `room`: the rest was not taken down).

    Returns:
        How many lie above.
    """
    above = 0
    parts, room = sizes.shape
    step = step_of(len(one), parts)
    for part in prange(parts):
        found = 0
        buffer = np.empty(BLOCK, FLOAT)
        for begin in range(part * step, min(len(one), (part + 1) * step), BLOCK):
            end = min(begin + BLOCK, len(one))
            kept = buffer[: end - begin]
            all_of(one[begin:end], base[begin:end], kept)
            far, near = count(kept, low, high)
            above += far
            if low == high:
                found += near
            elif near:
                for i in range(end - begin):
                    size = FLOAT(abs(kept[i])).view(UNSIGNED)
                    if low <= size <= high:
                        if found < room:
                            sizes[part, found] = size
                            places[part, found] = begin + i
                        found += 1
        counts[part] = found
    return above
