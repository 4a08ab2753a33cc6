"""Makes golden/mergekit-0.1.5.safetensors: what mergekit gives for recipes.RECIPES.

Run in an environment that has mergekit==0.1.5 and tokenizers: `python tests/parity/make_golden.py`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from models import write_models
from recipes import RECIPES
from safetensors.torch import load_file, save_file


def main() -> None:
    tensors = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder)
        for recipe_name, recipe in RECIPES.items():
            (folder / f"{recipe_name}.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
            command = Path(sys.executable).with_name("mergekit-yaml")
            out = folder / f"out-{recipe_name}"
            arguments = [str(command), f"{recipe_name}.yaml", str(out), "--no-copy-tokenizer", "--no-write-model-card"]
            subprocess.run(arguments, cwd=folder, check=True)
            tensors |= {f"{recipe_name}/{key}": tensor for key, tensor in load_file(out / "model.safetensors").items()}
            print(recipe_name, flush=True)
    golden = Path(__file__).with_name("golden")
    golden.mkdir(exist_ok=True)
    save_file(tensors, golden / "mergekit-0.1.5.safetensors")


if __name__ == "__main__":
    main()
