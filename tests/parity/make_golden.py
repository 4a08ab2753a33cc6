"""Makes golden/*: what mergekit gives for recipes.RECIPES, and for recipes.IN_16_BITS as they are and in float64; what its
chat templates make of conversations.CONVERSATIONS.

Run in an environment that has mergekit==0.1.5 and tokenizers: `python tests/parity/make_golden.py`.
"""

from __future__ import annotations

import importlib.resources
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml
from conversations import NAMES, render
from models import write_models
from recipes import IN_16_BITS, RECIPES, TOKENIZERS, Recipe, by_token
from safetensors.torch import load_file, save_file


def main() -> None:
    golden = Path(__file__).with_name("golden")
    golden.mkdir(exist_ok=True)
    templates = importlib.resources.files("mergekit._data.chat_templates")
    rendered = {name: render(templates.joinpath(f"{name}.jinja").read_text(encoding="utf-8")) for name in NAMES}
    text = json.dumps(rendered, ensure_ascii=False, indent=1) + "\n"
    (golden / "mergekit-0.1.5-chat-templates.json").write_text(text, encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder)
        made = {recipe_name: run(folder, recipe_name, recipe) for recipe_name, recipe in RECIPES.items()}
        save(made, golden / "mergekit-0.1.5.safetensors")
        in_16_bits: dict[str, dict[str, torch.Tensor]] = {}
        for recipe_name, recipe in IN_16_BITS.items():
            in_16_bits[f"{recipe_name} bfloat16"] = run(folder, f"{recipe_name}-16", recipe)
            wide = {**recipe, "dtype": "float64", "out_dtype": "float32"}
            in_16_bits[f"{recipe_name} float64"] = run(folder, f"{recipe_name}-64", wide)
        save(in_16_bits, golden / "mergekit-0.1.5-in-16-bits.safetensors")
        tokenizers: dict[str, dict[str, torch.Tensor]] = {}
        for recipe_name, recipe in TOKENIZERS.items():
            tensors = run(folder, f"{recipe_name}-tokens", recipe, "--copy-tokenizer")
            tokenizers[recipe_name] = by_token(folder / f"out-{recipe_name}-tokens", tensors)
        save(tokenizers, golden / "mergekit-0.1.5-tokenizers.safetensors")


def run(folder: Path, name: str, recipe: Recipe, tokenizer: str = "--no-copy-tokenizer") -> dict[str, torch.Tensor]:
    """What mergekit makes of a recipe over the models in the folder."""
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    command = Path(sys.executable).with_name("mergekit-yaml")
    arguments = [str(command), f"{name}.yaml", f"out-{name}", tokenizer, "--no-write-model-card"]
    subprocess.run(arguments, cwd=folder, check=True)
    print(name, flush=True)
    return load_file(folder / f"out-{name}" / "model.safetensors")


def save(made: dict[str, dict[str, torch.Tensor]], path: Path) -> None:
    """Recipe/tensor → tensor."""
    save_file({f"{name}/{key}": tensor for name, tensors in made.items() for key, tensor in tensors.items()}, path)


if __name__ == "__main__":
    main()
