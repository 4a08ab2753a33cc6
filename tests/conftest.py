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

_PARALLEL = "PYTEST_XDIST_WORKER" in os.environ
"""One of several processes, each on a core of its own; they share one cache."""
_KERNELS = Path(__file__).parents[1] / ".pytest_cache" / "kernels"
"""Compiled kernels, which take minutes to compile: kept from one test run to the next, by their source."""
_SCRATCH = Path(tempfile.mkdtemp(prefix="vlmerge-tests-"))

os.environ.update(
    HF_HOME=str(_SCRATCH / "huggingface"),
    VLMERGE_CACHE=os.environ["VLMERGE_CACHE"] if _PARALLEL else str(_SCRATCH / "vlmerge"),
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    MPLBACKEND="Agg",
    TOKENIZERS_PARALLELISM="false",
)
if not _PARALLEL:
    _KERNELS.mkdir(parents=True, exist_ok=True)
    (_SCRATCH / "vlmerge").mkdir()
    (_SCRATCH / "vlmerge" / "kernels").symlink_to(_KERNELS)
for _variable in ("HF_TOKEN", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_DATASETS_CACHE"):
    os.environ.pop(_variable, None)
if _PARALLEL:
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
