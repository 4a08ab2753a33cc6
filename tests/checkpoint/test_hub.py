"""The hub, over real HTTP against a server on this machine, and its cache as the client lays it out."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import torch
from hub_stand_in import COMMIT, NEXT_COMMIT, Hub, Repository, lay_out_cache, running_hub, sha256

from vlmerge.adapters import open_model
from vlmerge.checkpoint import Checkpoint, RemoteCheckpoint, licence_of, open_checkpoint, pinned_ref, resolve
from vlmerge.config.model_ref import ModelRef
from vlmerge.errors import CheckpointError, MismatchError

BESIDE = {"tokenizer.json": "{}", "README.md": "---\nlicense: llama2\n---\n", "chat_template.jinja": "{{ x }}"}
UNWANTED = {"pytorch_model.bin": "pickle", "model.onnx": "x", "tf_model.h5": "x", "model.gguf": "x", "code.py": "x"}
MODEL = ModelRef("org/model")


def with_files(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    """An empty cache of the hub's client, for this test alone."""
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    return cache


@pytest.fixture
def hub(tmp_path: Path, cache: Path, monkeypatch) -> Iterator[Hub]:  # noqa: ARG001
    """A hub with one sharded model, `org/model`. The client read its environment at import: its constants are set instead."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    repository = Repository.of(with_files(tiny.in_shards(tmp_path / "published"), BESIDE | UNWANTED))
    with running_hub({"org/model": repository}) as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        yield hub
        close_session()


def refusal(ref: ModelRef = MODEL, **more) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        resolve(ref, **more)
    assert caught.value.where
    assert caught.value.remedy
    return caught.value


def reads_as_published(checkpoint: Checkpoint) -> bool:
    return all(tiny.same(checkpoint.read(name), tensor) for name, tensor in tiny.some_tensors().items())


def test_a_model_is_downloaded_once_pinned_and_without_what_is_not_needed(hub: Hub, cache: Path):
    seen: list[tuple[str, int, int]] = []
    checkpoint = resolve(MODEL, progress=lambda *step: seen.append(step))
    assert isinstance(checkpoint, Checkpoint)
    assert reads_as_published(checkpoint)
    assert checkpoint.revision == COMMIT
    assert checkpoint.licence == "llama2"
    assert list(checkpoint.side_files()) == ["chat_template.jinja", "tokenizer.json"]
    assert not any(hub.bytes_of(name) for name in UNWANTED)
    shards = {f"org/model: {name}" for name in checkpoint.weight_files if name.endswith(".safetensors")}
    assert shards <= {label for label, done, total in seen if done == total > 0}
    # Again, with the branch and with the commit: nothing is downloaded twice, and the cache's file names are the fingerprint.
    before = hub.bytes_of("/cdn/")
    assert resolve(MODEL).fingerprint() == checkpoint.fingerprint()
    assert resolve(ModelRef("org/model", COMMIT)).path == checkpoint.path
    assert hub.bytes_of("/cdn/") == before
    assert checkpoint.path.is_relative_to(cache)


def test_what_was_downloaded_opens_without_the_hub(hub: Hub, monkeypatch):
    from huggingface_hub import constants

    first = resolve(MODEL)
    requests = len(hub.served)
    assert reads_as_published(resolve(MODEL, cached_only=True))
    assert resolve(ModelRef("org/model", first.revision), cached_only=True).path == first.path
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve(MODEL).path == first.path
    assert len(hub.served) == requests


@pytest.mark.parametrize("trouble", ["unreachable", "error", "gated", "deleted"])
def test_a_whole_copy_in_the_cache_is_used_when_the_hub_fails(hub: Hub, monkeypatch, trouble):
    from huggingface_hub import constants

    first = resolve(MODEL)
    if trouble == "unreachable":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    elif trouble == "error":
        hub.failing = 404
    elif trouble == "gated":
        hub.repositories["org/model"].gated = True
    else:
        del hub.repositories["org/model"]
    assert resolve(MODEL).path == first.path


def test_a_new_commit_is_fetched_and_an_old_one_stays_reachable(hub: Hub):
    old = resolve(MODEL)
    repository = hub.repositories["org/model"]
    hub.repositories["org/model"] = Repository(repository.files | {"tokenizer.json": b"[]"}, commit=NEXT_COMMIT)
    before = hub.bytes_of("/cdn/")
    new = resolve(MODEL)
    assert (new.revision, old.revision) == (NEXT_COMMIT, COMMIT)
    assert (new.path / "tokenizer.json").read_text() == "[]"
    assert hub.bytes_of("/cdn/") == before
    assert resolve(ModelRef("org/model", COMMIT)).path == old.path


@pytest.mark.parametrize("build", [tiny.whole, tiny.in_shards])
def test_headers_are_read_by_range_and_weights_are_not_downloaded(hub: Hub, tmp_path: Path, build):
    folder = with_files(build(tmp_path / "other"), BESIDE)
    repository = Repository.of(folder)
    big = torch.zeros(4 << 20, dtype=torch.uint8)
    if build is tiny.whole:
        shutil.rmtree(folder)
        repository = Repository.of(with_files(build(folder, {"big": big}), BESIDE))
    hub.repositories["org/other"] = repository
    remote = resolve(ModelRef("org/other"), headers_only=True)
    assert isinstance(remote, RemoteCheckpoint)
    local = open_checkpoint(folder, ModelRef("folder"))
    assert list(remote.tensors.items()) == list(local.tensors.items())
    assert (remote.config, remote.total_bytes, remote.weights_format) == (local.config, local.total_bytes, "safetensors")
    assert (remote.revision, remote.licence) == (COMMIT, "llama2")
    assert {name: path.read_text() for name, path in remote.side_files().items()} == {
        name: path.read_text() for name, path in local.side_files().items()
    }
    assert not list(remote.path.glob("*.safetensors"))
    assert hub.bytes_of("/cdn/") <= 110_000 * len(local.weight_files)
    # Downloaded afterwards, it opens from the cache.
    resolve(ModelRef("org/other"))
    assert isinstance(resolve(ModelRef("org/other"), headers_only=True), Checkpoint)


def test_a_header_larger_than_the_first_range_is_read_whole(hub: Hub, tmp_path: Path):
    tensors = {f"layer.{number:06d}.{'x' * 60}": torch.zeros(1, dtype=torch.uint8) for number in range(1500)}
    hub.repositories["org/many"] = Repository.of(tiny.whole(tmp_path / "many", tensors))
    assert list(resolve(ModelRef("org/many"), headers_only=True).tensors) == list(tensors)


def test_pickled_shapes_wait_for_the_download(hub: Hub, tmp_path: Path):
    hub.repositories["org/bin"] = Repository.of(tiny.pickled(tmp_path / "bin"))
    remote = resolve(ModelRef("org/bin"), headers_only=True)
    assert isinstance(remote, RemoteCheckpoint)
    assert (remote.weights_format, remote.tensors) == ("bin", {})
    assert remote.total_bytes == (tmp_path / "bin/pytorch_model.bin").stat().st_size
    assert reads_as_published(resolve(ModelRef("org/bin")))


@pytest.mark.parametrize("headers_only", [True, False])
def test_a_gated_model_names_the_licence_page_and_the_token(hub: Hub, headers_only):
    hub.repositories["org/model"].gated = True
    error = refusal(headers_only=headers_only)
    assert "gated" in error.what
    assert f"{hub.url}/org/model" in error.remedy
    assert "hf auth login" in error.remedy
    assert "HF_TOKEN" in error.remedy
    assert error.found == "no token"


def test_a_token_from_the_environment_opens_gated_and_private_models(hub: Hub, monkeypatch):
    hub.repositories["org/model"].gated = hub.repositories["org/model"].private = True
    assert "private" in refusal().what
    monkeypatch.setenv("HF_TOKEN", "bad")
    hub.repositories["org/model"].private = False
    error = refusal()
    assert "gated" in error.what
    assert "no access" in error.found
    monkeypatch.setenv("HF_TOKEN", "good")
    assert reads_as_published(resolve(MODEL))


def test_what_is_not_there_is_named(hub: Hub, monkeypatch, capsys):
    from huggingface_hub import constants

    assert "no such model" in refusal(ModelRef("org/nothing")).what
    assert "no such revision" in refusal(ModelRef("org/model", "v9")).what
    hub.repositories["org/empty"] = Repository({"README.md": b"x"})
    assert "not on the hub" in refusal(ModelRef("org/empty")).what
    hub.repositories["org/gguf"] = Repository({"config.json": b"{}", "model.gguf": b"x"})
    assert "model.gguf" in refusal(ModelRef("org/gguf")).found
    del hub.repositories["org/model"].files["model-00002-of-00002.safetensors"]
    assert "model-00002-of-00002.safetensors" in refusal().found
    for name in ("./nothing", "/nothing", "a/b/c", "~/nothing"):
        assert "no such folder" in refusal(ModelRef(name)).what
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    capsys.readouterr()
    error = refusal(ModelRef("org/new"))
    assert "http://127.0.0.1:9" in error.expected
    assert "no such folder either" in error.found
    assert capsys.readouterr().err == "", "the client's own lines about trying again are kept quiet"


def test_a_hub_in_trouble_is_named(hub: Hub):
    hub.failing = 403
    assert "403" in refusal().found


def test_offline_without_a_copy_says_so(cache: Path):
    error = refusal()
    assert "HF_HUB_OFFLINE" in error.found
    assert "no such folder either" in error.found
    assert str(cache) in error.expected
    assert "hf download org/model" in error.remedy


@pytest.mark.parametrize("build", [tiny.whole, tiny.in_shards, tiny.pickled])
def test_a_cache_on_disk_is_read_offline(cache: Path, tmp_path: Path, build):
    folder = with_files(build(tmp_path / "model"), BESIDE)
    snapshot = lay_out_cache(cache, "org/model", Repository.of(folder).files)
    for ref in (MODEL, ModelRef("org/model", "main"), ModelRef("org/model", COMMIT)):
        for checkpoint in (resolve(ref), resolve(ref, headers_only=True), resolve(ref, cached_only=True)):
            assert reads_as_published(checkpoint)
            assert (checkpoint.path, checkpoint.revision) == (snapshot, COMMIT)
    # The cache's names stand for contents: same fingerprint as the plain folder. And copies are files, not links.
    assert checkpoint.fingerprint() == open_checkpoint(folder, ModelRef("x")).fingerprint()
    assert checkpoint.total_bytes == open_checkpoint(folder, ModelRef("x")).total_bytes
    assert checkpoint.side_files().keys() == {"chat_template.jinja", "tokenizer.json"}
    assert "switched off" in refusal(ModelRef("org/model", "other")).what


@pytest.mark.parametrize("lost", ["model-00002-of-00002.safetensors", "model.safetensors.index.json", "config.json"])
def test_a_cache_that_is_not_whole_is_not_used_offline(cache: Path, tmp_path: Path, lost):
    files = Repository.of(tiny.in_shards(tmp_path / "model")).files
    del files[lost]
    lay_out_cache(cache, "org/model", files)
    assert "not whole" in refusal().what


def test_a_damaged_copy_in_the_cache_says_what_to_remove(cache: Path, tmp_path: Path):
    snapshot = lay_out_cache(cache, "org/model", Repository.of(tiny.whole(tmp_path / "model")).files)
    os.truncate(snapshot / "model.safetensors", 300)
    error = refusal()
    assert str(cache / "models--org--model") in error.remedy


def test_a_disk_too_small_for_the_download_is_found_before_it(hub: Hub, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=500))
    error = refusal()
    assert "500 bytes" in error.found
    needed = sum(
        len(data) for name, data in hub.repositories["org/model"].files.items() if name not in ("config.json", *UNWANTED)
    )
    needed -= len(hub.repositories["org/model"].files["model.safetensors.index.json"])
    assert f"{needed:,} bytes" in error.expected
    assert not any("/cdn/" in path for _, path, _ in hub.served)


def test_what_is_already_here_needs_no_room(hub: Hub, monkeypatch):
    resolve(MODEL)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    hub.repositories["org/model"].commit = NEXT_COMMIT
    assert resolve(MODEL).revision == NEXT_COMMIT


def test_an_interrupted_download_keeps_what_is_finished_and_goes_on(hub: Hub):
    def interrupt(label: str, done: int, _total: int) -> None:
        if "model-00002" in label and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve(MODEL, progress=interrupt)
    assert "not whole" in refusal(cached_only=True).what
    before = hub.bytes_of("model-00001")
    assert before
    assert reads_as_published(resolve(MODEL))
    assert hub.bytes_of("model-00001") == before


def test_a_connection_that_breaks_once_does_no_harm(hub: Hub):
    shard = "model-00002-of-00002.safetensors"
    hub.break_once.add(shard)
    assert reads_as_published(resolve(MODEL))
    assert not hub.break_once
    assert hub.bytes_of(f"/{shard}") > len(hub.repositories["org/model"].files[shard])


def test_headers_alone_are_no_model_when_the_hub_is_gone(hub: Hub, monkeypatch):  # noqa: ARG001 - it must run
    from huggingface_hub import constants

    resolve(MODEL, headers_only=True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    for headers_only in (True, False):
        assert "could not be fetched" in refusal(headers_only=headers_only).what


SCRIPT = """
import sys
from vlmerge.checkpoint import resolve
from vlmerge.config.model_ref import ModelRef
def progress(label, done, total):
    print(label, done, total, flush=True)
