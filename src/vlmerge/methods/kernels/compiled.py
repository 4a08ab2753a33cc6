"""The CPU kernels as the methods call them: numbers in the types that the kernels were compiled for."""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# numba and Triton compile these functions from their source; they have no types of Python's.

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import config as numba_config
from numba import get_num_threads, set_num_threads

from vlmerge.methods.kernels.kept import kept_on_disk

with kept_on_disk():
    from vlmerge.methods.kernels import cpu
    from vlmerge.methods.kernels.select import nth_largest

if TYPE_CHECKING:
    from vlmerge.methods.differences import Choice
    from vlmerge.methods.sparse import ChosenTerms
    from vlmerge.methods.sums import Terms

KINDS = {"all": cpu.ALL, "largest": cpu.LARGEST, "drawn": cpu.DRAWN, "band": cpu.BAND}


class Compiled:
    """Kernels on as many threads as torch uses. Arrays are as `arrays_of` gives them."""

    def add_up(self, arrays: tuple[Any, ...], terms: Terms, out: Any) -> bool:
        """A sum over arrays (the base first, if there is one); gives whether the results are finite."""
        _use_torchs_threads()
        weights = np.array(terms.weights, np.float32)
        if terms.base is None:
            return cpu.sum_up(arrays[0], _addresses(arrays[1:]), weights, np.float32(terms.divisor), out) == 0
        numbers = (np.float32(terms.divisor), np.float32(terms.scale))
        return cpu.add_tasks(arrays[0], _addresses(arrays[1:]), weights, *numbers, out) == 0

    def add_chosen(self, arrays: tuple[Any, ...], terms: ChosenTerms, out: Any) -> bool:
        """A sum of chosen differences, the base's array first; gives whether the results are finite."""
        _use_torchs_threads()
        choices = terms.choices
        bad = cpu.add_chosen(
            arrays[0],
            _addresses(arrays[1:]),
            np.array(terms.weights, np.float32),
            np.array(terms.factors, np.float32),
            np.array([KINDS[choice.kind] for choice in choices], np.int64),
            np.array([(choice.threshold, choice.top) for choice in choices], np.uint32),
            np.array([(choice.last, choice.top_last) for choice in choices], np.int64),
            np.array([choice.chance for choice in choices], np.uint32),
            np.array([choice.key for choice in choices], np.uint32),
            terms.elect,
            terms.share,
            np.float32(terms.divisor),
            np.float32(terms.scale),
            terms.start,
            out,
        )
        return bad == 0

    def moments(self, one: Any, two: Any) -> tuple[float, float, float]:
        """Sums of x·y, x·x and y·y."""
        _use_torchs_threads()
        return cpu.moments(one, two)

    def norms(self, arrays: tuple[Any, ...], choice: Choice) -> tuple[float, float]:
        """Base and source: sums of magnitudes of all differences, and of those that are kept."""
        _use_torchs_threads()
        key = np.array(choice.key, np.uint32)
        thresholds = np.array((choice.threshold, choice.top), np.uint32)
        lasts = np.array((choice.last, choice.top_last), np.int64)
        return cpu.norms(*arrays, KINDS[choice.kind], thresholds, lasts, np.uint32(choice.chance), key)

    def largest(self, arrays: tuple[Any, ...], count: int) -> tuple[int, int]:
        """Base and source: bits of the `count`-th largest magnitude, and the index of the last one that is kept at it."""
        _use_torchs_threads()
        return nth_largest(*arrays, count)


def _addresses(arrays: Sequence[Any]) -> Any:
    """Where they begin; whoever calls a kernel holds the arrays until it returns."""
    return np.array([array.ctypes.data for array in arrays], np.uint64)


def _use_torchs_threads() -> None:
    wanted = torch.get_num_threads()
    threads = min(wanted, int(numba_config.NUMBA_NUM_THREADS))
    if threads != get_num_threads():
        set_num_threads(threads)
    # When numba starts its threads, which it does here once, it sets how many OpenMP has: torch's, too.
    if torch.get_num_threads() != wanted:
        torch.set_num_threads(wanted)
