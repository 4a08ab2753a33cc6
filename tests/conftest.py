"""What every test stands on: no network, no caches of the person at the keyboard, few threads, no window.

The environment is set before any library is imported (huggingface_hub reads its variables at import), and processes that
tests start inherit it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

_TESTS = Path(__file__).parent
_PARALLEL = "PYTEST_XDIST_WORKER" in os.environ
"""One of several processes, each on a core of its own; they share one cache."""
_KERNELS = Path(__file__).parents[1] / ".pytest_cache" / "kernels"
"""Compiled kernels, which take minutes to compile: kept from one test run to the next, by their source."""
_LONG_FIRST = (
    "evolve/test_evolve.py",
    "evolve/test_killed.py",
    "evolve/test_what_a_run_refuses.py",
    "merge/test_refusals.py",
    "evolve/test_aims.py",
    "evolve/test_path_runs.py",
    "evolve/test_races.py",
    "project/test_api.py",
    "project/test_docs.py",
    "families/test_every_family.py",
    "families/test_answers.py",
    "evolve/test_searches.py",
    "parity/test_mergekit.py",
)
"""Files that take longest. They begin before all others, so that no core waits at the end for one that began late."""
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
# Processes that tests start would otherwise compile all of vlmerge's sources anew, each of them.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
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
    """Puts long files first; skips what needs a GPU where there is none."""
    long_first = {_TESTS / name: place for place, name in enumerate(_LONG_FIRST)}
    items.sort(key=lambda item: long_first.get(item.path, len(long_first)))
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
