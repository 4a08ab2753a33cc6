"""The one command: artwork, benchmark, training, export.

    python -m zoo.build                  everything, into build/zoo; needs a GPU to be done in minutes
    python -m zoo.build artwork          download, rasterise, join names (the only step that needs npm and resvg-py)
    python -m zoo.build --work build/second --shape qwen2 --seed 1 --tower src/vlmerge/demo/vlm
                                         another family: other decoders, another seed, the eyes of a finished VLM
    python -m zoo.build fresh            build/zoo/fresh/holdout: 768 more questions in the unseen artist's pictures
    python -m zoo.build base ja          single stages of training; stages whose state file is there are skipped

Nothing is written into the package unless `--ship` is given.
"""

import argparse
import os
import shutil
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by CUDA when it starts: same seed, same sums
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from transformers import AutoModelForImageTextToText

from zoo import benchmark, export, models, names_and_artwork, sources, tokenizer, train
from zoo.examples import World

DEMO = Path(__file__).parents[1] / "src" / "vlmerge" / "demo"
ARTWORK, BENCHMARK, EXPORT, FRESH = "artwork", "benchmark", "export", "fresh"


def main() -> None:
    """Parses the command line and runs the asked steps in order."""
    stages = {stage.name: stage for stage in train.RECIPE}
    steps = (ARTWORK, BENCHMARK, *stages, EXPORT)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"default: all of {' '.join(steps)}; besides: {FRESH}")
    parser.add_argument("--work", type=Path, default=Path("build/zoo"), help="downloads, states and results")
    parser.add_argument("--toy", type=int, metavar="N", help="only N steps of 8 examples per stage, to see that it runs")
    parser.add_argument("--share", type=float, default=1.0, help="only this share of each stage's steps")
    parser.add_argument("--shape", choices=models.SHAPES, default="demo", help="of the decoders")
    parser.add_argument("--seed", type=int, default=0, help="of first weights, order and augmentation")
    parser.add_argument(
        "--tower", type=Path, metavar="VLM", help="take the trained tower of this VLM; the stage vit is left out"
    )
    parser.add_argument(
        "--ship", action="store_true", help="afterwards, replace the checkpoints and the benchmark in src/vlmerge/demo"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.steps) - {*steps, FRESH}
    if unknown:
        parser.error(f"unknown step: {', '.join(sorted(unknown))} (expected some of: {' '.join(steps)} {FRESH})")
    wanted = arguments.steps or steps
    if arguments.ship and (arguments.shape, arguments.seed, arguments.share, arguments.tower) != ("demo", 0, 1.0, None):
        parser.error("--ship: the demo's family has the shape demo, seed 0, all steps and a tower of its own")

    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    work: Path = arguments.work
    sprites_file = work / "data" / "sprites.npz"
    if ARTWORK in wanted and not sprites_file.exists():
        _draw_artwork(work / "sources", sprites_file)
    concepts = names_and_artwork.load_concepts()
    sprites = np.load(sprites_file)["sprites"]
    if BENCHMARK in wanted:
        benchmark.write(work / "bench", concepts, sprites)
    if FRESH in wanted:
        benchmark.write_fresh(work / "fresh", concepts, sprites)
    world = World(concepts, tokenizer.build(concepts), benchmark.identities(concepts))
    shop = train.Workshop(world, sprites, work / "states", device, models.SHAPES[arguments.shape], arguments.seed)
    if arguments.tower and not shop.state("vit").exists():
        vlm = AutoModelForImageTextToText.from_pretrained(arguments.tower, dtype=torch.float32)
        models.save_parts(vlm, shop.state("vit"), models.TOWER)
    for name, stage in stages.items():
        if name in wanted:
            stage = replace(stage, steps=max(1, round(arguments.share * stage.steps)))
            if arguments.toy:
                stage = replace(stage, steps=arguments.toy, batch=8, examples=640)
            train.run(stage, shop)
    if EXPORT in wanted:
        export.write(shop, work / "family")
        shutil.copytree(work / "bench", work / "family" / "bench", dirs_exist_ok=True)
    if arguments.ship:
        for name in ("base", "ja", "vlm", "bench"):
            shutil.copytree(work / "family" / name, DEMO / name, dirs_exist_ok=True)


def _draw_artwork(source: Path, sprites_file: Path) -> None:
    sources.fetch(source)
    concepts = names_and_artwork.name_concepts(source)
    names_and_artwork.CONCEPTS_FILE.write_text(names_and_artwork.concepts_as_json(concepts), encoding="utf-8")
    sprites_file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(sprites_file, sprites=names_and_artwork.draw_sprites(source, concepts))


if __name__ == "__main__":
    main()
