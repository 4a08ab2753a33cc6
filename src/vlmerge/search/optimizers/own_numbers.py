"""Random numbers of one's own for packages that draw from numpy's global generator."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Generator
from typing import Any

import numpy as np


class OwnNumbers:
    """A state of the global generators that is there inside `with own():` only; outside, nothing has happened.

    Args:
        seed: Of both generators at first. None: numpy's is left for the package to seed, when it is first used.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._numpy: Any = None if seed is None else np.random.RandomState(seed).get_state()
        self._python: Any = random.Random(0 if seed is None else seed).getstate()

    @contextlib.contextmanager
    def __call__(self) -> Generator[None]:
        """Inside, the generators have this object's state, and warnings are ignored."""
        numpys, pythons = np.random.get_state(), random.getstate()
        if self._numpy is not None:
            np.random.set_state(self._numpy)
        random.setstate(self._python)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            self._numpy, self._python = np.random.get_state(), random.getstate()
            np.random.set_state(numpys)
            random.setstate(pythons)
