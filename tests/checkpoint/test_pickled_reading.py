"""Promise 7: a `.bin` gives its tensors or is refused, and nothing in it is ever executed."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import torch

from vlmerge.checkpoint import Checkpoint, resolve
from vlmerge.config.model_ref import ModelRef
from vlmerge.errors import CheckpointError


def opened(folder: Path) -> Checkpoint:
    return resolve(ModelRef(str(folder)))


class Hostile:
    """Unpickled by the full unpickler, this makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("old", [False, True])
def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path: Path, old):
    trap = tmp_path / "trap"
    folder = tiny.pickled(tmp_path / "model", {"weight": torch.ones(2), "evil": Hostile(trap)}, old=old)
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert trap.exists(), "the payload does not work, so the test would show nothing"
    trap.unlink()
    with pytest.raises(CheckpointError, match="nothing from the file was executed") as caught:
        opened(folder)
    assert "pytorch_model.bin" in caught.value.where
    assert not trap.exists()
    # torch's own message goes on to say how to load the file all the same.
    assert "weights_only=False" not in str(caught.value)
    assert "likely succeed" not in str(caught.value)


def test_a_bare_hostile_pickle_is_refused_and_does_not_run(tmp_path: Path):
    trap = tmp_path / "trap"
    folder = tiny.pickled(tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Hostile(trap)))
    with pytest.raises(CheckpointError, match="nothing from the file was executed"):
        opened(folder)
    assert not trap.exists()


@pytest.mark.parametrize("old", [False, True])
def test_tied_and_viewed_tensors_come_out_as_themselves(tmp_path: Path, old):
    storage = torch.arange(24, dtype=torch.float32)
    tensors = {
        "embed": storage.reshape(6, 4),
        "head": storage.reshape(6, 4),
        "slice": storage[4:12].reshape(2, 4),
        "transposed": storage.reshape(6, 4).t(),
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "scalar": torch.tensor(7, dtype=torch.int64),
    }
    checkpoint = opened(tiny.pickled(tmp_path, tensors, old=old))
    assert list(checkpoint.tensors) == list(tensors)
    for name, tensor in tensors.items():
        got = checkpoint.read(name)
        assert got.is_contiguous()
        assert not got.requires_grad
        assert tiny.same(got, tensor.detach())


def test_shards_in_old_format_are_read_in_any_order(tmp_path: Path):
    tensors = tiny.some_tensors()
    names = list(tensors)
    folder = tiny.pickled(tmp_path)
    (folder / "pytorch_model.bin").unlink()
    weight_map = {}
    for number, (group, old) in enumerate([(names[:2], True), (names[2:4], False), (names[4:], True)], 1):
        shard = f"pytorch_model-{number:05d}-of-00003.bin"
        torch.save({name: tensors[name] for name in group}, folder / shard, _use_new_zipfile_serialization=not old)
        weight_map |= dict.fromkeys(group, shard)
    tiny.write_index(folder, weight_map, "pytorch_model.bin.index.json")
    checkpoint = opened(folder)
    assert checkpoint.weights_format == "bin"
    assert list(checkpoint.tensors) == names
    for name in reversed(names):
        assert tiny.same(checkpoint.read(name), tensors[name])


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("keep", [0, 3, 0.4, 0.95])
def test_a_bin_cut_short_is_refused(tmp_path: Path, keep, old):
    folder = tiny.pickled(tmp_path, old=old)
    file = folder / "pytorch_model.bin"
    data = file.read_bytes()
    file.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(CheckpointError) as caught:
        opened(folder)
    assert caught.value.remedy


@pytest.mark.parametrize("content", [{"a": 1}, {"model": {"a": torch.ones(1)}}, [torch.ones(1)], {3: torch.ones(1)}, {}])
def test_what_is_no_dictionary_of_tensors_is_refused(tmp_path: Path, content):
    folder = tiny.pickled(tmp_path)
    torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError):
        opened(folder)


def test_a_type_without_a_spelling_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="data type"):
        opened(tiny.pickled(tmp_path, {"wave": torch.ones(2, dtype=torch.complex64)}))


def test_another_zip_is_refused(tmp_path: Path):
    folder = tiny.pickled(tmp_path)
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("hello", "world")
    with pytest.raises(CheckpointError):
        opened(folder)
