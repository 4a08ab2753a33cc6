"""The fast path of a GPU, its kernels interpreted on the CPU: the plain path's answers, token for token."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vlmerge.runtime.decode import Row
from vlmerge.runtime.fused import fuse
from vlmerge.runtime.fused.prompts import lay_out, pack, portions

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed here")


@pytest.fixture(scope="module")
def compared() -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("fused_run.py"))]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "shared keys", "biases"])
def test_the_fused_decoder_gives_the_plain_ones_answers(kind: str, compared: dict[str, Any]) -> None:
    found = compared[kind]
    lengths = found.pop("lengths")
    assert all(found.values()), found
    assert len(lengths) > 1, "no row left the batch early, so that the test would show nothing of it"


@needs_triton
@pytest.mark.slow
def test_a_decoder_of_another_shape_is_left_to_the_plain_path(compared: dict[str, Any]) -> None:
    assert compared["refused"] == "the fast path does not know the activation gelu"


@pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="Triton is installed here")
def test_without_triton_the_plain_path_is_taken_and_says_why() -> None:
    assert fuse(None) == (None, "Triton is not installed")  # type: ignore[arg-type]


def test_a_batch_is_laid_out_without_overlap() -> None:
    """Every cell belongs to one sequence or one row's room; a row sees its prompt and nothing of others."""
    rows = [Row(0, (1, 2)), Row(1, (3,)), Row(0, (8,)), Row(None, (4, 5, 6)), Row(2, (7,))]
    layout = lay_out([10, 5, 3], rows, room=4)
    taken = [cell for each in (*layout.first, *layout.second) for cell in range(each.start, each.start + each.length)]
    for _, _, own, used in layout.spans:
        taken += range(own + used, own + used + 4)
    taken += range(layout.spare, layout.spare + 4)
    assert sorted(taken) == list(range(layout.cells))
    # Two rows share prefix 0, which is read once; the others are read whole.
    assert [(each.prefix, each.row) for each in layout.first] == [(0, None), (1, 1), (None, 3), (2, 4)]
    assert [(each.row, each.before) for each in layout.second] == [(0, (0, 10)), (2, (0, 10))]
    assert layout.spans[0][:2] == layout.spans[2][:2] == (0, 10)
    packed = pack(layout.first, tile=4, device=torch.device("cpu"))
    assert packed.positions.tolist() == [*range(10), *range(6), *range(3), *range(4)]
    assert packed.last.tolist() == [15, 18, 22]
    assert packed.blocks.count.sum() == len(packed.positions)


def test_prompts_are_read_in_portions_of_whole_sequences() -> None:
    rows = [Row(None, (0,) * length) for length in (99, 5, 7, 300, 2)]
    layout = lay_out([], rows, room=1)
    assert [[each.row for each in portion] for portion in portions(layout.first, 100)] == [[0], [1, 2], [3], [4]]
