"""What lies beside the weights: files to copy, the licence, the fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import tiny_checkpoints as tiny

from vlmerge.checkpoint import resolve
from vlmerge.config.model_ref import ModelRef

COPIED = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json", "chat_template.json",
    "chat_template.jinja", "generation_config.json", "LICENSE", "LICENSE.txt", "additional_chat_templates/tool.jinja",
)  # fmt: skip
LEFT = (
    "README.md", ".gitattributes", "pytorch_model.bin", "training_args.bin", "optimizer.pt", "modeling_evil.py", "model.onnx",
    "model.gguf", "trainer_state.json", "pytorch_model.bin.index.json", "picture.png", "checkpoint-5/tokenizer.json",
)  # fmt: skip


def test_side_files_are_what_a_merged_model_needs_and_nothing_else(tmp_path: Path):
    folder = tiny.whole(tmp_path)
    for name in (*COPIED, *LEFT):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    side = resolve(ModelRef(str(folder))).side_files()
    assert list(side) == sorted(COPIED)
    assert all(path.read_text() == name for name, path in side.items())


@pytest.mark.parametrize(
    ("card", "file", "expected"),
    [
        ("---\nlicense: llama2\n---\n# x", "Apache License\n", "llama2"),
        ("---\nlicense: other\nlicense_name: gemma-terms\n---\n", None, "other: gemma-terms"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", None, "mit, apache-2.0"),
        ("---\nlicense: other\n---\n", None, "other"),
        ("---\ntags: [a\n---\n", "\n  LLAMA 2 COMMUNITY LICENSE AGREEMENT\nmore\n", "LLAMA 2 COMMUNITY LICENSE AGREEMENT"),
        ("# no front matter\nlicense: mit\n", None, None),
        ("---\njust text\n---\n", None, None),
        (None, "MIT License\n", "MIT License"),
        (None, "", None),
        (None, None, None),
    ],
)
def test_the_licence_is_what_the_model_says(tmp_path: Path, card, file, expected):
    folder = tiny.whole(tmp_path)
    if card is not None:
        (folder / "README.md").write_text(card)
    if file is not None:
        (folder / "LICENSE").write_text(file)
    assert resolve(ModelRef(str(folder))).licence == expected


def fingerprint(folder: Path) -> str:
    return resolve(ModelRef(str(folder))).fingerprint()


def test_the_fingerprint_is_the_contents_of_config_and_weights(tmp_path: Path):
    first = fingerprint(tiny.in_shards(tmp_path / "a"))
    assert first == fingerprint(tiny.in_shards(tmp_path / "b"))
    (tmp_path / "b/tokenizer.json").write_text("{}")
    assert first == fingerprint(tmp_path / "b")
    (tmp_path / "b/config.json").write_text(json.dumps(tiny.CONFIG | {"rope_theta": 1.0}))
    assert first != fingerprint(tmp_path / "b")
    other = tiny.some_tensors(seed=2)
    assert fingerprint(tiny.whole(tmp_path / "c")) != fingerprint(tiny.whole(tmp_path / "d", other))


def test_a_changed_weight_is_seen_although_hashes_are_remembered(tmp_path: Path):
    folder = tiny.whole(tmp_path)
    first = fingerprint(folder)
    assert fingerprint(folder) == first
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    facts = file.stat()
    file.write_bytes(data)
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    assert fingerprint(folder) != first


def test_hashes_are_remembered_under_the_chosen_folder(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("VLMERGE_CACHE", str(tmp_path / "cache"))
    folder = tiny.whole(tmp_path / "model")
    first = fingerprint(folder)
    memo = tmp_path / "cache/fingerprints.json"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    remembered = json.loads(memo.read_text())
    assert digest in remembered.values()
    # Proof that the memory is used: a false one is believed.
    memo.write_text(json.dumps(dict.fromkeys(remembered, "0" * 64)))
    assert fingerprint(folder) != first
    memo.write_text("damaged")
    assert fingerprint(folder) == first


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_text("")
    folder = tiny.whole(tmp_path / "model")
    first = fingerprint(folder)
    monkeypatch.setenv("VLMERGE_CACHE", str(tmp_path / "file/cache"))
    assert fingerprint(folder) == first
