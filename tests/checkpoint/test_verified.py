"""What a disk lost, or put elsewhere, is found before the folder gets its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.checkpoint import write_checkpoint
from vlmerge.checkpoint.dtypes import SAFETENSORS_NAMES
from vlmerge.checkpoint.verified import EDGE, marks_of, verify
from vlmerge.errors import CheckpointError
from vlmerge.types import TensorInfo

Write = Callable[[int, memoryview, int], int]
TENSORS = tiny.some_tensors() | {"long": torch.arange(1, 5001, dtype=torch.float32)}
INFOS = [TensorInfo(name, SAFETENSORS_NAMES[str(each.dtype)], tuple(each.shape), "") for name, each in TENSORS.items()]


def write(out: Path, **more: object):
    return write_checkpoint(out, INFOS, TENSORS.items(), config=tiny.CONFIG, side_files={}, texts={}, **more)


@pytest.mark.parametrize("limit", [10**9, 200])
def test_what_was_written_is_counted(tmp_path: Path, limit: int):
    verified = write(tmp_path / "out", max_shard_bytes=limit)
    assert verified.tensors == len(TENSORS)
    assert verified.bytes == sum(info.bytes for info in INFOS)
    assert verified.files == len(list((tmp_path / "out").glob("*.safetensors")))
    assert 0 < verified.seconds < 10


def lost(real: Write, size: int) -> Write:
    """A disk that takes what has this size, and keeps nothing of it."""
    return lambda file, data, place: data.nbytes if data.nbytes == size else real(file, data, place)


def moved(real: Write, size: int) -> Write:
    """One that puts it a few bytes too early."""
    return lambda file, data, place: real(file, data, place - 8 if data.nbytes == size else place)


def cut(real: Write, size: int) -> Write:
    """One whose file ends too early."""

    def write(file: int, data: memoryview, place: int) -> int:
        done = real(file, data, place)
        if data.nbytes == size:
            os.ftruncate(file, place + size - 1)
        return done

    return write


def flipped(real: Write, size: int) -> Write:
    """One that changes a bit at the very end."""

    def write(file: int, data: memoryview, place: int) -> int:
        if data.nbytes != size:
            return real(file, data, place)
        changed = bytearray(data)
        changed[-1] ^= 1
        return real(file, memoryview(changed), place)

    return write


@pytest.mark.parametrize("fault", [lost, moved, cut, flipped])
@pytest.mark.parametrize("name", ["long", "model.norm.weight"])
def test_a_disk_that_lies_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault, name: str):
    monkeypatch.setattr(os, "pwrite", fault(os.pwrite, next(info.bytes for info in INFOS if info.name == name)))
    with pytest.raises(CheckpointError, match="not what was written"):
        write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_header_that_did_not_arrive_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: real(file, data, place) if place else data.nbytes)
    with pytest.raises(CheckpointError, match="not what was written") as caught:
        write(tmp_path / "out")
    assert caught.value.found
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_is_gone_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real, seen = os.fsync, []

    def forgetful(file: int) -> None:
        real(file)
        seen.append(file)
        if len(seen) == 2:
            Path(f"/proc/self/fd/{file}").readlink().unlink()

    monkeypatch.setattr(os, "fsync", forgetful)
    with pytest.raises(CheckpointError, match="not what was written") as caught:
        write(tmp_path / "out", max_shard_bytes=200)
    assert "all but" in caught.value.found
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_what_was_announced_and_nothing_else(tmp_path: Path):
    out = tmp_path / "out"
    write(out)
    assert verify(out, out, INFOS, [], tiny.CONFIG).tensors == len(INFOS)
    other = replace(INFOS[0], shape=(*INFOS[0].shape, 1))
    for announced, config in [
        (INFOS[1:], tiny.CONFIG),
        ([*INFOS, TensorInfo("more", "F32", (1,), "")], tiny.CONFIG),
        ([other, *INFOS[1:]], tiny.CONFIG),
        ([replace(INFOS[0], dtype="BF16"), *INFOS[1:]], tiny.CONFIG),
        (INFOS, tiny.CONFIG | {"hidden_size": 9}),
    ]:
        with pytest.raises(CheckpointError, match="not what was written"):
            verify(out, out, announced, [], config)


@given(data=st.binary(max_size=3 * EDGE))
def test_marks_are_both_ends(data: bytes):
    marks = marks_of("file", 100, memoryview(data), "t")
    assert all(data[mark.place - 100 :][: len(mark.data)] == mark.data for mark in marks)
    assert {place for mark in marks for place in range(mark.place, mark.place + len(mark.data))} >= {
        100 + place for place in range(len(data)) if place < EDGE or place >= len(data) - EDGE
    }
