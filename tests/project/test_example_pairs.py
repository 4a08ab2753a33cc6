"""`check` passes on every pair of the examples, against headers of the real sizes and names in a hub cache: files of holes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAIRS = sorted((ROOT / "examples/pairs").glob("*.yaml"))
COMMIT = "0123456789abcdef0123456789abcdef01234567"

LLAMA2 = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-05, "max_position_embeddings": 4096}
LLAMA3 = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-05, "max_position_embeddings": 8192,
    "hidden_size": 4096, "intermediate_size": 14336, "num_key_value_heads": 8, "rope_theta": 500000.0, "vocab_size": 128256,
}  # fmt: skip
MISTRAL = {
    "model_type": "mistral", "architectures": ["MistralForCausalLM"], "rms_norm_eps": 1e-05, "max_position_embeddings": 32768,
    "intermediate_size": 14336, "num_key_value_heads": 8, "sliding_window": 4096,
}  # fmt: skip
QWEN25 = {
    "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0, "max_position_embeddings": 131072, "vocab_size": 152064, "tie_word_embeddings": False,
}  # fmt: skip
GEMMA2 = {
    "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "hidden_size": 2304, "intermediate_size": 9216,
    "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
}  # fmt: skip
CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
}  # fmt: skip
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
    "num_attention_heads": 16, "patch_size": 14, "projection_dim": 2304,
}  # fmt: skip
QWEN_TOWER = {"depth": 32, "hidden_size": 1280, "out_hidden_size": 3584, "intermediate_size": 3420, "num_heads": 16}

REPOSITORIES: dict[str, tuple[dict[str, Any], int, str]] = {
    "llava-hf/llava-1.5-7b-hf": (
        {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], "image_token_index": 32000,
         "text_config": {**LLAMA2, "vocab_size": 32064}, "vision_config": CLIP},
        32002, "llama2",
    ),
    "llava-hf/llava-v1.6-mistral-7b-hf": (
        {"model_type": "llava_next", "architectures": ["LlavaNextForConditionalGeneration"], "image_token_index": 32000,
         "text_config": {**MISTRAL, "rope_theta": 1000000.0, "sliding_window": None, "vocab_size": 32064},
         "vision_config": CLIP},
        32002, "apache-2.0",
    ),
    "llava-hf/llama3-llava-next-8b-hf": (
        {"model_type": "llava_next", "architectures": ["LlavaNextForConditionalGeneration"], "image_token_index": 128256,
         "text_config": {**LLAMA3, "vocab_size": 128320}, "vision_config": CLIP},
        128257, "llama3",
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": (
        {**QWEN25, "model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"],
         "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "image_token_id": 151655,
         "vision_config": QWEN_TOWER},
        0, "apache-2.0",
    ),
    "google/paligemma2-3b-pt-224": (
        {"model_type": "paligemma", "architectures": ["PaliGemmaForConditionalGeneration"], "image_token_index": 257152,
         "text_config": {**GEMMA2, "vocab_size": 257216}, "vision_config": SIGLIP, "projection_dim": 2304, "hidden_size": 2048},
        257216, "gemma",
    ),
    "meta-llama/Llama-2-7b-hf": (LLAMA2, 32000, "llama2"),
    "elyza/ELYZA-japanese-Llama-2-7b-fast-instruct": ({**LLAMA2, "vocab_size": 45043}, 45043, "llama2"),
    "beomi/llama-2-ko-7b": ({**LLAMA2, "vocab_size": 46336}, 46336, "llama2"),
    "hfl/chinese-llama-2-7b": ({**LLAMA2, "vocab_size": 55296}, 55296, "apache-2.0"),
    "mistralai/Mistral-7B-v0.1": (MISTRAL, 32000, "apache-2.0"),
    "augmxnt/shisa-gamma-7b-v1": (MISTRAL, 32000, "apache-2.0"),
    "WizardLMTeam/WizardMath-7B-V1.1": ({**MISTRAL, "vocab_size": 32001}, 32001, "other"),
    "GAIR/Abel-7B-002": ({**MISTRAL, "vocab_size": 32001}, 32001, "apache-2.0"),
    "meta-llama/Meta-Llama-3-8B": (LLAMA3, 128256, "llama3"),
    "elyza/Llama-3-ELYZA-JP-8B": (LLAMA3, 128256, "llama3"),
    "beomi/Llama-3-Open-Ko-8B": (LLAMA3, 128256, "other"),
    "shenzhi-wang/Llama3-8B-Chinese-Chat": (LLAMA3, 128256, "llama3"),
    "Qwen/Qwen2.5-7B": (QWEN25, 0, "apache-2.0"),
    "Qwen/Qwen2.5-Coder-7B-Instruct": (QWEN25, 0, "apache-2.0"),
    "google/gemma-2-2b": (GEMMA2, 256000, "gemma"),
    "google/gemma-2-2b-jpn-it": (GEMMA2, 256000, "gemma"),
}  # fmt: skip
"""Repository → config.json as the hub has it (from memory), tokens of its tokenizer (0: none here), licence."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache of all repositories, with headers of their real sizes and nothing behind them."""
    return tmp_path_factory.mktemp("hub")


