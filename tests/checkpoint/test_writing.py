"""Laws of writing: what was given comes back, the same bytes every time, and nothing half-done looks finished (promise 8)."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints as tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from process_memory import anonymous_bytes
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vlmerge.checkpoint import open_checkpoint, resolve, write_checkpoint
from vlmerge.checkpoint.dtypes import SAFETENSORS_NAMES, TORCH_NAMES
from vlmerge.checkpoint.writer import plan_shards
from vlmerge.config.model_ref import ModelRef
from vlmerge.errors import CheckpointError
from vlmerge.types import TensorInfo

SRC = Path(__file__).parents[2] / "src"


def announced(tensors: Mapping[str, torch.Tensor]) -> list[TensorInfo]:
    return [TensorInfo(name, SAFETENSORS_NAMES[str(tensor.dtype)], tuple(tensor.shape), "") for name, tensor in tensors.items()]


def write(out: Path, tensors: Mapping[str, torch.Tensor], produce=None, **more) -> None:
    given_files = {"config": tiny.CONFIG, "side_files": {}, "texts": {}} | more
    write_checkpoint(out, announced(tensors), tensors.items() if produce is None else produce, **given_files)


def leftovers(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@st.composite
def some_tensors(draw) -> dict[str, torch.Tensor]:
    names = draw(st.lists(st.text("abcé.0重_", min_size=1, max_size=12), unique=True, min_size=1, max_size=8))
    tensors = {}
    for name in names:
        dtype = getattr(torch, draw(st.sampled_from(sorted(TORCH_NAMES.values()))))
        shape = draw(st.lists(st.integers(0, 5), max_size=3))
        size = torch.Size(shape).numel() * dtype.itemsize
        data = torch.frombuffer(bytearray(draw(st.binary(min_size=size, max_size=size)) or b"\0"), dtype=torch.uint8)[:size]
        if dtype == torch.bool:
            data = data & 1
        tensors[name] = data.clone().view(dtype).reshape(shape)
    return tensors


@settings(max_examples=30)  # Each example syncs files to the disk.
@given(tensors=some_tensors(), max_shard_bytes=st.sampled_from([1, 40, 10**9]))
def test_what_was_written_is_read(tmp_path_factory, tensors, max_shard_bytes):
    base = tmp_path_factory.mktemp("written")
    write(base / "out", tensors, max_shard_bytes=max_shard_bytes)
    checkpoint = resolve(ModelRef(str(base / "out")))
    assert set(checkpoint.tensors) == set(tensors)
    for info in announced(tensors):
        got = checkpoint.tensors[info.name]
        assert (got.dtype, got.shape) == (info.dtype, info.shape)
        assert tiny.same(checkpoint.read(info.name), tensors[info.name])
    for shard in (base / "out").glob("*.safetensors"):
        # The library's own reader accepts each file, and what it saves from the same tensors reads the same.
        again = load_file(shard)
        save_file(again, base / "again.safetensors", {"format": "pt"})
        with safe_open(shard, "pt") as ours, safe_open(base / "again.safetensors", "pt") as theirs:
            assert ours.metadata() == theirs.metadata() == {"format": "pt"}
            assert set(ours.keys()) == set(theirs.keys())
            assert all(tiny.same(ours.get_tensor(name), theirs.get_tensor(name)) for name in ours.keys())  # noqa: SIM118
    shutil.rmtree(base)


@given(tensors=some_tensors())
def test_every_tensor_starts_where_its_type_may_start(tensors):
    infos = announced(tensors)
    shard = plan_shards(infos, max_shard_bytes=10**9)[0]
    assert list(shard.places) == [info.name for info in infos]
    assert all(shard.places[info.name] % tensors[info.name].element_size() == 0 for info in infos)


def test_tensors_of_one_type_keep_their_order(tmp_path: Path):
    tensors = tiny.some_tensors()
    write(tmp_path / "out", tensors)
    assert list(open_checkpoint(tmp_path / "out", ModelRef("out")).tensors) == list(tensors)


def test_a_file_in_the_librarys_order_is_the_librarys_file_byte_for_byte(tmp_path: Path):
    tensors = dict(sorted(tiny.some_tensors().items()))
    write(tmp_path / "out", tensors)
    save_file(tensors, tmp_path / "theirs.safetensors", {"format": "pt"})
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


@pytest.mark.parametrize("max_shard_bytes", [60, 10**9])
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, max_shard_bytes):
    for name in ("a", "b"):
        write(tmp_path / name, tiny.some_tensors(), max_shard_bytes=max_shard_bytes, texts={"README.md": "日本語\n"})
    files = leftovers(tmp_path / "a")
    assert files == leftovers(tmp_path / "b")
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_shards_are_named_and_indexed_as_transformers_expects(tmp_path: Path):
    tensors = tiny.some_tensors()
    write(tmp_path / "out", tensors, max_shard_bytes=100)
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    shards = sorted(file.name for file in (tmp_path / "out").glob("*.safetensors"))
    assert shards == [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    assert len(shards) > 1
    assert set(index["weight_map"]) == set(tensors)
    assert set(index["weight_map"].values()) == set(shards)
    assert index["metadata"]["total_size"] == sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def test_config_side_files_and_texts_are_there_as_given(tmp_path: Path):
    real, link = tmp_path / "blob", tmp_path / "tokenizer.json"
    real.write_text("tokens")
    link.symlink_to(real)
    config = {"z": 1e-05, "a": {"名": [1, None, True]}}
    side = {"tokenizer.json": link, "additional_chat_templates/tool.jinja": real}
    write(tmp_path / "out", tiny.some_tensors(), config=config, side_files=side, texts={"README.md": "# 題\n"})
    assert list(json.loads((tmp_path / "out/config.json").read_text()).items()) == list(config.items())
    assert not (tmp_path / "out/tokenizer.json").is_symlink()
    assert (tmp_path / "out/tokenizer.json").read_text() == "tokens"
    assert (tmp_path / "out/additional_chat_templates/tool.jinja").read_text() == "tokens"
    assert (tmp_path / "out/README.md").read_text() == "# 題\n"
    assert leftovers(tmp_path) == ["blob", "out", "tokenizer.json"]


def test_transformers_loads_the_result(tmp_path: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    host = resolve(ModelRef(str(SRC / "vlmerge/demo/ja")))
    stream = ((name, host.read(name)) for name in host.tensors)
    write_checkpoint(
        tmp_path / "out",
        list(host.tensors.values()),
        stream,
        config=host.config,
        side_files=host.side_files(),
        texts={},
        max_shard_bytes=2_000_000,
    )
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True, dtype=torch.float16)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    state = model.state_dict()
    assert all(tiny.same(state[name], host.read(name)) for name in host.tensors)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) > 1000


@pytest.mark.parametrize("occupied", ["file in it", "is a file", "dangling link"])
def test_an_output_that_is_not_empty_is_not_touched(tmp_path: Path, occupied):
    out = tmp_path / "out"
    if occupied == "file in it":
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    elif occupied == "is a file":
        out.write_text("mine")
    else:
        out.symlink_to(tmp_path / "nowhere")
    before = leftovers(tmp_path)
    with pytest.raises(CheckpointError, match="not empty"):
        write(out, tiny.some_tensors())
    assert leftovers(tmp_path) == before
    assert not out.is_dir() or leftovers(out) == ["mine.txt"]


def test_an_empty_folder_and_missing_parents_are_taken(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", tiny.some_tensors())
    write(tmp_path / "a/b/c", tiny.some_tensors())
    assert (tmp_path / "empty/config.json").exists()
    assert leftovers(tmp_path / "a/b") == ["c"]


def test_a_disk_that_is_too_small_is_found_before_the_first_byte(tmp_path: Path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(CheckpointError) as caught:
        write(tmp_path / "a/out", tiny.some_tensors())
    assert "1,000 bytes" in caught.value.found
    assert "bytes free" in caught.value.expected
    assert leftovers(tmp_path) == []


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path):
    def produce() -> Iterator[tuple[str, torch.Tensor]]:
        yield next(iter(tiny.some_tensors().items()))
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="disk became full"):
        write(tmp_path / "out", tiny.some_tensors(), produce())
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError("a bug")])
def test_an_interrupt_or_a_bug_leaves_nothing(tmp_path: Path, error):
    def produce() -> Iterator[tuple[str, torch.Tensor]]:
        items = iter(tiny.some_tensors().items())
        yield next(items)
        yield next(items)
        assert leftovers(tmp_path) == [".out.partial"]
        raise error

    with pytest.raises(error if isinstance(error, type) else RuntimeError):
        write(tmp_path / "out", tiny.some_tensors(), produce())
    assert leftovers(tmp_path) == []


def _wrong_streams() -> Sequence[tuple[str, object]]:
    tensors = tiny.some_tensors()
    items = list(tensors.items())
    return [
        ("too few", items[:-1]),
        ("too many", [*items, ("more", torch.ones(1))]),
        ("wrong order", [items[1], items[0], *items[2:]]),
        ("wrong type", [(items[0][0], items[0][1].float()), *items[1:]]),
        ("wrong shape", [(items[0][0], items[0][1].t()), *items[1:]]),
    ]


@pytest.mark.parametrize(("_name", "stream"), _wrong_streams(), ids=[name for name, _ in _wrong_streams()])
def test_a_stream_that_breaks_its_announcement_is_a_bug(tmp_path: Path, _name, stream):
    with pytest.raises(ValueError, match=r"tensor|announced"):
        write(tmp_path / "out", tiny.some_tensors(), stream)
    assert leftovers(tmp_path) == []


def _pieces(tensor: torch.Tensor, length: int) -> Iterator[torch.Tensor]:
    """Flat parts in two buffers that take turns, as a merge makes them."""
    flat = tensor.reshape(-1)
    buffers, turn = torch.empty((2, length), dtype=tensor.dtype), 0
    for start in range(0, max(1, len(flat)), length):
        part, turn = flat[start : start + length], 1 - turn
        yield buffers[turn][: len(part)].copy_(part)


@pytest.mark.parametrize("length", [1, 7, 1000])
def test_parts_that_are_overwritten_after_the_next_one_make_the_same_file(tmp_path: Path, length):
    tensors = tiny.some_tensors() | {"nothing": torch.empty((0, 3)), "one number": torch.tensor(2.5)}
    write(tmp_path / "whole", tensors)
    write(tmp_path / "parts", tensors, ((name, piece) for name, each in tensors.items() for piece in _pieces(each, length)))
    for file in sorted((tmp_path / "whole").iterdir()):
        assert (tmp_path / "parts" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("parts", [[3, 2], [4, 3], [6, 1], [0, 6]])
def test_parts_that_do_not_make_up_the_tensor_are_a_bug(tmp_path: Path, parts):
    tensors = {"a": torch.ones(2, 3), "b": torch.ones(2)}
    stream = [("a", torch.ones(length)) for length in parts] + [("b", torch.ones(2))]
    with pytest.raises(ValueError, match=r"expected tensor|announced"):
        write(tmp_path / "out", tensors, stream)
    assert leftovers(tmp_path) == []


def test_a_disk_that_fails_beside_the_merge_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real, calls = os.pwrite, []

    def failing(*given: Any) -> int:
        calls.append(given)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*given)

    monkeypatch.setattr(os, "pwrite", failing)
    with pytest.raises(CheckpointError, match="disk became full"):
        write(tmp_path / "out", tiny.some_tensors())
    assert leftovers(tmp_path) == []


def test_a_write_that_takes_less_than_it_was_given_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "whole", tiny.some_tensors())
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: real(file, data[:5], place))
    write(tmp_path / "bits", tiny.some_tensors())
    for file in sorted((tmp_path / "whole").iterdir()):
        assert (tmp_path / "bits" / file.name).read_bytes() == file.read_bytes()


def test_progress_ends_at_the_total(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    write(tmp_path / "out", tiny.some_tensors(), progress=lambda _, done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_the_stream_holds_one_tensor_at_a_time(tmp_path: Path):
    size, count = 4 << 20, 64
    infos = [TensorInfo(f"t{number}", "U8", (size,), "") for number in range(count)]

    before, peak = anonymous_bytes(), 0

    def produce() -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal peak
        for info in infos:
            yield info.name, torch.full((size,), 1, dtype=torch.uint8)
            peak = max(peak, anonymous_bytes())

    write_checkpoint(tmp_path / "out", infos, produce(), config={}, side_files={}, texts={})
    assert peak - before < count * size / 4


SLOW_WRITER = """
import sys, time, torch
from pathlib import Path
from vlmerge.checkpoint import write_checkpoint
from vlmerge.types import TensorInfo
infos = [TensorInfo(f"t{n}", "U8", (1000,), "") for n in range(60)]
def produce():
    for info in infos:
        yield info.name, torch.ones(1000, dtype=torch.uint8)
        print(info.name, flush=True)
        time.sleep(0.002)
