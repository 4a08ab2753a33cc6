"""Checks the shipped family and benchmark, with plain `transformers` alone doing the answering.

    python -m zoo.verify                 what is in src/vlmerge/demo; a few minutes on a laptop CPU
    python -m zoo.verify FOLDER BENCH    another family and benchmark

Prints the table of README.md; exits with 1 where a threshold is missed, or where two sets share a scene or pixels.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from zoo import answering, merging
from zoo.build import DEMO
from zoo.models import DECODER, parameters_of

SETS = ("search", "validation", "holdout")
LARGEST_FAMILY = 25e6
BATCH = 70


@dataclass(frozen=True)
class Threshold:
    """What the family must reach on the holdout, in character ROUGE-L (0..100)."""

    row: str
    language: str
    least: float = 0.0
    most: float = 100.0


THRESHOLDS = (
    Threshold("vlm alone", "ja", most=25),
    Threshold("ja decoder swapped in", "ja", most=75),
    Threshold("equal weights", "ja", least=74),
    Threshold("three free weights", "ja", least=83),
    Threshold("vlm alone", "en", least=90),
)


class Family:
    """The three checkpoints, loaded as anyone would load them, in float32."""

    def __init__(self, folder: Path) -> None:
        self.processor = AutoProcessor.from_pretrained(folder / "vlm")
        self.vlm = AutoModelForImageTextToText.from_pretrained(folder / "vlm", dtype=torch.float32).eval()
        own = {name: p.detach().clone() for name, p in parameters_of(self.vlm, DECODER).items()}
        self.decoders = merging.Decoders([own, *(_read_decoder(folder / name, self.processor) for name in ("ja", "base"))])

    def answer(self, folder: Path, language: str) -> dict[str, float]:
        """Asks a question set through processor, chat template and `generate`; gives the scores."""
        rows = answering.read_questions(folder)
        answers: list[str] = []
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            turns = [_turn(row[f"question_{language}"]) for row in batch]
            images = [Image.open(folder / row["image"]).convert("RGB") for row in batch]
            inputs = self.processor(
                text=[self.processor.apply_chat_template(turn) for turn in turns],
                images=images,
                padding=True,
                return_tensors="pt",
            )
            inputs.pop("token_type_ids", None)
            written = self.vlm.generate(**inputs, max_new_tokens=answering.MOST_NEW_TOKENS, do_sample=False)
            new = written[:, inputs["input_ids"].shape[1] :]
            answers += self.processor.batch_decode(new, skip_special_tokens=True)
        return answering.score(answers, [row[f"answer_{language}"] for row in rows])


def main() -> None:
    """Runs all checks and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", nargs="?", type=Path, default=DEMO)
    parser.add_argument("bench", nargs="?", type=Path, default=DEMO / "bench")
    arguments = parser.parse_args()
    faults = [*size_faults(arguments.family), *overlap_faults(arguments.bench)]
    family = Family(arguments.family)
    free = find_free_weights(family, arguments.bench)
    rows = {
        "vlm alone": merging.ALONE,
        "ja decoder swapped in": merging.SWAP,
        "equal weights": merging.EQUAL,
        "three free weights": free,
    }
    print("\nweights are (vlm, ja, base); ROUGE-L over characters / exact match\n")
    print("| row | weights | ja search | ja validation | ja holdout | en holdout |")
    print("|---|---|---|---|---|---|")
    measured: dict[tuple[str, str], float] = {}
    for name, weights in rows.items():
        family.decoders.merge_into(family.vlm, weights)
        cells = []
        for question_set, language in (*((s, "ja") for s in SETS), ("holdout", "en")):
            scores = family.answer(arguments.bench / question_set, language)
            cells.append(f"{scores['rouge_l']:.1f} / {scores['exact']:.1f}")
            measured[name, language] = scores["rouge_l"]  # the holdout comes last
        print(f"| {name} | {' '.join(f'{w:.3f}' for w in weights)} | {' | '.join(cells)} |", flush=True)
    print()
    for threshold in THRESHOLDS:
        value = measured[threshold.row, threshold.language]
        reached = threshold.least <= value <= threshold.most
        wanted = f">= {threshold.least:g}" if threshold.least else f"<= {threshold.most:g}"
        line = f"{threshold.row}, {threshold.language} holdout: {value:.2f} (wanted {wanted})"
        print(f"{'ok    ' if reached else 'MISSED'} {line}")
        if not reached:
            faults.append(line)
    sys.exit("\n".join(["", *faults]) if faults else 0)


def find_free_weights(family: Family, bench: Path) -> tuple[float, float, float]:
    """The best three free weights on the search set, Japanese (see `merging.search_global`)."""
    sheet = answering.prepare(family.vlm, bench / "search")

    def fitness(weights: Sequence[float]) -> float:
        family.decoders.merge_into(family.vlm, weights)
        answers = answering.answer(family.vlm, family.processor.tokenizer, sheet, "ja")
        return answering.score(answers, sheet.answers["ja"])["rouge_l"]

    return merging.search_global(fitness)


def size_faults(family: Path) -> list[str]:
    """Complains where the three checkpoints' weights are larger than 25 MB together."""
    size = sum(path.stat().st_size for name in ("base", "ja", "vlm") for path in (family / name).glob("*.safetensors"))
    print(f"weights of the three checkpoints: {size / 1e6:.1f} MB")
    return [f"{family}: weights are {size / 1e6:.1f} MB, expected at most 25"] if size > LARGEST_FAMILY else []


def overlap_faults(bench: Path) -> list[str]:
    """Complains where two pictures show the same scene or have the same pixels, or where a picture has no scene."""
    faults: list[str] = []
    scenes = [json.loads(line) for line in (bench / "scenes.jsonl").read_text(encoding="utf-8").splitlines()]
    recorded = {(scene["set"], scene["image"]) for scene in scenes}
    asked = {(s, row["image"]) for s in SETS for row in answering.read_questions(bench / s)}
    if recorded != asked:
        faults.append(f"scenes.jsonl and the questions differ in pictures: {sorted(recorded ^ asked)[:3]}")
    seen: dict[object, str] = {}
    for scene in scenes:
        place = f"{scene['set']}/{scene['image']}"
        with Image.open(bench / place) as picture:
            pixels = hashlib.sha256(np.asarray(picture.convert("RGB")).tobytes()).hexdigest()
        things = frozenset((thing["name"], thing["place"]) for thing in scene["things"])
        for what, key in (("scene", (things, scene["background"])), ("pixels", pixels)):
            if key in seen:
                faults.append(f"same {what}: {seen[key]} and {place}")
            seen[key] = place
    print(f"{len(scenes)} pictures in {len(SETS)} sets: {faults or 'no scene and no pixels twice'}")
    return faults


def _read_decoder(folder: Path, processor: object) -> dict[str, torch.Tensor]:
    """A language model's tensors under the VLM's names, after checking that the tokenizers agree."""
    if AutoTokenizer.from_pretrained(folder).get_vocab() != processor.tokenizer.get_vocab():
        sys.exit(f"{folder}: its vocabulary differs from the VLM's")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return {_name_in_vlm(name): p.detach().clone() for name, p in model.named_parameters()}


def _name_in_vlm(name: str) -> str:
    return f"model.language_model.{name.removeprefix('model.')}" if name.startswith("model.") else name


def _turn(question: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]


if __name__ == "__main__":
    main()
