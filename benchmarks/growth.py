"""How costs grow: with the weights, with the questions, with the dimensions of the search.

- Weights ×1, ×4, ×16 of a random Llama decoder (three parents): a merge in place and a merge to disk.
- 50, 200, 800 questions on the demo family: a candidate, and each question of it.
- 24, 240, 1000 search dimensions: what a candidate costs besides its model (see search_costs.py), beside a model that takes
  1.6 seconds. The goal at 240 is one percent of that.

    python benchmarks/growth.py --json out.json       4 minutes on 2 cores, 4 GB of disk for a while
    python benchmarks/growth.py --tiny                toy sizes, to try the program out
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any

from candidate import Ours
from merge_to_disk import NAMES, build
from search_costs import PARTS, QUESTIONS, SPACES, Space, measure
from timing import Clock, print_columns, take_turns, write_json

from vlmerge.config.model_ref import ModelRef
from vlmerge.config.recipe import Recipe, parse_recipe
from vlmerge.config.run import TaskSpec
from vlmerge.merge import merge, prepare
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.tasks import load_task

CANDIDATE_SECONDS, SHARE = 1.6, 0.01
"""What a candidate's model takes on a GPU at 7B, and the share of it that search, store and page may cost."""

DECODERS = {
    "×1": {"layers": 2, "hidden": 256, "middle": 704, "heads": 4, "kv": 4},
    "×4": {"layers": 12, "hidden": 512, "middle": 1408, "heads": 8, "kv": 8},
    "×16": {"layers": 17, "hidden": 1024, "middle": 2816, "heads": 16, "kv": 16},
}
TINY_DECODERS = {
    "×1": {"layers": 1, "hidden": 16, "middle": 32, "heads": 2, "kv": 2},
    "×2": {"layers": 2, "hidden": 32, "middle": 64, "heads": 2, "kv": 2},
}


def main() -> None:
    options = arguments()
    decoders = TINY_DECODERS if options.tiny else DECODERS
    asked = (4, 8) if options.tiny else (50, 200, 800)
    spaces = SPACES[:1] if options.tiny else SPACES
    content = {
        "weights": grow_weights(decoders, options.rounds),
        "questions": grow_questions(asked, options.rounds),
        "dimensions": grow_dimensions(spaces, 26 if options.tiny else 100, min(3, options.rounds)),
    }
    write_json(options.json, content)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="toy sizes")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds, of the searches at most 3; the median counts")
    parser.add_argument("--json", type=Path, help="write the measurement here as well")
    return parser.parse_args()


# ── weights ──


def grow_weights(decoders: Mapping[str, Mapping[str, int]], rounds: int) -> list[dict[str, Any]]:
    """Merges of three random decoders of each size, in place and to disk."""
    with tempfile.TemporaryDirectory() as folder:
        merges = {name: Merges(Path(folder) / name, sizes) for name, sizes in decoders.items()}
        in_place = take_turns({name: each.in_place for name, each in merges.items()}, rounds)
        to_disk = take_turns({name: each.to_disk for name, each in merges.items()}, rounds)
        found = [
            {
                "name": name,
                "weights": each.weights,
                "in_place": in_place[name],
                "to_disk": to_disk[name],
            }
            for name, each in merges.items()
        ]
    lines = [["weights", "millions", "in place s", "slope", "to disk s", "slope", "disk GB/s"]]
    for each in found:
        more = each["weights"] / found[0]["weights"]
        cells: list[str] = []
        for kind in ("in_place", "to_disk"):
            seconds = each[kind]["seconds"]
            cells += [f"{seconds:.3f}", slope(more, "weights", seconds / found[0][kind]["seconds"])]
        rate = 2 * each["weights"] / each["to_disk"]["seconds"] / 1e9
        lines.append([each["name"], f"{each['weights'] / 1e6:.1f}", *cells, f"{rate:.2f}"])
    show("linear, three parents in bfloat16", lines)
    return found


