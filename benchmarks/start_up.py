"""Start-up times: whole processes, from the first instruction to the exit, with Python's own start beside them.

- `vlmerge --help`;
- `vlmerge check` of a recipe with LLaVA-1.5-7B and two Llama-2-7B decoders: three configs, tokenizers and headers of the real
  sizes, in files whose weights are holes (10 MB of disk, gone afterwards);
- `python -c 'import vlmerge'`.

    python benchmarks/start_up.py --rounds 9 --json out.json
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml
from sparse_checkpoints import build
from timing import Clock, print_columns, take_turns, write_json

GOALS = {"vlmerge --help": 0.4, "vlmerge check": 1.5}
"""Seconds."""


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        recipe = write_recipe(Path(folder))
        program = [sys.executable, "-m", "vlmerge"]
        commands = {
            "python": [sys.executable, "-c", "pass"],
            "import vlmerge": [sys.executable, "-c", "import vlmerge"],
            "vlmerge --help": [*program, "--help"],
            "vlmerge check": [*program, "check", str(recipe)],
        }
        # An installed package has its bytecode: here the warm-up round writes it, into a folder that goes away.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = f"{folder}/bytecode"
        variants = {name: lambda _, clock, c=command: run(c, environment, clock) for name, command in commands.items()}
        measured = take_turns(variants, options.rounds)
    lines = [["", "seconds", "fastest–slowest", "goal"]]
    for name, each in measured.items():
        low, high = each["spread"]
        lines.append([name, f"{each['seconds']:.3f}", f"{low:.3f}–{high:.3f}", f"{GOALS[name]:.1f}" if name in GOALS else "–"])
    print(f"whole processes, {options.rounds} rounds by turns, medians, {os.cpu_count()} cores\n")
    print_columns(lines)
    write_json(options.json, {"variants": measured, "goals": GOALS})
    missed = [name for name, goal in GOALS.items() if measured[name]["seconds"] > goal]
    if missed:
        raise SystemExit(f"slower than the goal: {', '.join(missed)}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds; the median counts")
    parser.add_argument("--json", type=Path, help="write the measurement here as well")
    return parser.parse_args()


def write_recipe(folder: Path) -> Path:
    """The models and a weighted sum of them."""
    weights = {"host": 0.5, "ja": 0.6, "base": -0.1}
    paths = build(folder)
    models = [{"model": str(paths[name]), "parameters": {"weight": weight}} for name, weight in weights.items()]
    path = folder / "recipe.yaml"
    recipe = {"merge_method": "linear", "models": models, "parameters": {"normalize": False}, "dtype": "float16"}
    path.write_text(yaml.safe_dump(recipe))
    return path


def run(command: list[str], environment: Mapping[str, str], clock: Clock) -> None:
    with clock.step("process"):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
