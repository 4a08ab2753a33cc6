"""The n-th largest magnitude of many differences, exactly, in about one pass and without sorting.

A sample says between which magnitudes the n-th lies; one pass counts what is above and collects what is between. Where one
magnitude is frequent about there, as between 16-bit weights, it is tried alone before: then there is nothing to collect. Where
the sample was wrong, or too many lie between, the bounds move and the pass is made again: the result does not depend on it.
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
WORTH_TRYING = 0.25
"""Probability from which a magnitude is tried alone: that costs a fifth of a pass that collects."""
PART = 1 << 19
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
    tries, expected = _guess(base, one, count)
    parts = max(1, math.ceil(len(one) / PART))
    while True:
        low, high = tries.pop(0) if tries else (least, most)
        low, high = max(low, least), min(high, most)
        if low > high:
            continue
        room = min(PART, 2 * math.ceil(expected / parts) + 4096) if low < high else 1
        sizes, places = np.empty((parts, room), np.uint32), np.empty((parts, room), np.int64)
        counts = np.empty(parts, np.int64)
        above = int(cpu.between(base, one, np.uint32(low), np.uint32(high), sizes, places, counts))
        near = int(counts.sum())
        if count <= above:
            least = high + 1
        elif count > above + near:
            most = low - 1
        elif low == high:
            return low, _index_of(base, one, low, counts, count - above)
        elif counts.max() <= room:
            found = np.concatenate([sizes[part, : counts[part]] for part in range(parts)])
            where = np.concatenate([places[part, : counts[part]] for part in range(parts)])
            return _pick(found, where, count - above)
        else:
            least, most, expected = low, high, near / 2
            tries = [((low + high) // 2 + 1, high)]


def _guess(base: Any, one: Any, count: int) -> tuple[list[tuple[int, int]], float]:
    """Bounds that the n-th very likely lies between, before them magnitudes that it may well be; about how many lie there."""
    step = max(1, len(one) // SAMPLE)
    total = len(range(0, len(one), step))
    bits = np.empty(total, np.uint32)
    cpu.magnitudes(np.ascontiguousarray(base[::step]), np.ascontiguousarray(one[::step]), bits)
    bits.sort()
    share = count / len(one)
    middle, deviation = total - share * total, math.sqrt(total * share * (1 - share))
    slack = DEVIATIONS * deviation + 2
    first, last = max(0, int(middle - slack)), min(total, int(middle + slack) + 1)
    low = 0 if middle - slack < 0 else int(bits[first])
    high = GREATEST if middle + slack >= total else int(bits[last - 1])
    values, starts = np.unique(bits[first:last], return_index=True)
    ends = np.append(starts[1:], last - first)
    # The sample's rank of the n-th is about normal: how much of that lies within each magnitude's own ranks.
    edges = (np.stack([starts, ends]) + (first - middle)) / max(deviation * math.sqrt(2), 1e-9)
    chances = np.diff([[math.erf(edge) / 2 for edge in row] for row in edges], axis=0)[0]
    alone = [int(values[place]) for place in np.argsort(-chances)[:2] if chances[place] > WORTH_TRYING]
    return [*((each, each) for each in alone), (low, high)], 2 * slack * step


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
