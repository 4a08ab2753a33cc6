"""Checkpoints that are all header: names, shapes, shards and tokenizers of 7B models, and holes where the weights would be.

What reads headers alone cannot tell them from the real ones; on disk the three take megabytes.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import string
from collections.abc import Iterable
from pathlib import Path

import torch
from llava_7b_checkpoints import PLAIN_ROWS, REAL, shapes_of, write_configs, write_json_file

SHARD_BYTES = 10_000_000_000
"""As the hub's Llama files are cut: two shards of a 7B decoder in 16 bits."""

MERGES = 61_249
"""Of Llama 2's tokenizer.json; reading them is most of what a tokenizer costs."""


def build(folder: Path) -> dict[str, Path]:
    """Writes `host` (LLaVA-1.5-7B), `ja` and `base` (Llama-2-7B) under the folder.

    Returns:
        Name → checkpoint folder.
    """
    made: dict[str, Path] = {}
    for name in ("host", "ja", "base"):
        path = made[name] = folder / name
        path.mkdir(parents=True, exist_ok=True)
        is_host = name == "host"
        write_holes(path, shapes_of(REAL, is_host=is_host))
        write_configs(path, REAL, torch.float16, is_host=is_host)
        write_full_tokenizer(path, is_host=is_host)
        (path / "README.md").write_text("---\nlicense: llama2\n---\n")
    return made


def write_holes(path: Path, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> None:
    """Shards of float16 tensors and their index, as the hub has them; nothing is written behind the headers."""
    shards: list[dict[str, dict[str, object]]] = [{}]
    ends = [0]
    for name, shape in shapes:
        size = 2 * math.prod(shape)
        if ends[-1] + size > SHARD_BYTES:
            shards.append({})
            ends.append(0)
        shards[-1][name] = {"dtype": "F16", "shape": shape, "data_offsets": [ends[-1], ends[-1] + size]}
        ends[-1] += size
    weight_map: dict[str, str] = {}
    for number, (shard, end) in enumerate(zip(shards, ends, strict=True), 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        header = json.dumps({"__metadata__": {"format": "pt"}, **shard}).encode()
        header += b" " * (-len(header) % 8)
        (path / file).write_bytes(len(header).to_bytes(8, "little") + header)
        os.truncate(path / file, 8 + len(header) + end)
        weight_map |= dict.fromkeys(shard, file)
    write_json_file(path / "model.safetensors.index.json", {"metadata": {"total_size": sum(ends)}, "weight_map": weight_map})


def write_full_tokenizer(path: Path, *, is_host: bool) -> None:
    """A byte-fallback BPE with as many tokens and merges as Llama 2's."""
    from tokenizers import AddedToken, Tokenizer, models

    letters = string.ascii_lowercase
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    words = ("".join(word) for length in (2, 3, 4) for word in itertools.product(letters, repeat=length))
    tokens += itertools.islice(words, PLAIN_ROWS - len(tokens))
    known = set(tokens)
    halves = ((word[:at], word[at:]) for word in tokens if word[0] in letters for at in range(1, len(word)))
    merges = list(itertools.islice((pair for pair in halves if known.issuperset(pair)), MERGES))
    rows = {token: row for row, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=rows, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    if is_host:
        tokenizer.add_special_tokens([AddedToken("<image>", normalized=False), AddedToken("<pad>", normalized=False)])
    tokenizer.save(str(path / "tokenizer.json"))
    write_json_file(path / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
