"""Searches side by side at equal budgets, several seeds each, through the product's own command.

Every run is an ordinary run folder under --out; what is finished there is not done again, so that the comparison can be stopped
and gone on with, on another machine too. --jobs runs go at the same time (on a GPU several share the card).

    python benchmarks/search/compare.py --out runs/bench/search --seeds 5
    python benchmarks/search/compare.py --out runs/bench/search --seeds 5 --jobs 12 --device cuda
    python benchmarks/search/compare.py --out runs/bench/search --table      # only the table of what is there
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from settings import CANDIDATES, DEMO, SETTINGS, VARIANTS, Family, Setting
from table import HAND_SET, Line, curve, line, markdown

REFERENCE, GLOBAL = "vlmerge", "global"


@dataclass(frozen=True)
class Job:
    """One run: a setting with a seed."""

    name: str
    seed: int
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether its winner was written."""
        return (self.folder / "model" / "config.json").is_file()


def main() -> int:
    """Runs what is missing, then prints the table; 1 if a run failed."""
    options = _options()
    name = options.family.name if options.holdout is None else f"{options.family.name}-{options.holdout.parent.name}"
    family = Family(name, options.family, options.holdout)
    known = {**SETTINGS, **VARIANTS}
    names = options.only or list(SETTINGS)
    root = options.out / family.name
    jobs = _jobs(root, names, options.seeds)
    failed = 0
    if not options.table:
        deadline = time.monotonic() + options.minutes * 60 if options.minutes else None
        with ThreadPoolExecutor(options.jobs) as pool:
            codes = pool.map(lambda job: _run(job, known[job.name], family, options, deadline), jobs)
            failed = sum(bool(code) for code in codes)
    _report(root, _jobs(root, known, options.seeds), known)
    return 1 if failed else 0


def _jobs(root: Path, names: Iterable[str], seeds: int) -> list[Job]:
    """Every setting with the first seed, then with the next."""
    return [Job(name, seed, root / f"{name}-{seed}") for seed in range(1, seeds + 1) for name in names]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/search"), help="where the runs go")
    parser.add_argument("--family", type=Path, default=DEMO, help="a folder with vlm, ja, base and bench (default: the demo's)")
    parser.add_argument("--holdout", type=Path, help="questions to report instead: a folder (zoo.build's fresh/holdout)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=[*SETTINGS, *VARIANTS], help="settings (default: those of the table)")
    parser.add_argument("--candidates", type=int, default=CANDIDATES, help="searched candidates of each run")
    parser.add_argument("--limit", type=int, help="questions of each set at most: to see that everything runs")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2)), help="CPU threads of all runs together")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--minutes", type=float, help="begin no run after so many minutes")
    parser.add_argument("--table", action="store_true", help="run nothing: print what is there")
    return parser.parse_args()


def _run(job: Job, setting: Setting, family: Family, options: argparse.Namespace, deadline: float | None) -> int:
    if job.finished or (deadline is not None and time.monotonic() > deadline):
        return 0
    threads = max(1, options.threads // options.jobs)
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    file = job.folder.with_suffix(".yaml")
    file.write_text(
        setting.run(family, job.seed, options.candidates, {"device": options.device, "threads": threads}, options.limit)
    )
    started = time.monotonic()
    command = [sys.executable, "-m", "vlmerge", "evolve", str(file), "--out", str(job.folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with job.folder.with_suffix(".log").open("w") as log:
        left = None if deadline is None else max(1.0, deadline - time.monotonic())
        try:
            code = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, timeout=left, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = 0  # Stopped by the clock: the next call goes on there.
    print(f"{job.name}, seed {job.seed}: {'done' if job.finished else f'not finished (exit {code})'} "
          f"after {time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
    return code


def _report(root: Path, jobs: Sequence[Job], known: Mapping[str, Setting]) -> None:
    finished: dict[str, dict[int, Path]] = {}
    for job in jobs:
        if job.finished:
            finished.setdefault(job.name, {})[job.seed] = job.folder
    references = finished.get(REFERENCE, {})
    lines: list[Line] = []
    for name, runs in finished.items():
        seeds = [seed for seed in runs if seed in references]
        folders, against = [runs[seed] for seed in seeds], [references[seed] for seed in seeds]
        title = known[name].title or name
        for row in dict.fromkeys([known[name].reports, "mean"]):
            found = line(f"{title} ({row})", folders, row, against, GLOBAL)
            lines += [found] if found else []
    folders = list(references.values())
    for row in (GLOBAL, *HAND_SET):
        found = line(row, folders, row, folders, GLOBAL)
        lines += [found] if found else []
    if not lines:
        print(f"nothing is finished in {root} yet (the table needs runs of the setting {REFERENCE})")
        return
    print(markdown(lines))
    curves = {name: {seed: curve(folder) for seed, folder in runs.items()} for name, runs in finished.items()}
    (root / "comparison.json").write_text(json.dumps({"lines": [asdict(each) for each in lines], "curves": curves}, indent=1))
    _draw(root / "curves.png", curves, known)


def _draw(path: Path, curves: Mapping[str, Mapping[int, Sequence[tuple[int, float]]]], known: Mapping[str, Setting]) -> None:
    """Best score so far against questions asked, mean over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for name, by_seed in curves.items():
        shortest = min(map(len, by_seed.values()))
        asked = [sum(points[at][0] for points in by_seed.values()) / len(by_seed) for at in range(shortest)]
        best = [sum(points[at][1] for points in by_seed.values()) / len(by_seed) for at in range(shortest)]
        axes.plot(asked, best, label=known[name].title or name)
    lowest = min(points[-1][1] for by_seed in curves.values() for points in by_seed.values())
    axes.set(
        xlabel="questions asked in the search", ylabel="best score on the search questions so far", ylim=(lowest - 5, None)
    )
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
