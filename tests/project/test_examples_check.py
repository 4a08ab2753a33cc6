"""The published experiment at toy sizes, in a hub cache on disk: `check` passes on its files, and its recipes merge."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
REPOSITORIES = {
    "host": "llava-hf/llava-1.5-7b-hf",
    "ja": "elyza/ELYZA-japanese-Llama-2-7b",
    "base": "meta-llama/Llama-2-7b-hf",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache as its client lays it out, with the three repositories of the examples."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from llava_7b_checkpoints import TINY, build
    finally:
        sys.path.pop(0)
    made = build(tmp_path_factory.mktemp("toys"), dataclasses.replace(TINY, layers=8), torch.float16)
    hub = tmp_path_factory.mktemp("hub")
    for name, repository in REPOSITORIES.items():
        home = hub / f"models--{repository.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs/main").write_text(COMMIT)
        (made[name] / "complete").unlink()
        (made[name] / "README.md").write_text("---\nlicense: llama2\n---\n")
        shutil.move(made[name], home / "snapshots" / COMMIT)
    return hub


def vlmerge(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "vlmerge", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("name", ["honest", "replica"])
def test_check_passes_on_the_published_experiment(name: str, cache: Path) -> None:
    done = vlmerge(cache, "check", str(ROOT / f"examples/llava-1.5-elyza/{name}.yaml"), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["host"] == REPOSITORIES["host"]
    assert {model["name"] for model in found["models"]} == set(REPOSITORIES.values())
    assert found["download_bytes"] == 0
    assert found["licences"] == ["llama2"]
    # 8 layers of 9 tensors, embeddings, final norm and head; the replica protects two norms in every layer.
    decoder = 8 * 9 + 3
    assert found["merged"] == (decoder if name == "honest" else decoder - 8 * 2)
    kept = found["kept"]
    assert sum(count for reason, count in kept.items() if "rows" in reason) == 2
    # … and by its name also the weight and bias of the tower's last norm, which would stay anyway.
    assert sum(count for reason, count in kept.items() if "layernorm" in reason) == (0 if name == "honest" else 8 * 2 + 2)


def test_a_recipe_of_the_examples_merges(cache: Path, tmp_path: Path) -> None:
    """The published chat vector: embeddings, head and per-layer norms are the Japanese model's, the rest moves by the ratio."""
    out = tmp_path / "out"
    done = vlmerge(cache, "merge", str(ROOT / "examples/recipes/chat-vector.yaml"), str(out))
    assert done.returncode == 0, done.stderr
    host, ja, base, merged = (read_all(folder) for folder in (*(snapshot(cache, name) for name in ("host", "ja", "base")), out))
    assert list(merged) == list(host)
    for name, tensor in merged.items():
        plain = name.removeprefix("language_model.")
        if not name.startswith("language_model."):
            expected = host[name]
        elif "embed_tokens" in name or "lm_head" in name:
            rows = len(ja[plain])
            assert torch.equal(tensor[rows:], host[name][rows:])
            tensor, expected = tensor[:rows], ja[plain]
        elif "layernorm" in name:
            expected = ja[plain]
        else:
            expected = (ja[plain].double() + host[name].double() - base[plain].double()).half()
        torch.testing.assert_close(tensor, expected, rtol=1e-3, atol=1e-6)


def snapshot(cache: Path, name: str) -> Path:
    return cache / f"models--{REPOSITORIES[name].replace('/', '--')}" / "snapshots" / COMMIT


def read_all(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    index = folder / "model.safetensors.index.json"
    order = json.loads(index.read_text())["weight_map"] if index.exists() else tensors
    return {name: tensors[name] for name in sorted(order)}
