"""Which differences from the base a source keeps: all of them, the largest, or some drawn at random; and what that costs.

Magnitudes are those of float32 differences; of equal ones the first in the tensor are kept.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch

from vlmerge.methods.kernels import arrays_of, kernels
from vlmerge.methods.remembered import forget_eldest
from vlmerge.methods.scratch import work_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.scratch import Scratch

LOTS = 1 << 24
"""Values that a lot can have."""
NO_TOP = 0xFFFFFFFF
"""Above the bits of every magnitude."""
Key = tuple[int, int]


@dataclass(frozen=True)
class Choice:
    """What a source keeps of one tensor.

    Attributes:
        kind: `all`; `largest`: magnitudes above a threshold, and those at it up to an index; `band`: the same but for the
            largest of all; `drawn`: lots below a chance; `ranked`: the chance grows with the magnitude's rank in its row.
        threshold: Bits of the smallest magnitude that is kept.
        last: Index of the last one that is kept among those at the threshold.
        top: Of a band: bits of the smallest magnitude that is too large.
        top_last: Index of the last one that is too large among those at `top`.
        chance: Of LOTS; the smallest of a row's, if ranked.
        most: The largest of a row's chances.
        key: Two words that the lots come from.
        stays: Which are kept, if ranked: bool, one for each element of the tensor.
    """

    kind: Literal["all", "largest", "band", "drawn", "ranked"]
    threshold: int = 0
    last: int = 0
    top: int = NO_TOP
    top_last: int = -1
    chance: int = 0
    most: int = 0
    key: Key = (0, 0)
    stays: Tensor | None = field(default=None, compare=False, repr=False)


ALL = Choice("all")


def drawn(density: float, key: Key) -> Choice:
    """Each difference with the probability `density`, on its own."""
    return Choice("drawn", chance=round(density * LOTS), key=key)


@lru_cache(maxsize=1 << 16)
def key_of(seed: int, source: str, role: str) -> Key:
    """The key of a source's lots for one tensor: the same on every device, in every order of tensors and sources."""
    digest = hashlib.blake2b(f"{seed}\0{source}\0{role}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


REMEMBERED = 64
"""Choices that are remembered for one tensor: with densities as genes every candidate has others."""


class Differences:
    """What was found out about one tensor's differences; thresholds do not depend on weights, so that a run asks once.

    Attributes:
        on_device: Where merges of many tensors in one launch keep thresholds and norms: (what, source, …) → (generation, row).
        highs: Source → counters of upper digits, on the device.
    """

    def __init__(self) -> None:
        self._largest: dict[tuple[int, int], Choice] = {}
        self._shares: dict[tuple[int, Choice], float] = {}
        self.on_device: dict[tuple[object, ...], tuple[int, int]] = {}
        self.highs: dict[int, Tensor] = {}

    def largest(self, source: int, one: Tensor, base: Tensor, count: int) -> Choice:
        """The `count` largest differences of the source of that number."""
        if (source, count) not in self._largest:
            forget_eldest(self._largest, REMEMBERED)
            self._largest[source, count] = largest(one, base, count)
        return self._largest[source, count]

    def band(self, source: int, one: Tensor, base: Tensor, top: int, count: int) -> Choice:
        """The `count` differences of the source that come after its `top` largest."""
        whole = self.largest(source, one, base, top + count)
        if top == 0:
            return whole
        above = self.largest(source, one, base, top)
        return replace(whole, kind="band", top=above.threshold, top_last=above.last)

    def rescaling(self, source: int, one: Tensor, base: Tensor, choice: Choice, scratch: Scratch) -> float:
        """Norm (sum of magnitudes) of all differences over that of those that are kept; 1 where either is below 1e-7."""
        if (source, choice) not in self._shares:
            forget_eldest(self._shares, REMEMBERED)
            before, after = norms(one, base, choice, scratch)
            self._shares[source, choice] = 1.0 if min(before, after) < NO_NORM else before / after
        return self._shares[source, choice]


NO_NORM = 1e-7
"""Norms below this do not rescale (mergekit's threshold)."""


def largest(one: Tensor, base: Tensor, count: int) -> Choice:
    """The `count` (1 to all) largest differences; flat tensors of one length."""
    if count >= len(one):
        return ALL
    compiled, arrays = kernels(one), arrays_of(base, one)
    if compiled is not None and arrays is not None:
        threshold, last = compiled.largest(arrays, count)
        return Choice("largest", threshold, last)
    sizes = magnitudes(one, base)
    threshold = int(sizes.kthvalue(len(one) - count + 1).values)
    equal = count - int((sizes > threshold).sum())
    return Choice("largest", threshold, int((sizes == threshold).nonzero()[equal - 1]))


def norms(one: Tensor, base: Tensor, choice: Choice, scratch: Scratch) -> tuple[float, float]:
    """Sums of magnitudes of all differences, and of those that are kept."""
    compiled, arrays = None if choice.kind == "ranked" else kernels(one), arrays_of(base, one)
    if compiled is not None and arrays is not None:
        return compiled.norms(arrays, choice)
    sums = torch.zeros(2, dtype=torch.float64, device=one.device)
    work = work_dtype(one.dtype, base.dtype)
    for span in scratch.spans(len(one)):
        difference = one[span].to(work) - base[span].to(work)
        sums[0] += difference.abs().double().sum()
        sums[1] += kept(difference, choice, span.start).abs().double().sum()
    before, after = sums.cpu().unbind()
    return float(before), float(after)


def magnitudes(one: Tensor, base: Tensor) -> Tensor:
    """Bits of the magnitudes of float32 differences, int32: ordered as the magnitudes are."""
    work = work_dtype(one.dtype, base.dtype)
    return (one.to(work) - base.to(work)).float().abs_().view(torch.int32)


def kept(difference: Tensor, choice: Choice, start: int) -> Tensor:
    """The differences that are kept, 0 elsewhere; `start` is the index of the first of them in the tensor."""
    if choice.kind == "all":
        return difference
    index = torch.arange(start, start + len(difference), device=difference.device)
    if choice.kind == "drawn":
        stays = lots(index, choice.key) < choice.chance
    elif choice.kind == "ranked":
        assert choice.stays is not None
        stays = choice.stays[start : start + len(difference)]
    else:
        sizes = difference.float().abs().view(torch.int32)
        stays = (sizes > choice.threshold) | ((sizes == choice.threshold) & (index <= choice.last))
        if choice.kind == "band":
            stays &= (sizes < choice.top) | ((sizes == choice.top) & (index > choice.top_last))
    return torch.where(stays, difference, 0.0)


def lots(index: Tensor, key: Key) -> Tensor:
    """A number below LOTS for each index (int64), from a counter and a key: three rounds of multiply and shift."""
    # int64 holds products of 32-bit words only modulo 2^64; the low 32 bits are what counts.
    word = 0xFFFFFFFF
    bits = (index * 0x9E3779B1 + key[0]) & word
    bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & word
    bits = ((bits ^ (bits >> 13)) * 0xC2B2AE35) & word
    bits = ((bits ^ (bits >> 16)) + key[1]) & word
    bits = ((bits ^ (bits >> 16)) * 0x7FEB352D) & word
    bits = ((bits ^ (bits >> 15)) * 0x846CA68B) & word
    return (bits ^ (bits >> 16)) >> 8
