"""Models from elsewhere that mean harm, or are nonsense: refused in words by check and merge alike, nothing in them is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_family import LM_TOKENS, write_lm

from vlmerge.check import check
from vlmerge.checkpoint import open_checkpoint
from vlmerge.config import load_recipe
from vlmerge.config.model_ref import ModelRef
from vlmerge.errors import UserError, printable
from vlmerge.merge import merge

Harm = Callable[[Path], object]


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """What would wait or fill the memory for ever fails instead. Its error is no OSError: nobody may take it for a refusal."""

    def ring(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def models(folder: Path, harm: Harm, *, also: str = "b") -> Path:
    """Two models, one of them harmed; the recipe that merges them."""
    for seed, name in enumerate("ab"):
        write_lm(folder / name, seed=seed)
    harm(folder / also)
    listed = [{"model": f"./{name}", "parameters": {"weight": 0.5}} for name in "ab"]
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"merge_method": "linear", "models": listed}), encoding="utf-8")
    return folder / "recipe.yaml"


def replaced(name: str, data: bytes | str) -> Harm:
    def harm(model: Path) -> None:
        (model / name).unlink(missing_ok=True)
        (model / name).write_bytes(data.encode() if isinstance(data, str) else data)

    return harm


def header(entries: object, data: bytes = b"") -> Harm:
    """A weight file with this header."""
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return replaced("model.safetensors", struct.pack("<Q", len(text)) + text + data)


def entry(name: str = "a", data: bytes = b"\0", **change: object) -> Harm:
    return header({name: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]} | change}, data)


def config(**change: object) -> Harm:
    def harm(model: Path) -> None:
        settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
        (model / "config.json").write_text(json.dumps(settings | change), encoding="utf-8")

    return harm


def linked(name: str, target: str) -> Harm:
    def harm(model: Path) -> None:
        (model / name).unlink(missing_ok=True)
        (model / name).symlink_to(target)

    return harm


def outside(name: str) -> Harm:
    """The file lies beside the model's folder, a link in its place."""

    def harm(model: Path) -> None:
        if not (model / name).exists():
            (model / name).write_text("secret", encoding="utf-8")
        shutil.move(model / name, model.parent / "secret")
        (model / name).symlink_to(Path("..") / "secret")

    return harm


def pipe(name: str) -> Harm:
    def harm(model: Path) -> None:
        (model / name).unlink(missing_ok=True)
        os.mkfifo(model / name)

    return harm


