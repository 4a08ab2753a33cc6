"""The n-th largest magnitude of many differences, exactly, in about one pass and without sorting.

A sample says between which magnitudes the n-th lies; one pass counts what is above and collects what is between. Where the
sample was wrong, or too many lie between, the bounds move and the pass is made again: the result does not depend on the sample.
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# numba and Triton compile these functions from their source; they have no types of Python's.

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vlmerge.methods.kernels import cpu

SAMPLE = 1 << 16
"""Differences that are looked at beforehand."""
DEVIATIONS = 5
"""Standard deviations of a sample's rank that the bounds lie away."""
PART = 1 << 21
"""Elements of which one thread collects in order."""
GREATEST = 0x7FFFFFFF
"""Bits of the greatest NaN: no magnitude is above, not even of what is no number."""


def nth_largest(base: Any, one: Any, count: int) -> tuple[int, int]:
    """Bits of the `count`-th largest |one - base|, and its index: of equal ones the first counts as the largest.

    Args:
        base, one: Flat arrays of one length, as the kernels take them.
        count: 1 to their length.
    """
    least, most = 0, GREATEST
    low, high, expected = _guess(base, one, count)
    parts = max(1, math.ceil(len(one) / PART))
    while True:
        room = min(PART, 2 * math.ceil(expected / parts) + 4096) if low < high else 1
        sizes, places = np.empty((parts, room), np.uint32), np.empty((parts, room), np.int64)
        counts = np.empty(parts, np.int64)
        above = int(cpu.between(base, one, np.uint32(low), np.uint32(high), sizes, places, counts))
        near = int(counts.sum())
        if count <= above:
            least = low = high + 1
            high = most
        elif count > above + near:
            most = high = low - 1
            low = least
        elif low == high:
            return low, _index_of(base, one, low, counts, count - above)
        elif counts.max() <= room:
            found = np.concatenate([sizes[part, : counts[part]] for part in range(parts)])
            where = np.concatenate([places[part, : counts[part]] for part in range(parts)])
            return _pick(found, where, count - above)
        else:
            least, most = low, high
            low = (low + high) // 2 + 1
        expected = near / 2


def _guess(base: Any, one: Any, count: int) -> tuple[int, int, float]:
    """Bounds that the n-th very likely lies between, and about how many lie there."""
    step = max(1, len(one) // SAMPLE)
    total = len(range(0, len(one), step))
    bits = np.empty(total, np.uint32)
    cpu.magnitudes(np.ascontiguousarray(base[::step]), np.ascontiguousarray(one[::step]), bits)
    bits.sort()
    share = count / len(one)
    slack = DEVIATIONS * math.sqrt(total * share * (1 - share)) + 2
    first, last = total - share * total - slack, total - share * total + slack
    low = 0 if first < 0 else int(bits[int(first)])
    high = GREATEST if last >= total else int(bits[int(last)])
    return low, high, 2 * slack * step


def _pick(sizes: Any, places: Any, count: int) -> tuple[int, int]:
    """The `count`-th largest of what was collected, which is in the order of the indices."""
    threshold = np.partition(sizes, len(sizes) - count)[len(sizes) - count]
    equal = count - int((sizes > threshold).sum())
    return int(threshold), int(places[sizes == threshold][equal - 1])


def _index_of(base: Any, one: Any, bits: int, counts: Any, number: int) -> int:
    """Index of the number-th difference of exactly this magnitude, from their counts part by part."""
    before = np.cumsum(counts)
    part = int(np.searchsorted(before, number))
    rest = number - int(before[part] - counts[part])
    step = cpu.step_of(len(one), len(counts))
    start = part * step
    end = min(len(one), start + step)
    own = np.empty(end - start, np.uint32)
    cpu.magnitudes(base[start:end], one[start:end], own)
    return start + int(np.flatnonzero(own == bits)[rest - 1])
