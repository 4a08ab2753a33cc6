"""The CPU kernels as the methods call them: numbers in the types that the kernels were compiled for."""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# numba and Triton compile these functions from their source; they have no types of Python's.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import config as numba_config
from numba import get_num_threads, set_num_threads

from vlmerge.methods.kernels import cpu

if TYPE_CHECKING:
    from vlmerge.methods.sums import Terms


class Compiled:
    """Kernels on as many threads as torch uses."""

    def add_up(self, arrays: tuple[Any, ...], terms: Terms, out: Any) -> bool:
        """A sum over arrays (the base first, if there is one); gives whether the results are finite."""
        self._use_torchs_threads()
        weights = np.array(terms.weights, np.float32)
        if terms.base is None:
            return cpu.sum_up(arrays, weights, np.float32(terms.divisor), out) == 0
        numbers = (np.float32(terms.divisor), np.float32(terms.scale))
        return cpu.add_tasks(arrays[0], arrays[1:], weights, *numbers, out) == 0

    def moments(self, one: Any, two: Any) -> tuple[float, float, float]:
        """Sums of x·y, x·x and y·y."""
        self._use_torchs_threads()
        return cpu.moments(one, two)

    def _use_torchs_threads(self) -> None:
        threads = min(torch.get_num_threads(), int(numba_config.NUMBA_NUM_THREADS))
        if threads != get_num_threads():
            set_num_threads(threads)