def put(cache: Path, repository: str) -> None:
    """Writes a repository into the cache, unless it is there."""
    home = cache / f"models--{repository.replace('/', '--')}"
    if home.exists():
        return
    config, tokens, licence = REPOSITORIES[repository]
    sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests/families")]
    try:
        from sparse_checkpoints import write_holes
        from tiny_families import HF, QWEN
    finally:
        del sys.path[:2]
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text(COMMIT)
    folder = home / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    names = () if "vision_config" not in config else QWEN if config["model_type"].startswith("qwen") else HF
    write_holes(folder, shapes(config, names))
    (folder / "config.json").write_text(json.dumps({**config, "torch_dtype": "float16"}))
    (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    if tokens:
        # Enlarged vocabularies go on where the old one ends; a VLM's tokens for pictures are its own.
        base = {"llava": 32000, "llava_next": 32000 if tokens < 100_000 else 128256, "paligemma": 256000}
        shared = base.get(config["model_type"], tokens)
        words = {f"t{row}" if row < shared else f"<{row}>": row for row in range(tokens)}
        tokenizer = {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": words, "unk_token": "t0"}}
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def shapes(config: dict[str, Any], names: tuple[tuple[str, str], ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Names on disk and shapes of all tensors: of transformers' own class, made without memory."""
    import re

    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText

    kind = AutoModelForImageTextToText if "vision_config" in config else AutoModelForCausalLM
    with torch.device("meta"):
        model = kind.from_config(CONFIG_MAPPING[config["model_type"]](**config))
    found: list[tuple[str, tuple[int, ...]]] = []
    for name, parameter in model.named_parameters():
        on_disk = next((new for old, to in names if (new := re.sub(old, to, name)) != name), name)
        found.append((on_disk, tuple(parameter.shape)))
    return found


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_check_passes_on_the_pair(path: Path, cache: Path) -> None:
    recipe = yaml.safe_load(path.read_text())
    models = list(dict.fromkeys([*(each["model"] for each in recipe["models"]), recipe.get("base_model")]))
    named = [model for model in models if model is not None]
    for model in named:
        put(cache, model)
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "vlmerge", "check", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    sees = [model for model in named if "vision_config" in REPOSITORIES[model][0]]
    assert found["host"] == (sees[0] if sees else recipe["base_model"])
    config = REPOSITORIES[found["host"]][0]
    text = config.get("text_config", config)
    layers = text.get("num_hidden_layers", 32)
    # Llama and Mistral have 9 tensors in a layer, Qwen2 three biases more, Gemma 2 two norms more and no head.
    each, others = {"qwen2": (12, 3), "qwen2_5_vl": (12, 3), "gemma2": (11, 2)}.get(text["model_type"], (9, 3))
    protected = 2 if "embed_tokens" in recipe.get("protect", ()) else 0
    assert found["merged"] == layers * each + others - protected
    for repository in cache.iterdir():  # Holes cost nothing, but their sizes count where a disk is looked at.
        shutil.rmtree(repository, ignore_errors=True)


def test_every_repository_of_the_examples_has_its_headers() -> None:
    named = {str(value) for path in PAIRS for value in _models(yaml.safe_load(path.read_text()))}
    assert named == set(REPOSITORIES)


def _models(recipe: dict[str, Any]) -> list[str]:
    return [each["model"] for each in recipe["models"]] + ([recipe["base_model"]] if "base_model" in recipe else [])
