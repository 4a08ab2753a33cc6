"""What every test stands on: no network, no caches of the person at the keyboard, few threads, no window.

The environment is set before any library is imported (huggingface_hub reads its variables at import), and processes that
tests start inherit it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

_SCRATCH = Path(tempfile.mkdtemp(prefix="vlmerge-tests-"))

os.environ.update(
    HF_HOME=str(_SCRATCH / "huggingface"),
    VLMERGE_CACHE=str(_SCRATCH / "vlmerge"),
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    MPLBACKEND="Agg",
    TOKENIZERS_PARALLELISM="false",
)
for _variable in ("HF_TOKEN", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_DATASETS_CACHE"):
    os.environ.pop(_variable, None)
if "PYTEST_XDIST_WORKER" in os.environ:  # One of several, each on a core of its own.
    os.environ["OMP_NUM_THREADS"] = "1"
else:
    os.environ.setdefault("OMP_NUM_THREADS", "2")

# Time limits per example say more about the machine than about the code; in CI the same examples are drawn every time.
settings.register_profile("vlmerge", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("vlmerge")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a GPU where there is none."""
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU, and this machine has none"))


def pytest_unconfigure() -> None:
    """Removes the caches that the tests wrote."""
    shutil.rmtree(_SCRATCH, ignore_errors=True)
