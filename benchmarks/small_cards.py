"""Candidates at LLaVA-1.5-7B's shapes on smaller cards: the GPU's allocator and the host's memory are capped.

For each card a process of its own, with random checkpoints (see `llava_7b_checkpoints.py`): what `vlmerge` plans there, what it
takes, and seconds per candidate. The link between host and card is this machine's.

    python benchmarks/small_cards.py FOLDER                     on a GPU; T4 and A100 as Colab has them, 24 and 40 GB
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from llava_7b import invent_questions, recipe_of, weights_of
from llava_7b_checkpoints import REAL, TINY, build
from timing import print_columns, write_json

from vlmerge.merge import prepare
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.runtime.room import CONTEXT, Machine, needs_of, plan_room
from vlmerge.types import Decoding

CARDS = {"T4 on Colab": (15.6, 12.7), "24 GB": (25.2, 60.0), "A100 on Colab": (42.0, 83.0), "80 GB": (84.0, 120.0)}
"""Free gigabytes of the card and of its host."""


def main() -> None:
    options = arguments()
    if options.one is not None:
        measure(options)
        return
    build(options.folder, TINY if options.tiny else REAL, torch.float16)
    found: dict[str, object] = {}
    lines = [["", "rows", "card", "pinned", "mapped", "load s", "merge s", "answer s", "device GB", "host's own GB"]]
    # As the command line sets it.
    environment = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"} | os.environ
    for name in options.cards:
        command = [sys.executable, *sys.argv, "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            print(f"{name}: failed\n{done.stderr[-2000:]}", flush=True)
            continue
        each = json.loads(done.stdout.splitlines()[-1])
        found[name] = each
        homes = [f"{each['parents'][home] / 1e9:.1f}" for home in ("card", "host", "file")]
        numbers = [f"{each[key]:.2f}" for key in ("load", "merge", "answer", "device_gb", "anonymous_gb")]
        lines.append([name, str(each["batch_size"]), *homes, *numbers])
        print(json.dumps({name: each}), flush=True)
    print_columns(lines)
    write_json(options.json, {"cards": found})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the random checkpoints are, or will be (41 GB)")
    parser.add_argument("--cards", nargs="+", choices=list(CARDS), default=list(CARDS))
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="toy shapes, to try the program out")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="write the measurement here as well")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> None:
    """One card, in this process; prints one JSON object."""
    card, host = (int(gigabytes * 1e9) for gigabytes in CARDS[options.one])
    small = Machine(card, host, options.one)
    on_gpu = torch.cuda.is_available()
    if on_gpu:  # The context is outside of what torch allocates.
        free, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(min(1.0, min(card - CONTEXT // 2, free) / total))
    paths = build(options.folder, TINY if options.tiny else REAL, torch.float16)
    prepared = prepare(recipe_of(paths, weights_of(0), "float16"))
    placement = choose_placement(host_dtype="float16", models=prepared, machine=small)
    room = plan_room(needs_of(prepared.checkpoints, prepared.anatomies, prepared.host, 2), small, placement.batch_size)
    start = time.perf_counter()
    live = LiveModel.load(prepared, placement, machine=small)
    loaded = time.perf_counter() - start
    questions = invent_questions(options.questions, (TINY if options.tiny else REAL).picture, 64)
    merges: list[float] = []
    answers: list[float] = []
    for turn in range(options.rounds):
        start = time.perf_counter()
        live.merge(recipe_of(paths, weights_of(turn), "float16"))
        merges.append(time.perf_counter() - start)
        start = time.perf_counter()
        list(live.answer(questions, Decoding(max_new_tokens=64)))
        answers.append(time.perf_counter() - start)
    status = Path("/proc/self/status").read_text()
    anonymous = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon"))
    found = {
        "plan": room.lines(options.one),
        "batch_size": placement.batch_size,
        "batch_size_in_the_end": live.batch_size,
        "plain_because": live.plain_because,
        "parents": dict(room.bytes),
        "load": loaded,
        "merge": min(merges[1:] or merges),
        "merges": merges,
        "answer": min(answers[1:] or answers),
        "answers": answers,
        "device_gb": torch.cuda.max_memory_reserved() / 1e9 if on_gpu else 0.0,
        "anonymous_gb": anonymous / 1e9,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