checkpoint = resolve(ModelRef("org/model"), progress=progress)
print("resolved", checkpoint.revision, checkpoint.fingerprint(), flush=True)
"""


def test_the_clients_environment_is_honoured_and_a_killed_download_can_be_repeated(hub: Hub, tmp_path: Path):
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": "good",
    }
    hub.repositories["org/model"].private = True
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if "model-00001" in line:
                os.kill(process.pid, signal.SIGKILL)
                break
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    expected = open_checkpoint(tmp_path / "published", ModelRef("x")).fingerprint()
    assert done.splitlines()[-1] == f"resolved {COMMIT} {expected}"
    snapshot = tmp_path / "home/hub/models--org--model/snapshots" / COMMIT
    assert (snapshot / "config.json").is_symlink()
    shard = snapshot / "model-00001-of-00002.safetensors"
    assert shard.readlink().name == sha256(shard.read_bytes())
    offline = subprocess.run(
        command,
        env=environment | {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert offline.splitlines()[-1] == done.splitlines()[-1]


ADAPTER = ModelRef("org/adapter")
ADAPTED = ModelRef("org/model", None, ADAPTER)
QUERY = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def adapter(hub: Hub, tmp_path: Path) -> Path:
    """An adapter on the same hub, `org/adapter`, with what people leave beside one."""
    from safetensors.torch import save_file

    folder = tmp_path / "adapter"
    folder.mkdir()
    shapes = {"A": (2, 4), "B": (4, 2)}
    weights = {f"base_model.model.{QUERY}.lora_{side}.weight": torch.ones(shape) for side, shape in shapes.items()}
    save_file(weights, folder / "adapter_model.safetensors")
    config = '{"peft_type": "LORA", "r": 2, "lora_alpha": 3}'
    with_files(folder, {"adapter_config.json": config, "README.md": "---\nlicense: mit\n---\n", "tokenizer.json": "{}"})
    with_files(folder, {"optimizer.pt": "x", "adapter_model.bin": "x", "training_args.bin": "x"})
    hub.repositories["org/adapter"] = Repository.of(folder, commit=NEXT_COMMIT)
    return folder


def test_an_adapter_is_downloaded_beside_its_model_and_pinned_with_it(hub: Hub, adapter: Path):
    checkpoint = open_model(ADAPTED)
    own = tiny.some_tensors()[f"{QUERY}.weight"]
    assert torch.equal(checkpoint.read(f"{QUERY}.weight"), (own.float() + 3.0).half())
    assert pinned_ref(checkpoint) == ModelRef("org/model", COMMIT, ModelRef("org/adapter", NEXT_COMMIT))
    assert licence_of(checkpoint) == "llama2, mit"
    assert not any(hub.bytes_of(name) for name in ("optimizer.pt", "adapter_model.bin", "training_args.bin"))
    before = len(hub.served)
    again = open_model(pinned_ref(checkpoint), cached_only=True)
    assert again.fingerprint() == checkpoint.fingerprint()
    assert len(hub.served) == before
    local = open_model(ModelRef("org/model", None, ModelRef(str(adapter))))
    assert local.fingerprint() == checkpoint.fingerprint(), "the same wherever the files lie"


def test_headers_of_an_adapter_alone(hub: Hub, adapter: Path, monkeypatch):  # noqa: ARG001 - it must be there
    from huggingface_hub import constants

    checkpoint = open_model(ADAPTED, headers_only=True)
    assert isinstance(checkpoint, RemoteCheckpoint)
    assert checkpoint.adapter is not None
    assert not checkpoint.adapter.files.is_here
    assert checkpoint.adapter.changed == {f"{QUERY}.weight"}
    resolve(MODEL)
    model_here = open_model(ADAPTED, headers_only=True)
    assert isinstance(model_here, Checkpoint)
    assert model_here.adapter is not None
    assert not model_here.adapter.files.is_here
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="not whole in the hub's cache"):
        open_model(ADAPTED)


def test_a_pickled_adapter_on_the_hub_is_known_only_after_its_download(hub: Hub, adapter: Path):
    files = hub.repositories["org/adapter"].files
    torch.save({f"base_model.model.{QUERY}.lora_{side}.weight": torch.ones(4, 4) for side in "AB"}, adapter / "weights")
    del files["adapter_model.safetensors"]
    files["adapter_model.bin"] = (adapter / "weights").read_bytes()
    checkpoint = open_model(ADAPTED, headers_only=True)
    assert checkpoint.adapter is not None
    assert checkpoint.adapter.changed is None
    with pytest.raises(MismatchError, match="rank 2"):
        open_model(ADAPTED)


def test_a_model_of_the_hub_is_no_adapter_and_the_other_way_round(hub: Hub, adapter: Path):  # noqa: ARG001 - it must be there
    with pytest.raises(CheckpointError, match=r"adapter_config\.json and its weights"):
        open_model(ModelRef("org/model", None, MODEL))
    assert "config.json" in (refusal(ADAPTER).expected or "")
