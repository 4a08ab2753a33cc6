"""A whole run at LLaVA-1.5-7B's shapes, from checkpoints on disk: `vlmerge evolve` with 104 candidates, 50 questions each.

Random weights (see `llava_7b_checkpoints.py`) and pictures of noise; everything else is a real run: its own process, its
baselines, validation, holdout, the merge to disk at its end. What the record says of it is printed: seconds from the start to
the first candidate (loading included), of all searched candidates, and of what comes after.

    python benchmarks/llava_7b_run.py FOLDER                    41 GB of checkpoints, 14 GB of result
    python benchmarks/llava_7b_run.py FOLDER --tiny --candidates 6
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import torch
from llava_7b import REFERENCE, invent_questions
from llava_7b_checkpoints import REAL, TINY, build
from timing import write_json

SPLITS = {"search": 50, "validation": 10, "holdout": 10}


def main() -> None:
    options = arguments()
    sizes = TINY if options.tiny else REAL
    paths = build(options.folder, sizes, getattr(torch, options.dtype))
    for split, count in SPLITS.items():
        write_questions(options.folder / split, count, sizes.picture, split)
    out = options.folder / "run"
    if out.exists():
        shutil.rmtree(out)
    start = time.time()
    command = [sys.executable, "-m", "vlmerge", "evolve", str(write_run(options, paths)), "--out", str(out)]
    subprocess.run(command, check=True)
    wall = time.time() - start
    found = read_record(out, start) | {"process": wall}
    print(json.dumps(found, indent=2))
    write_json(options.json, {"seconds": found, "tiny": options.tiny})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the random checkpoints are, or will be")
    parser.add_argument("--tiny", action="store_true", help="toy shapes, to try the program out")
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="float16")
    parser.add_argument("--candidates", type=int, default=104)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--json", type=Path, help="write the measurement here as well")
    return parser.parse_args()


def write_questions(folder: Path, count: int, edge: int, split: str) -> None:
    """JSON lines with pictures beside."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    for number, question in enumerate(invent_questions(count, edge, 64, seed=split)):
        (folder / f"{number}.png").write_bytes(question.pictures[0].data or b"")
        row = {"id": question.id, "question": question.text, "answer": REFERENCE, "image": f"{number}.png"}
        lines.append(json.dumps(row, ensure_ascii=False))
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_run(options: argparse.Namespace, paths: dict[str, Path]) -> Path:
    """The run's file: one weight per model and group of layers, as vlmerge searches by default."""
    tasks = {split: [{"name": str(options.folder / split / "questions.jsonl"), "metric": "char_rougeL"}] for split in SPLITS}
    run = {
        "merge": {"models": [str(paths[name]) for name in ("host", "ja", "base")], "base_model": str(paths["base"])},
        "tasks": tasks["search"],
        "validation": tasks["validation"],
        "holdout": tasks["holdout"],
        "search": {"max_fevals": options.candidates},
        "decoding": {"max_new_tokens": options.new_tokens},
    }
    path = options.folder / "run.yaml"
    path.write_text(json.dumps(run, indent=2))
    return path


def read_record(out: Path, start: float) -> dict[str, float]:
    """Seconds by part, from the times at which trials were finished."""
    connection = sqlite3.connect(out / "run.sqlite")
    rows = connection.execute("SELECT stage, finished_at, seconds FROM trials ORDER BY finished_at").fetchall()
    connection.close()
    clock = [datetime.fromisoformat(finished).timestamp() for _, finished, _ in rows]
    searched = [number for number, (stage, _, _) in enumerate(rows) if stage is not None]
    first, last = searched[0], searched[-1]
    parts = [json.loads(rows[number][2]) for number in searched]
    found = {"until the first searched candidate": clock[first] - start, "searched candidates": float(len(searched))}
    found["their seconds"] = clock[last] - (clock[first - 1] if first else start)
    # A candidate that failed was not asked anything.
    for name in max(parts, key=len):
        found[f"{name}, median"] = statistics.median(part[name] for part in parts if name in part)
    return found


if __name__ == "__main__":
    main()
