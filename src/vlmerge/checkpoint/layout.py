"""Which file of a model is what: weights, index, files to copy. From names alone, so it holds for folders and the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

from vlmerge.checkpoint.headers import WeightsFormat
from vlmerge.errors import CheckpointError

CONFIG = "config.json"
README = "README.md"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""In order of preference."""
NON_LORA_WEIGHTS = "non_lora_trainables.bin"
"""What LLaVA's training code saves beside an adapter: the tensors that it trained whole."""

WEIGHT_FILES: tuple[tuple[str, WeightsFormat], ...] = (
    ("model.safetensors", "safetensors"),
    ("model.safetensors.index.json", "safetensors"),
    ("pytorch_model.bin", "bin"),
    ("pytorch_model.bin.index.json", "bin"),
)
"""In order of preference, as transformers has it: safetensors before pickles, a whole file before an index."""

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer*.model", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "spiece.model", "sentencepiece*.model", "*.tiktoken", "chat_template.json",
    "chat_template*.jinja", "additional_chat_templates/*.jinja",
)  # fmt: skip
"""Patterns of the files that belong to a tokenizer."""

SIDE_FILES = (
    *TOKENIZER_FILES, "generation_config.json", "processor_config.json", "preprocessor_config.json",
    "*_preprocessor_config.json", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*",
)  # fmt: skip
"""Patterns of the files that a merged model takes over: what is wanted, since repositories hold much else (pictures, code)."""

_SHARD_NAME = re.compile(r"[^/\\.][^/\\]*\.(safetensors|bin)")


@dataclass(frozen=True)
class Weights:
    """Where the weights of a model are.

    Attributes:
        format: `safetensors`, or `bin` where there is nothing else.
        file: The one file, or the index that names the shards.
        is_index: Which of the two it is.
    """

    format: WeightsFormat
    file: str
    is_index: bool


@dataclass(frozen=True)
class Index:
    """A shard index.

    Attributes:
        shards: Shard files, sorted by name.
        tensors: Tensor name → shard file.
    """

    shards: tuple[str, ...]
    tensors: Mapping[str, str]


def find_weights(names: Collection[str], where: str) -> Weights:
    """Picks the weight file or index among a model's file names; raises CheckpointError if there is none that can be used."""
    for file, weights_format in WEIGHT_FILES:
        if file in names:
            return Weights(weights_format, file, file.endswith(".index.json"))
    like_weights = sorted(
        name
        for name in names
        if name.endswith((".safetensors", ".bin", ".gguf", ".pth", ".pt", ".h5", ".msgpack", ".index.json"))
    )
    if any(name.startswith("adapter_model.") for name in names):
        remedy = "this is a LoRA adapter: name it behind its base model, as `MODEL+ADAPTER`"
    elif any(re.fullmatch(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)", name) for name in like_weights):
        remedy = "the shards' index (model.safetensors.index.json) is missing: copy or download it too"
    else:
        remedy = "name a folder or a repository in the format of transformers, with its weights"
    raise CheckpointError(
        "there are no weights that can be read",
        where=where,
        expected=" or ".join(file for file, _ in WEIGHT_FILES),
        found=", ".join(like_weights[:6]) + (" …" if len(like_weights) > 6 else "") or "no weight file at all",
        remedy=remedy,
    )


def parse_index(text: str | bytes, where: str, weights_format: WeightsFormat) -> Index:
    """Reads an index file; a shard must be a plain file name of the format, so that an index cannot point out of its folder."""

    def refuse(found: str) -> CheckpointError:
        return CheckpointError(
            "the index of the weight shards cannot be used",
            where=where,
            expected='JSON with "weight_map": tensor name → name of a shard file beside the index',
            found=found,
            remedy="download or copy the index again",
        )

    data = parse_object(text, refuse)
    weight_map = data.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise refuse("no weight_map")
    tensors: dict[str, str] = {}
    for name, shard in cast("dict[str, Any]", weight_map).items():
        if not isinstance(shard, str) or not _SHARD_NAME.fullmatch(shard) or not shard.endswith(f".{weights_format}"):
            raise refuse(f"{name!r} in {shard!r}")
        tensors[name] = shard
    return Index(tuple(sorted(set(tensors.values()))), tensors)


def parse_config(text: str | bytes, where: str) -> dict[str, Any]:
    """Reads config.json; raises CheckpointError if it is not a JSON object."""

    def refuse(found: str) -> CheckpointError:
        return CheckpointError(
            "the model's config.json cannot be read",
            where=where,
            expected="a JSON object",
            found=found,
            remedy="download or copy config.json again",
        )

    return parse_object(text, refuse)


def parse_object(text: str | bytes, refuse: Any) -> dict[str, Any]:
    """Parses a JSON object, or raises what `refuse(found)` gives."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refuse(str(error)) from error
    if not isinstance(data, dict):
        raise refuse(f"JSON, but a {type(data).__name__} instead of an object")
    return cast("dict[str, Any]", data)


def side_file_names(names: Iterable[str]) -> list[str]:
    """Those of `names` (relative, with `/`) that a merged model takes over, sorted."""
    return sorted(name for name in names if any(_matches(name, pattern) for pattern in SIDE_FILES))


def tokenizer_file_names(names: Iterable[str]) -> list[str]:
    """Those of `names` that belong to a tokenizer, in their order."""
    return [name for name in names if any(_matches(name, pattern) for pattern in TOKENIZER_FILES)]


def card_file_names(names: Iterable[str]) -> list[str]:
    """Those of `names` that say what a model is and under which licence, without being copied: its card."""
    return [name for name in names if name == README]


def _matches(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)
