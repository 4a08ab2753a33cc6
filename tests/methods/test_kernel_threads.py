"""Kernels run on torch's threads, and leave torch as many as it had."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import torch
from vlmerge.methods.kernels import arrays_of, kernels
from vlmerge.methods.sums import Terms

torch.set_num_threads({threads})
one, two = torch.ones(5000), torch.ones(5000)
terms = Terms(None, (one, two), (0.5, 0.5), 1.0)
out = torch.empty(5000)
compiled = kernels(out)
assert compiled is not None
assert compiled.add_up(arrays_of(one, two), terms, arrays_of(out)[0])
assert torch.equal(out, one)

from numba import get_num_threads
print(torch.get_num_threads(), get_num_threads())
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_keeps_its_number_of_threads(threads: int) -> None:
    """numba, in starting, sets OpenMP's: a run on one thread would answer on all, and each wait for the other."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | {"NUMBA_NUM_THREADS": "3"}
    command = [sys.executable, "-c", PROGRAM.format(threads=threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(threads)] * 2
