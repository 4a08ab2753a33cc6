"""What the CPU kernels do with one block. Each is a loop that the compiler turns into vector instructions.

Blocks are slices: an index into one is never negative, so that no loop has to ask.
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# numba and Triton compile these functions from their source; they have no types of Python's.

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vlmerge.methods.kernels.bits import fused, narrow, overflows, widen

FLOAT = np.float32
UNSIGNED = np.uint32


@njit(inline="never", error_model="numpy")
def take(source: Any, weight: Any, total: Any) -> None:
    """total = weight · source."""
    for i in range(len(total)):
        total[i] = widen(source[i]) * weight


@njit(inline="never", error_model="numpy")
def add(source: Any, weight: Any, total: Any) -> None:
    """total += weight · source."""
    for i in range(len(total)):
        total[i] = fused(FLOAT(widen(source[i])), FLOAT(weight), total[i])


@njit(inline="never", error_model="numpy")
def take_difference(source: Any, origin: Any, weight: Any, total: Any) -> None:
    """total = weight · (source - origin)."""
    for i in range(len(total)):
        total[i] = FLOAT(widen(source[i]) - origin[i]) * weight


@njit(inline="never", error_model="numpy")
def add_difference(source: Any, origin: Any, weight: Any, total: Any) -> None:
    """total += weight · (source - origin)."""
    for i in range(len(total)):
        total[i] = fused(FLOAT(widen(source[i]) - origin[i]), FLOAT(weight), total[i])


@njit(inline="never", error_model="numpy")
def put(total: Any, divisor: Any, out: Any) -> Any:
    """out = total / divisor, rounded; 1 if a result is not finite, else 0."""
    if divisor != FLOAT(1.0):
        for i in range(len(total)):
            total[i] = total[i] / divisor
    wrong = UNSIGNED(0)
    for i in range(len(total)):
        out[i] = narrow(total[i], out)
        wrong |= UNSIGNED(overflows(out[i]))
    return np.int64(wrong)


@njit(inline="never", error_model="numpy")
def finish(total: Any, divisor: Any, scale: Any, origin: Any, out: Any) -> Any:
    """out = origin + total / divisor · scale, rounded; 1 if a result is not finite, else 0."""
    if divisor != FLOAT(1.0):
        for i in range(len(total)):
            total[i] = total[i] / divisor
    for i in range(len(total)):
        total[i] = fused(total[i], FLOAT(scale), origin[i])
    return put(total, FLOAT(1.0), out)


@njit(inline="never", error_model="numpy")
def all_of(source: Any, origin: Any, kept: Any) -> None:
    """Differences."""
    for i in range(len(kept)):
        kept[i] = widen(source[i]) - widen(origin[i])


@njit(inline="never", error_model="numpy")
def largest(source: Any, origin: Any, begin: Any, threshold: Any, last: Any, kept: Any) -> None:
    """Differences of magnitude bits above the threshold, and those at it up to the index `last`; 0 elsewhere."""
    for i in range(len(kept)):
        difference = FLOAT(widen(source[i]) - widen(origin[i]))
        size = FLOAT(abs(difference)).view(UNSIGNED)
        stays = (size > threshold) | ((size == threshold) & (begin + i <= last))
        kept[i] = difference if stays else FLOAT(0.0)


@njit(inline="never", error_model="numpy")
def band(source: Any, origin: Any, begin: Any, threshold: Any, last: Any, top: Any, top_last: Any, kept: Any) -> None:
    """The same but for those above `top`, and those at it up to the index `top_last`."""
    for i in range(len(kept)):
        difference = FLOAT(widen(source[i]) - widen(origin[i]))
        size = FLOAT(abs(difference)).view(UNSIGNED)
        stays = (size > threshold) | ((size == threshold) & (begin + i <= last))
        stays &= (size < top) | ((size == top) & (begin + i > top_last))
        kept[i] = difference if stays else FLOAT(0.0)


@njit(inline="never", error_model="numpy")
def drawn(source: Any, origin: Any, begin: Any, chance: Any, key: Any, kept: Any) -> None:
    """Differences whose 24-bit lot is below `chance`; 0 elsewhere. A lot depends on the key (two words) and the index alone."""
    first, second = key[0], key[1]
    for i in range(len(kept)):
        bits = UNSIGNED(UNSIGNED(begin + i) * UNSIGNED(0x9E3779B1) + first)
        bits = UNSIGNED((bits ^ UNSIGNED(bits >> UNSIGNED(16))) * UNSIGNED(0x85EBCA6B))
        bits = UNSIGNED((bits ^ UNSIGNED(bits >> UNSIGNED(13))) * UNSIGNED(0xC2B2AE35))
        bits = UNSIGNED((bits ^ UNSIGNED(bits >> UNSIGNED(16))) + second)
        bits = UNSIGNED((bits ^ UNSIGNED(bits >> UNSIGNED(16))) * UNSIGNED(0x7FEB352D))
        bits = UNSIGNED((bits ^ UNSIGNED(bits >> UNSIGNED(15))) * UNSIGNED(0x846CA68B))
        lot = UNSIGNED(bits ^ UNSIGNED(bits >> UNSIGNED(16))) >> UNSIGNED(8)
        difference = FLOAT(widen(source[i]) - widen(origin[i]))
        kept[i] = difference if lot < chance else FLOAT(0.0)


@njit(inline="never", error_model="numpy")
def weigh(term: Any, factor: Any, weight: Any, total: Any) -> None:
    """term = term · factor · weight; total += term."""
    for i in range(len(term)):
        term[i] = FLOAT(term[i] * factor) * weight
        total[i] += term[i]


@njit(inline="never", error_model="numpy")
def join(term: Any, weight: Any, elected: Any, total: Any, part: Any) -> None:
    """Adds the terms that have the elected sum's sign, and their weight."""
    for i in range(len(term)):
        joins = (term[i] != FLOAT(0.0)) & ((term[i] > FLOAT(0.0)) == (elected[i] >= FLOAT(0.0)))
        total[i] += term[i] if joins else FLOAT(0.0)
        part[i] += weight if joins else FLOAT(0.0)


@njit(inline="never", error_model="numpy")
def share(part: Any, total: Any) -> None:
    """total /= part, where 0 counts as 1."""
    for i in range(len(total)):
        total[i] = total[i] / (FLOAT(1.0) if part[i] == FLOAT(0.0) else part[i])


@njit(inline="never", error_model="numpy")
def count(differences: Any, low: Any, high: Any) -> Any:
    """How many magnitudes lie above `high`, and how many in [low, high]."""
    above, near = np.int32(0), np.int32(0)
    for i in range(len(differences)):
        size = FLOAT(abs(differences[i])).view(UNSIGNED)
        above += np.int32(size > high)
        near += np.int32((size >= low) & (size <= high))
    return above, near


@njit(inline="never", error_model="numpy", fastmath={"reassoc"})
def moments_of(one: Any, two: Any) -> Any:
    """Sums of x·y, x·x and y·y."""
    product, first, second = 0.0, 0.0, 0.0
    for i in range(len(one)):
        x, y = np.float64(widen(one[i])), np.float64(widen(two[i]))
        product += x * y
        first += x * x
        second += y * y
    return product, first, second


@njit(inline="never", error_model="numpy", fastmath={"reassoc"})
def norms_of(base: Any, one: Any, kept: Any) -> Any:
    """Sums of |one - base| and |kept|."""
    before, after = 0.0, 0.0
    for i in range(len(kept)):
        before += np.float64(abs(FLOAT(widen(one[i]) - widen(base[i]))))
        after += np.float64(abs(kept[i]))
    return before, after