class Merges:
    """Three decoders of one size, open and loaded."""

    def __init__(self, folder: Path, sizes: Mapping[str, int]) -> None:
        self._folder = folder
        self._paths = build(folder, sizes)
        self._prepared = prepare(self._recipe(0))
        host = self._prepared.anatomies[self._prepared.host]
        self.weights = host.parameters
        self._live = LiveModel.load(self._prepared, choose_placement(device="cpu", host_dtype="bfloat16", facts=host.facts))

    def _recipe(self, turn: int) -> Recipe:
        weights = (0.5 + 0.01 * (turn % 5), 0.65, -0.03)  # Others in every round.
        models = [
            {"model": ModelRef(str(self._paths[name])), "parameters": {"weight": weight}}
            for name, weight in zip(NAMES, weights, strict=True)
        ]
        data = {"merge_method": "linear", "models": models, "parameters": {"normalize": False}, "dtype": "bfloat16"}
        return parse_recipe(data, "the benchmark")

    def in_place(self, turn: int, clock: Clock) -> None:
        recipe = self._recipe(turn)
        with clock.step("merge"):
            self._live.merge(recipe)

    def to_disk(self, turn: int, clock: Clock) -> None:
        out = self._folder / "out"
        recipe = self._recipe(turn)
        os.sync()
        with clock.step("merge"):
            merge(recipe, out, prepared=self._prepared)
        shutil.rmtree(out)


# ── questions ──


def grow_questions(counts: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Candidates of the demo family on more and more of all its questions."""
    demo = Path(str(resources.files("vlmerge"))) / "demo"
    fields = {"question": "question_ja", "answer": "answer_ja"}
    tasks = [
        load_task(TaskSpec(name=str(demo / f"bench/{split}/questions.jsonl"), fields=fields, metric="char_rougeL"))
        for split in ("search", "validation", "holdout")
    ]
    # The sets count their questions alike, and answers are told apart by the questions' names.
    questions = [
        replace(question, id=f"{place}:{question.id}") for place, task in enumerate(tasks) for question in task.questions()
    ]
    ours = Ours(demo, questions[: max(counts)], tasks[0])

    def candidate(count: int) -> Any:
        def work(turn: int, clock: Clock) -> None:
            ours.questions = questions[:count]
            ours.candidate(turn, clock)

        return work

    measured = take_turns({str(count): candidate(count) for count in counts}, rounds)
    found = [{"questions": count, **measured[str(count)]} for count in counts]
    lines = [["questions", "s per candidate", "slope", "ms per question", "merge s"]]
    for each in found:
        seconds = each["seconds"]
        more = each["questions"] / found[0]["questions"]
        grown = slope(more, "questions", seconds / found[0]["seconds"])
        per_question, merging = 1e3 * seconds / each["questions"], each["steps"]["merge"]
        lines.append([str(each["questions"]), f"{seconds:.2f}", grown, f"{per_question:.1f}", f"{merging:.3f}"])
    show("the demo family", lines)
    return found


# ── dimensions ──


def grow_dimensions(spaces: Sequence[Space], candidates: int, rounds: int) -> list[dict[str, Any]]:
    """What search, store and page cost for each candidate."""
    tried: dict[int, list[dict[str, Any]]] = {space.genes: [] for space in spaces}
    for _ in range(rounds):
        for space in spaces:
            tried[space.genes].append(measure(space, candidates, CANDIDATE_SECONDS))
    found: list[dict[str, Any]] = []
    for genes, each in tried.items():
        middle = sorted(each, key=lambda one: one["seconds"])[len(each) // 2]
        parts = {part: median(one["parts"][part] for one in each) for part in PARTS}
        found.append({**middle, "genes": genes, "parts": parts, "rounds": [one["seconds"] for one in each]})
    lines = [["dimensions", "ms per candidate", "slope", "of 1.6 s", *PARTS, "pages", "s per page"]]
    for each in found:
        more, seconds = each["genes"] / found[0]["genes"], each["seconds"]
        grown = slope(more, "dimensions", seconds / found[0]["seconds"])
        share = f"{seconds / CANDIDATE_SECONDS:.2%}"
        parts = [f"{1e3 * each['parts'][part]:.2f}" for part in PARTS]
        pages = [f"{each['pages']} in {each['candidates']}", f"{each['page_seconds']:.2f}"]
        lines.append([str(each["genes"]), f"{1e3 * seconds:.1f}", grown, share, *parts, *pages])
    show(f"{QUESTIONS} answers per candidate, no model (goal at 240: {1e3 * SHARE * CANDIDATE_SECONDS:.0f} ms)", lines)
    return found


# ── tables ──


def slope(more: float, of: str, longer: float) -> str:
    """`×16.0 weights: ×15.2 seconds`; the first size has none."""
    return "–" if more == 1 else f"×{more:.1f} {of}: ×{longer:.1f}"


def show(title: str, lines: Sequence[Sequence[str]]) -> None:
    print(f"{title}\n")
    print_columns(lines)
    print(flush=True)


if __name__ == "__main__":
    main()
