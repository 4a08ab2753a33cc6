"""Many tensors in one launch of a GPU's kernel, interpreted on the CPU: bit for bit what the CPU's kernels give."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed here")
@pytest.mark.slow
def test_launches_give_the_cpus_bits_and_flag_what_is_not_finite() -> None:
    command = [sys.executable, str(Path(__file__).with_name("launches_run.py"))]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert all(found["same"].values()), [name for name, same in found["same"].items() if not same]
    assert found["flags"] == [1, 0]
