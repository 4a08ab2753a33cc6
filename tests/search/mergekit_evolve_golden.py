"""Writes golden/mergekit_evolve.json: what mergekit-evolve 0.1.5 itself makes of genomes.

Run it where mergekit 0.1.5 is installed (it need not be where vlmerge is):

    python tests/search/mergekit_evolve_golden.py
"""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden" / "mergekit_evolve.json"
LAYERS = 8
THREE = {"models": ["a", "b", "c"], "base_model": "c"}
LINEAR = {**THREE, "merge_method": "linear"}
ARITHMETIC = {"models": ["a", "b"], "base_model": "c", "merge_method": "task_arithmetic"}
# name → (genome block, number of random genomes)
BLOCKS: dict[str, tuple[dict[str, Any], int]] = {
    "the published experiment": ({**LINEAR, "layer_granularity": 4, "allow_negative_weights": True}, 10),
    "one group": (LINEAR, 2),
    "granularity 0": ({**LINEAR, "layer_granularity": 0}, 1),
    "granularity below 0": ({**LINEAR, "layer_granularity": -1}, 1),
    "a group for each layer": ({**LINEAR, "layer_granularity": 1}, 1),
    "no base": ({"models": ["a", "b"], "merge_method": "linear", "layer_granularity": 4}, 2),
    "absolute values": ({**LINEAR, "layer_granularity": 4}, 2),
    "not normalised": ({**LINEAR, "layer_granularity": 4, "normalize": False}, 2),
    "filters": ({**LINEAR, "layer_granularity": 4, "filters": ["self_attn", "mlp"]}, 2),
    "smooth": ({**LINEAR, "layer_granularity": 2, "smooth": True}, 2),
    "smooth with one group": ({**LINEAR, "smooth": True}, 1),
    "smooth with filters": (
        {**LINEAR, "layer_granularity": 4, "smooth": True, "filters": ["mlp"], "allow_negative_weights": True},
        2,
    ),
    "task arithmetic": ({**ARITHMETIC, "layer_granularity": 4}, 2),
    "task arithmetic, base listed": ({**ARITHMETIC, **THREE, "layer_granularity": 4, "normalize": True}, 2),
    "task arithmetic, smooth": ({**ARITHMETIC, "smooth": True, "layer_granularity": 4}, 2),
    "slerp": ({"models": ["a", "b"], "merge_method": "slerp", "layer_granularity": 4}, 3),
    "slerp of three, base listed": ({**THREE, "merge_method": "slerp", "layer_granularity": 2}, 4),
}


@contextlib.contextmanager
def models() -> Iterator[None]:
    """A folder with model folders a, b and c that say how deep they are, as the working folder."""
    with tempfile.TemporaryDirectory() as folder:
        for name in "abc":
            config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": LAYERS}
            (Path(folder) / name).mkdir()
            (Path(folder) / name / "config.json").write_text(json.dumps(config))
        with contextlib.chdir(folder):
            yield


def mergekit_recipe(block: dict[str, Any], genes: list[float]) -> dict[str, Any]:
    """The merge config that mergekit-evolve makes of a genome; the working folder has the models."""
    import numpy as np
    from mergekit.evo.genome import ModelGenome, ModelGenomeDefinition

    genome = ModelGenome(ModelGenomeDefinition.model_validate(block))
    return genome.genotype_merge_config(np.array(genes)).model_dump(mode="json", exclude_none=True)


def mergekit_start(block: dict[str, Any]) -> list[float]:
    """The genome at which mergekit-evolve begins."""
    from mergekit.evo.genome import ModelGenome, ModelGenomeDefinition

    genome = ModelGenome(ModelGenomeDefinition.model_validate(block))
    return [float(gene) for gene in genome.initial_genotype().view(-1).numpy()]


def main() -> None:
    """Draws the genomes and writes the file."""
    generator = random.Random(1)
    cases: list[dict[str, Any]] = []
    with models():
        for name, (block, count) in BLOCKS.items():
            start = mergekit_start(block)
            genomes = [[generator.gauss(0.3, 0.5) for _ in start] for _ in range(count)]
            pairs = [{"genes": genes, "recipe": mergekit_recipe(block, genes)} for genes in genomes]
            cases.append({"name": name, "layers": LAYERS, "genome": block, "start": start, "decoded": pairs})
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
