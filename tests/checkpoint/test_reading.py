"""Laws of reading: what is on disk comes out, mapped; what is damaged is refused before a weight is read."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from process_memory import anonymous_bytes

from vlmerge.checkpoint import Checkpoint, resolve
from vlmerge.checkpoint.dtypes import TORCH_NAMES
from vlmerge.config.model_ref import ModelRef
from vlmerge.errors import CheckpointError
from vlmerge.types import DTYPE_BYTES


def opened(folder: Path) -> Checkpoint:
    return resolve(ModelRef(str(folder)))


def refusal(folder: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        opened(folder)
    assert caught.value.where
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("build", [tiny.whole, tiny.in_shards, tiny.pickled])
def test_every_layout_gives_the_saved_tensors(tmp_path: Path, build):
    checkpoint = opened(build(tmp_path))
    expected = tiny.some_tensors()
    assert set(checkpoint.tensors) == set(expected)
    for name, tensor in expected.items():
        assert tiny.same(checkpoint.read(name), tensor)
        assert checkpoint.tensors[name].shape == tuple(tensor.shape)
        assert checkpoint.tensors[name].dtype == "F16"
    assert checkpoint.config == tiny.CONFIG
    assert checkpoint.revision is None


def test_tensors_come_in_the_order_of_the_file_and_shards_by_name(tmp_path: Path):
    names = list(tiny.some_tensors())
    folder = tiny.in_shards(tmp_path, [names[3:], names[:3]])
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    tiny.write_index(folder, dict(reversed(index["weight_map"].items())))
    checkpoint = opened(folder)
    shards = [info.shard for info in checkpoint.tensors.values()]
    assert shards == sorted(shards)
    data = (tmp_path / "model-00002-of-00002.safetensors").read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    in_second = [name for name, info in checkpoint.tensors.items() if info.shard.startswith("model-00002")]
    assert b"".join(tiny.raw(checkpoint.read(name)) for name in in_second) == data[start:]


def test_every_type_is_read_and_its_size_known(tmp_path: Path):
    expected = {
        spelling: torch.arange(1, 7).to(getattr(torch, name)).reshape(2, 3) for spelling, name in TORCH_NAMES.items()
    } | {"scalar": torch.tensor(2.5), "empty": torch.empty(0, 4)}
    checkpoint = opened(tiny.whole(tmp_path, expected))
    for name, tensor in expected.items():
        assert tiny.same(checkpoint.read(name), tensor)
        assert checkpoint.tensors[name].bytes == tensor.numel() * tensor.element_size()
    assert set(TORCH_NAMES) == set(DTYPE_BYTES)


def test_reading_does_not_grow_anonymous_memory(tmp_path: Path):

    size = 64 << 20
    for build in (tiny.whole, tiny.pickled):
        checkpoint = opened(build(tmp_path / build.__name__, {"big": torch.ones(size, dtype=torch.uint8)}))
        checkpoint.read("big")[:10].sum()
        before = anonymous_bytes()
        tensor = checkpoint.read("big")
        assert int(tensor.numpy().max()) == 1
        assert anonymous_bytes() - before < size // 8


@given(cut=st.integers(0, 10_000))
def test_a_safetensors_file_cut_anywhere_is_refused(tmp_path_factory, cut):
    folder = tiny.whole(tmp_path_factory.mktemp("cut"))
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: cut % len(whole)])
    assert "model.safetensors" in refusal(folder).where
    shutil.rmtree(folder)


def _with_header(folder: Path, header: object, data: bytes = b"") -> Path:
    tiny.whole(folder)
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[1, 2]",
        b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}, "a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
        {"a": {"dtype": "F16", "shape": [2]}},
        {"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 2]}},
        {"a": {"dtype": "F16", "shape": [-2, -1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]}},
        {
            "a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
            "b": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]},
        },
        {"a": {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}},
        {"a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}},
        {"a": {"dtype": "U8", "shape": [5], "data_offsets": [0, 5]}},
    ],
    ids=["garbage", "list", "twin", "no offsets", "size", "negative", "hole", "overlap", "dtype", "trailing", "short"],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header):
    refusal(_with_header(tmp_path, header, b"\0" * 4))


def test_an_lfs_pointer_is_named_as_what_it_is(tmp_path: Path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 13\n"
    (tiny.whole(tmp_path / "a") / "model.safetensors").write_bytes(pointer)
    (tiny.pickled(tmp_path / "b") / "pytorch_model.bin").write_bytes(pointer)
    assert "git lfs pull" in refusal(tmp_path / "a").remedy
    assert "git lfs pull" in refusal(tmp_path / "b").remedy


def test_what_is_missing_is_named(tmp_path: Path):
    assert "no config.json" in str(refusal(tmp_path))
    folder = tiny.in_shards(tmp_path / "a")
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in refusal(folder).found
    (folder / "model.safetensors.index.json").unlink()
    assert "index" in refusal(folder).remedy
    folder = tiny.whole(tmp_path / "b")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    assert "LoRA" in refusal(folder).remedy
    (folder / "config.json").write_text("{]")
    assert "config.json" in refusal(folder).where
    with pytest.raises(CheckpointError, match="no such folder"):
        opened(tmp_path / "nowhere")


def test_index_and_shards_must_agree(tmp_path: Path):
    folder = tiny.in_shards(tmp_path)
    names = list(tiny.some_tensors())
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    right = dict.fromkeys(names[:2], first) | dict.fromkeys(names[2:], second)
    tiny.write_index(folder, right)
    opened(folder)
    for wrong, word in [
        (right | {"ghost": first}, "ghost"),
        ({name: shard for name, shard in right.items() if name != names[0]}, names[0]),
        (right | {names[0]: second}, names[0]),
    ]:
        tiny.write_index(folder, wrong)
        assert word in refusal(folder).found


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path):
    names = list(tiny.some_tensors())
    error = refusal(tiny.in_shards(tmp_path, [names, names[:1]]))
    assert names[0] in error.where


@pytest.mark.parametrize(
    "shard", ["../model.safetensors", "/etc/model.safetensors", "a/b.safetensors", "x.bin", "..safetensors", 7]
)
def test_an_index_cannot_point_out_of_its_folder(tmp_path: Path, shard):
    folder = tiny.in_shards(tmp_path)
    tiny.write_index(folder, {"a": shard})
    assert "weight_map" in refusal(folder).expected


def test_safetensors_are_preferred_to_pickles(tmp_path: Path):
    tiny.pickled(tmp_path, tiny.some_tensors(seed=2))
    (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
    tiny.whole(tmp_path)
    checkpoint = opened(tmp_path)
    assert checkpoint.weights_format == "safetensors"
    assert tiny.same(checkpoint.read("lm_head.weight"), tiny.some_tensors()["lm_head.weight"])


def test_a_folder_has_no_revision(tmp_path: Path):
    tiny.whole(tmp_path)
    with pytest.raises(CheckpointError, match="no revisions"):
        resolve(ModelRef(str(tmp_path), "main"))


def test_importing_the_package_imports_no_torch():
    import subprocess
    import sys

    code = "import sys, vlmerge.checkpoint; sys.exit(any(name in sys.modules for name in sys.argv[1:]))"
    assert subprocess.run([sys.executable, "-c", code, "torch", "huggingface_hub", "transformers"], check=False).returncode == 0