def sparse(head: int, size: int) -> Harm:
    """A file of ten gigabytes that takes none."""

    def harm(model: Path) -> None:
        with (model / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", head))
            file.truncate(size)

    return harm


def notes(value: object) -> Harm:
    """The model's own weights, and something else where a header has its notes."""

    def harm(model: Path) -> None:
        data = (model / "model.safetensors").read_bytes()
        end = 8 + struct.unpack("<Q", data[:8])[0]
        header({**json.loads(data[8:end]), "__metadata__": value}, data[end:])(model)

    return harm


def indexed(shard: str) -> Harm:
    """An index that names another model's weights, which are there."""

    def harm(model: Path) -> None:
        names = open_checkpoint(model, ModelRef("b")).tensors
        (model / "model.safetensors").unlink()
        index = {"weight_map": dict.fromkeys(names, shard.format(model.parent))}
        (model / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")

    return harm


def vocabulary(content: object, **more: object) -> Harm:
    """Tokens in vocab.json, as slow tokenizers have them, and files beside it."""

    def harm(model: Path) -> None:
        (model / "tokenizer.json").unlink()
        for name, value in {"vocab": content, **more}.items():
            (model / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")

    return harm


def tokenizer(**change: object) -> Harm:
    def harm(model: Path) -> None:
        settings = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
        (model / "tokenizer.json").write_text(json.dumps(settings | change), encoding="utf-8")

    return harm


def bomb(model: Path) -> None:
    """A hundred megabytes of zeros in a hundredth of that."""
    (model / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": torch.zeros(25_000_000)}, model / "large.pt")
    with (
        zipfile.ZipFile(model / "large.pt") as large,
        zipfile.ZipFile(model / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for info in large.infolist():
            small.writestr(info.filename, large.read(info.filename))
    (model / "large.pt").unlink()
    assert (model / "pytorch_model.bin").stat().st_size < 1_000_000


def stretched(model: Path) -> None:
    """One number that says it is a matrix of two terabytes."""
    (model / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": torch.zeros(1).expand(1 << 20, 1 << 19)}, model / "pytorch_model.bin")


DEEP = b"[" * 200_000
PANIC = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
HARMS: dict[str, tuple[Harm, str]] = {
    "header: length of 10 GB": (sparse(10 * 10**9, 11 * 10**9), "no safetensors file"),
    "header: length beyond the file": (sparse(10**6, 10**3), "no safetensors file"),
    "header: nested deeply": (header(b'{"a":' + DEEP), "header"),
    "header: dtype a list": (entry(dtype=[]), "data type"),
    "header: infinite shape": (entry(shape=[float("inf")]), "header"),
    "header: shape a text": (entry(shape="1"), "header"),
    "header: shape a fraction": (entry(shape=[1.0]), "header"),
    "header: shape a flag": (entry(shape=[True]), "header"),
    "header: negative": (entry(shape=[-1, -1]), "header"),
    "header: more than 64 axes": (entry(shape=[1] * 65), "header"),
    "header: absurd axis": (entry(data=b"", shape=[10**30, 0], data_offsets=[0, 0]), "header"),
    "header: offsets out of the file": (entry(shape=[2], data_offsets=[0, 2]), "cut short"),
    "header: offsets of other length": (entry(shape=[2]), "header"),
    "header: three offsets": (entry(data_offsets=[0, 1, 1]), "header"),
    "header: endless name": (entry("x" * 1_000_000, dtype="F4"), "data type"),
    "header: entry a list": (header({"a": []}), "header"),
    "header: UTF-16": (header('{"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}'.encode("utf-16")), "header"),
    "header: notes no texts": (notes({"format": 3}), "header"),
    "header: notes no object": (notes([1]), "header"),
    "index: beside the folder": (indexed("../a/model.safetensors"), "index"),
    "index: absolute": (indexed("{}/a/model.safetensors"), "index"),
    "index: nested deeply": (
        lambda m: ((m / "model.safetensors").unlink(), replaced("model.safetensors.index.json", DEEP)(m)), "index"),
    "config: nested deeply": (replaced("config.json", DEEP), "config.json"),
    "config: a list": (replaced("config.json", "[1]"), "config.json"),
    "config: 20 MB": (replaced("config.json", '{"a":"' + "x" * 20_000_000 + '"}'), "too large"),
    "config: heads a word": (config(num_attention_heads="x"), "config.json"),
    "config: no heads": (config(num_attention_heads=0, head_dim=None), "config.json"),
    "config: rotary scaling a word": (config(rope_scaling="x"), "config.json"),
    "config: epsilon an object": (config(rms_norm_eps={}), "config.json"),
    "config: architectures a number": (config(model_type="llama4", architectures=5), "config.json"),
    "config: decoder a word": (config(model_type="llava", text_config="x", vision_config={}), "config.json"),
    "config: tower a word": (config(model_type="llava", text_config={}, vision_config="x"), "config.json"),
    "config: a pipe": (pipe("config.json"), "no file"),
    "config: endless": (linked("config.json", "/dev/zero"), "leads out"),
    "weights: a pipe": (pipe("model.safetensors"), "no file"),
    "card: a pipe": (pipe("README.md"), "no file"),
    "pickle: a pipe": (lambda m: ((m / "model.safetensors").unlink(), pipe("pytorch_model.bin")(m)), "no file"),
    "link: weights": (outside("model.safetensors"), "leads out"),
    "link: config": (outside("config.json"), "leads out"),
    "link: tokenizer": (outside("tokenizer.json"), "leads out"),
    "link: licence": (outside("LICENSE"), "leads out"),
    "link: card": (outside("README.md"), "leads out"),
    "tokenizer: nonsense": (replaced("tokenizer.json", "nonsense"), "tokenizer"),
    "tokenizer: a list": (replaced("tokenizer.json", "[1]"), "tokenizer"),
    "tokenizer: nested deeply": (replaced("tokenizer.json", DEEP), "tokenizer"),
    "tokenizer: its reader panics": (tokenizer(normalizer=PANIC), "tokenizer"),
    "tokenizer: ids no numbers": (vocabulary(dict.fromkeys(LM_TOKENS, "x")), "tokenizer"),
    "tokenizer: negative ids": (vocabulary({token: -number for number, token in enumerate(LM_TOKENS)}), "tokenizer"),
    "tokenizer: vocabulary a list": (vocabulary([1]), "tokenizer"),
    "tokenizer: added tokens a list": (vocabulary({}, added_tokens=[1]), "tokenizer"),
    "tokenizer: settings nonsense": (vocabulary({}, tokenizer_config=[1]), "tokenizer"),
    "tokenizer: sentencepiece nonsense": (
        lambda m: ((m / "tokenizer.json").unlink(), replaced("tokenizer.model", b"\0nonsense")(m)), "tokenizer"),
    "pickle: compressed": (bomb, "damaged or cut short"),
    "pickle: stretched": (stretched, "view"),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMS)
def test_harm_is_refused_in_words(tmp_path: Path, name: str) -> None:
    harm, words = HARMS[name]
    recipe = load_recipe(models(tmp_path, harm))
    for attempt in (lambda: check(recipe), lambda: merge(recipe, tmp_path / "out")):
        with pytest.raises(UserError, match=words) as caught:
            attempt()
        assert str(tmp_path / "b") in str(caught.value)
        assert caught.value.remedy
        assert len(str(caught.value)) < 10_000
    assert not (tmp_path / "out").exists()


def templates(model: Path) -> None:
    (model.parent / "more").mkdir()
    (model.parent / "more/x.jinja").write_text("secret", encoding="utf-8")
    (model / "additional_chat_templates").symlink_to(model.parent / "more")


@pytest.mark.parametrize(
    "harm", [outside("special_tokens_map.json"), outside("chat_template.jinja"), outside("NOTICE"), templates]
)
def test_what_a_link_of_the_host_leads_to_is_not_copied(tmp_path: Path, harm: Harm) -> None:
    recipe = load_recipe(models(tmp_path, harm, also="a"))
    with pytest.raises(UserError, match="leads out"):
        merge(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("old", [False, True])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, old: bool) -> None:
    trap = tmp_path / "trap"

    class Runs:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trap,)

    pickle.loads(pickle.dumps(Runs()))
    assert trap.exists(), "the payload does not work, so the test would show nothing"
    trap.unlink()

    def harm(model: Path) -> None:
        (model / "model.safetensors").unlink()
        torch.save(
            {"weight": torch.ones(1), "evil": Runs()}, model / "pytorch_model.bin", _use_new_zipfile_serialization=not old
        )

    recipe = load_recipe(models(tmp_path, harm))
    for attempt in (lambda: check(recipe), lambda: merge(recipe, tmp_path / "out")):
        with pytest.raises(UserError, match="nothing from the file was executed"):
            attempt()
    assert not trap.exists()


def test_links_within_the_folder_and_into_the_hubs_blobs_are_fine(tmp_path: Path) -> None:
    """The cache: models--org--name/snapshots/COMMIT/file → ../../blobs/HASH. And a folder may itself be named by a link."""
    cache = tmp_path / "models--org--name"
    write_lm(cache / "snapshots/abc", seed=1)
    (cache / "blobs").mkdir()
    for number, file in enumerate(sorted((cache / "snapshots/abc").iterdir())):
        shutil.move(file, cache / f"blobs/{number}")
        file.symlink_to(Path("../../blobs") / str(number))
    (cache / "snapshots/abc/chat_template.jinja").symlink_to("tokenizer.json")
    (tmp_path / "b").symlink_to(cache / "snapshots/abc")
    checkpoint = open_checkpoint(tmp_path / "b", ModelRef("b"))
    assert checkpoint.read("model.norm.weight").isfinite().all()
    assert set(checkpoint.side_files()) == {"chat_template.jinja", "generation_config.json", "tokenizer.json"}


CARDS = {
    "no such day": "license: mit\ndate: 2024-99-99",
    "nested deeply": "license: " + "[" * 100_000,
    "an alias of itself": "license: &a [*a]",
    "billions of laughs": "\n".join(
        ["a0: &a0 {k: ha}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)), "license: mit"]
    ),
    "a tag that runs code": "license: !!python/object/apply:os.getcwd []",
    "a licence that is an object": "license: {a: {b: c}}",
    "megabytes": "license: mit\n" + "# \n" * 1_000_000,
}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_that_is_nonsense_says_nothing_and_stops_nobody(tmp_path: Path, name: str) -> None:
    result = check(load_recipe(models(tmp_path, replaced("README.md", f"---\n{CARDS[name]}\n---\n# A model\n"))))
    assert result.merged


CODE = "from pathlib import Path\nPath({!r}).touch()\nclass Config: ...\nclass Model: ...\n"


def remote_code(trap: Path) -> Harm:
    def harm(model: Path) -> None:
        (model / "evil.py").write_text(CODE.format(str(trap)), encoding="utf-8")
        config(auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})(model)
        settings = {"auto_map": {"AutoTokenizer": ["evil.Model", None]}, "tokenizer_class": "PreTrainedTokenizerFast"}
        (model / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")

    return harm


@pytest.mark.parametrize("who", ["a", "b"])
def test_a_models_own_code_is_never_run_and_told_of(tmp_path: Path, who: str) -> None:
    trap = tmp_path / "trap"
    recipe = load_recipe(models(tmp_path, remote_code(trap), also=who))
    exec(compile((tmp_path / who / "evil.py").read_text(), "evil.py", "exec"), {})
    assert trap.exists(), "the payload does not work, so the test would show nothing"
    trap.unlink()
    for warnings in (check(recipe).warnings, merge(recipe, tmp_path / "out").pairing.warnings):
        assert any(
            str(tmp_path / who) in text and "config.json, tokenizer_config.json" in text and "auto_map" in text
            for text in warnings
        )
    assert not (tmp_path / "out/evil.py").exists()
    _load(tmp_path / "out")
    assert not trap.exists()


def _load(folder: Path) -> None:
    """As a run loads it."""
    from vlmerge.anatomy import dissect
    from vlmerge.runtime.loading import load

    opened = open_checkpoint(folder, ModelRef(str(folder)))
    loaded: Any = load(opened, dissect(opened), device=torch.device("cpu"), dtype=torch.float32)
    assert type(loaded.model).__name__ == "LlamaForCausalLM"


def test_a_name_cannot_command_the_terminal(tmp_path: Path) -> None:
    recipe = load_recipe(models(tmp_path, entry("\x1b]0;mine\x07", dtype="F4")))
    with pytest.raises(UserError, match="data type") as caught:
        check(recipe)
    assert "\\x1b]0;mine\\x07" in caught.value.message()
    assert "\x1b" not in caught.value.message()
    assert printable("日本語\né\u202e") == "日本語\né\\u202e"


@pytest.mark.parametrize("value", ["x", [1], {}, 5])
def test_a_list_per_layer_of_another_length_is_refused_where_layers_move(tmp_path: Path, value: object) -> None:
    models(tmp_path, config(layer_types=value), also="a")
    slices = [{"sources": [{"model": f"./{name}", "layer_range": [0, 2], "parameters": {"weight": 1}} for name in "ab"]}]
    (tmp_path / "slices.yaml").write_text(yaml.safe_dump({"merge_method": "linear", "slices": slices}), encoding="utf-8")
    with pytest.raises(UserError, match="does not fit its layers"):
        merge(load_recipe(tmp_path / "slices.yaml"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