out = Path(sys.argv[1])
write_checkpoint(out, infos, produce(), config={"model_type": "llama"}, side_files={}, texts={}, max_shard_bytes=9000)
print("finished", flush=True)
"""


@pytest.mark.parametrize("after", ["t0", "t8", "t30", "t59"])
def test_a_killed_writer_leaves_nothing_that_looks_finished_and_the_next_one_succeeds(tmp_path: Path, after):
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", SLOW_WRITER, str(out)], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == after:
                os.kill(process.pid, signal.SIGKILL)
                break
    if out.exists():  # Killed after the rename: then it is whole.
        assert len(open_checkpoint(out, ModelRef("out")).tensors) == 60
        return
    assert leftovers(tmp_path) == [".out.partial"]
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / ".out.partial", ModelRef("out"))
    write(out, tiny.some_tensors())
    assert leftovers(tmp_path) == ["out"]
    assert leftovers(out) == ["config.json", "model.safetensors"]


def test_two_writers_of_one_folder_do_not_meet(tmp_path: Path):
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", SLOW_WRITER, str(out)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() == "t0"
        os.kill(process.pid, signal.SIGSTOP)
        try:
            with pytest.raises(CheckpointError, match="another process"):
                write(out, tiny.some_tensors())
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert process.stdout.read().strip().endswith("finished")
    assert len(open_checkpoint(out, ModelRef("out")).tensors) == 60


def test_an_interrupted_process_cleans_up(tmp_path: Path):
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # A test run in the background ignores SIGINT, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout.readline().strip() == "t0"
        time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert process.returncode != 0
    assert leftovers(tmp_path) == []
