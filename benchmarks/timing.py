"""Fair timing: variants take turns, medians are compared, and what was measured goes out as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Clock:
    """Seconds by step. `synchronise` waits for the device, where there is one that works on its own."""

    synchronise: Callable[[], None] = lambda: None
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def step(self, name: str):
        """Adds the block's wall-clock seconds to a step."""
        self.synchronise()
        start = time.perf_counter()
        yield
        self.synchronise()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


Variant = Callable[[int, Clock], Any]
"""Does the work once; gets the round's number and a clock for its steps."""


def take_turns(
    variants: Mapping[str, Variant], rounds: int, *, warm_up: int = 1, synchronise: Callable[[], None] = lambda: None
) -> dict[str, dict[str, Any]]:
    """Runs the variants in turns, so that a busy minute of the machine hits all of them.

    Args:
        variants: Name → work.
        rounds: Measured rounds, after the warm-up.
        warm_up: Rounds that are not counted.
        synchronise: Waits for the device.

    Returns:
        Name → {"seconds": median total, "spread": [fastest, slowest], "steps": medians, "rounds": all totals}.
    """
    totals: dict[str, list[float]] = {name: [] for name in variants}
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for turn in range(-warm_up, rounds):
        for name, work in variants.items():
            clock = Clock(synchronise)
            work(turn, clock)
            if turn >= 0:
                totals[name].append(sum(clock.seconds.values()))
                steps[name].append(clock.seconds)
    return {
        name: {
            "seconds": statistics.median(totals[name]),
            "spread": [min(totals[name]), max(totals[name])],
            "steps": {step: statistics.median(each[step] for each in steps[name]) for step in steps[name][0]},
            "rounds": totals[name],
        }
        for name in variants
    }


def print_table(measured: Mapping[str, Mapping[str, Any]], against: str) -> None:
    """Prints medians, their steps, and each variant's multiple of `against`."""
    columns = list(dict.fromkeys(step for each in measured.values() for step in each["steps"]))
    head = ["", "seconds", "fastest–slowest", f"× {against}", *columns]
    lines = [head]
    for name, each in measured.items():
        low, high = each["spread"]
        ratio = each["seconds"] / measured[against]["seconds"]
        cells = [f"{each['steps'][step]:.3f}" if step in each["steps"] else "–" for step in columns]
        lines.append([name, f"{each['seconds']:.3f}", f"{low:.3f}–{high:.3f}", f"{ratio:.2f}", *cells])
    print_columns(lines)


def print_columns(lines: Sequence[Sequence[str]]) -> None:
    """Prints rows of text in aligned columns, the first one to the left."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *rest]))


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    import torch
    import transformers

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def commit() -> str | None:
    """The commit that is measured: as VLMERGE_COMMIT says, else the one that is checked out; None outside a checkout."""
    named = os.environ.get("VLMERGE_COMMIT")
    if named:
        return named
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def write_json(path: Path | None, content: Mapping[str, Any]) -> None:
    """Writes the measurement with its commit and its machine, if a file was asked for."""
    if path is not None:
        content = {**content, "commit": commit(), "machine": machine()}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        print(f"written: {path}")
