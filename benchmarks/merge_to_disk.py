"""Merging to disk: vlmerge beside mergekit 0.1.5 and beside `cp`, whole processes, three decoders of 1.1 billion weights.

Three random Llama decoders in bfloat16 (TinyLlama's shapes, 2.2 GB each, kept for the next time) are merged by linear, slerp
and TIES. mergekit gets an environment of its own, made here, and runs with its default flags and with the fastest ones that
were found. Every variant is a fresh process; variants take turns. Measured are wall clock, CPU seconds, the largest resident
set (with the mapped files) and the largest anonymous memory (without). "In process" is vlmerge's second merge of a process, by
that process's own clocks: without the start of Python and the loading of libraries. Its memory is that of both merges.

vlmerge waits until its result is on the disk; mergekit and cp leave that to the system, and may be done long before. On a disk
that is slower than the merge, what vlmerge takes is what the disk takes: compare it with "cp, put on the disk". A folder in
memory (a tmpfs) takes the disk out of the comparison.

    python benchmarks/merge_to_disk.py FOLDER --rounds 5 --json out.json     20 GB of disk; TIES in mergekit takes minutes
    python benchmarks/merge_to_disk.py FOLDER --tiny --rounds 1              the same program at toy shapes
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from llava_7b_checkpoints import PLAIN_ROWS, write_json_file, write_shards, write_tokenizer
from timing import print_columns, write_json

REAL = {"layers": 22, "hidden": 2048, "middle": 5632, "heads": 32, "kv": 4}
TINY = {"layers": 2, "hidden": 64, "middle": 128, "heads": 4, "kv": 2}
NAMES = ("base", "one", "two")
FASTEST = ["--async-write", "--write-threads", "2", "--num-threads", "2", "--no-write-model-card", "--quiet"]
"""mergekit's fastest flags on two cores, of those that change nothing about the weights."""
SECONDS = "seconds of the merge: "


@dataclass(frozen=True)
class Cost:
    """One process: seconds of wall clock and CPU, largest resident set and anonymous memory in bytes."""

    wall: float
    cpu: float
    resident: int
    anonymous: int


def main() -> None:
    options = arguments()
    if options.in_process:
        merge_twice(options.folder, options.out)
        return
    paths = build(options.folder, TINY if options.tiny else REAL)
    mergekit = None if options.without_mergekit else mergekit_environment(options.folder)
    measured: dict[str, dict[str, list[Cost]]] = {}
    for method in options.methods:
        recipe = write_recipe(options.folder, method, paths)
        out = options.folder / "out"
        variants: dict[str, list[str]] = {"vlmerge": [sys.executable, "-m", "vlmerge", "merge", str(recipe), str(out)]}
        # The policy is what `vlmerge merge` chooses for itself.
        own = ["env", "OMP_WAIT_POLICY=PASSIVE", sys.executable]
        variants["vlmerge, in process"] = [*own, __file__, "--in-process", str(recipe), str(out)]
        if mergekit is not None:
            program = [str(mergekit), str(recipe), str(out)]
            variants |= {"mergekit": program, "mergekit, fastest flags": [*program, *FASTEST]}
        variants["cp of the result"] = ["cp", "-r", str(options.folder / "result"), str(out)]
        put = 'cp -r "$0" "$1" && sync "$1"/*'
        variants["cp, put on the disk"] = ["sh", "-c", put, str(options.folder / "result"), str(out)]
        costs: dict[str, list[Cost]] = {name: [] for name in variants}
        for turn in range(-1, options.rounds):
            for name, command in variants.items():
                if turn >= options.rounds_of_mergekit and name.startswith("mergekit"):
                    continue
                shutil.rmtree(out, ignore_errors=True)
                os.sync()
                cost = run(command, options.threads)
                if turn >= 0:
                    costs[name].append(cost)
                    print(f"{method} {turn + 1} {name}: {cost.wall:.2f} s", flush=True)
                if name == "vlmerge" and turn < 0:  # The round that warms caches and compiles kernels.
                    shutil.rmtree(options.folder / "result", ignore_errors=True)
                    out.rename(options.folder / "result")
        shutil.rmtree(out, ignore_errors=True)
        measured[method] = costs
        show(method, costs)
    write_json(options.json, {"tiny": options.tiny, "measured": plain(measured)})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the random checkpoints and mergekit's environment are, or will be")
    parser.add_argument("--tiny", action="store_true", help="toy shapes, to try the program out")
    parser.add_argument("--methods", nargs="+", choices=["linear", "slerp", "ties"], default=["linear", "slerp", "ties"])
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds; the median counts")
    parser.add_argument("--rounds-of-mergekit", type=int, default=1000, help="fewer for mergekit, whose TIES takes minutes")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads for everyone")
    parser.add_argument("--without-mergekit", action="store_true")
    parser.add_argument("--json", type=Path, help="write the measurement here as well")
    parser.add_argument("out", type=Path, nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def build(folder: Path, sizes: Mapping[str, int]) -> dict[str, Path]:
    """Random decoders that share their ancestor and differ from it by a little."""
    made: dict[str, Path] = {}
    for number, name in enumerate(NAMES):
        path = made[name] = folder / name
        if (path / "complete").exists():
            continue
        path.mkdir(parents=True, exist_ok=True)
        shared, own = torch.Generator().manual_seed(1), torch.Generator().manual_seed(100 + number)

        def noise(shape: tuple[int, ...], shared: torch.Generator = shared, own: torch.Generator = own) -> torch.Tensor:
            if len(shape) == 1:
                return torch.ones(shape, dtype=torch.bfloat16)
            ancestor = torch.empty(shape).normal_(0, 0.02, generator=shared)
            return ancestor.add_(torch.empty(shape).normal_(0, 0.002, generator=own)).bfloat16()

        write_shards(path, ((tensor, noise(shape)) for tensor, shape in shapes(sizes)))
        write_json_file(path / "config.json", config(sizes))
        write_tokenizer(path, is_host=False)
        (path / "complete").touch()
    return made


def shapes(s: Mapping[str, int]) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a Llama decoder whose query heads share keys."""
    keys = s["hidden"] // s["heads"] * s["kv"]
    found: list[tuple[str, tuple[int, ...]]] = [("model.embed_tokens.weight", (PLAIN_ROWS, s["hidden"]))]
    for layer in range(s["layers"]):
        at = f"model.layers.{layer}"
        found += [(f"{at}.self_attn.{name}_proj.weight", (rows, s["hidden"]))
                  for name, rows in (("q", s["hidden"]), ("k", keys), ("v", keys), ("o", s["hidden"]))]  # fmt: skip
        found += [(f"{at}.mlp.{name}_proj.weight", (s["middle"], s["hidden"])) for name in ("gate", "up")]
        found += [(f"{at}.mlp.down_proj.weight", (s["hidden"], s["middle"]))]
        found += [(f"{at}.{name}.weight", (s["hidden"],)) for name in ("input_layernorm", "post_attention_layernorm")]
    return [*found, ("model.norm.weight", (s["hidden"],)), ("lm_head.weight", (PLAIN_ROWS, s["hidden"]))]


def config(s: Mapping[str, int]) -> dict[str, Any]:
    """As the hub's files have it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": s["hidden"],
        "intermediate_size": s["middle"],
        "max_position_embeddings": 2048,
        "num_attention_heads": s["heads"],
        "num_hidden_layers": s["layers"],
        "num_key_value_heads": s["kv"],
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": PLAIN_ROWS,
    }


def write_recipe(folder: Path, method: str, paths: Mapping[str, Path]) -> Path:
    """One file that both programs read."""
    base, one, two = (str(paths[name].absolute()) for name in NAMES)
    if method == "slerp":
        recipe: dict[str, Any] = {"models": [{"model": base}, {"model": one}], "base_model": base, "parameters": {"t": 0.4}}
    elif method == "linear":
        weights = ((base, 0.2), (one, 0.5), (two, 0.4))
        recipe = {"models": [{"model": model, "parameters": {"weight": weight}} for model, weight in weights]}
    else:
        parameters = ({"weight": 0.6, "density": 0.4}, {"weight": 0.5, "density": 0.6})
        models = [{"model": model, "parameters": each} for model, each in zip((one, two), parameters, strict=True)]
        recipe = {"models": models, "base_model": base}
    path = folder / f"{method}.yaml"
    path.write_text(yaml.safe_dump({"merge_method": method, **recipe, "dtype": "bfloat16"}))
    return path


def mergekit_environment(folder: Path) -> Path:
    """mergekit's program in an environment of its own, made once."""
    home = folder / "mergekit-environment"
    program = home / "bin" / "mergekit-yaml"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pins = [f"torch=={torch.__version__.split('+')[0]}", "mergekit==0.1.5"]
        subprocess.run([str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *pins], check=True)
    return program


def merge_twice(recipe: Path, out: Path) -> None:
    """Prints what the second merge took."""
    from vlmerge.config.file_kinds import load_only_recipe
    from vlmerge.merge import merge

    for turn in range(2):
        if turn == 1:
            shutil.rmtree(out)
            os.sync()
        start, before = time.perf_counter(), time.process_time()
        merge(load_only_recipe(recipe), out)
        print(f"{SECONDS}{time.perf_counter() - start} {time.process_time() - before}")


def run(command: list[str], threads: int) -> Cost:
    """Runs a process to its end and watches its memory."""
    limits = {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **limits})
    peak = _watch(process.pid)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{output.decode()[-3000:]}")
    said = [line.removeprefix(SECONDS) for line in output.decode().splitlines() if line.startswith(SECONDS)]
    wall, cpu = map(float, said[-1].split()) if said else (wall, usage.ru_utime + usage.ru_stime)
    return Cost(wall, cpu, usage.ru_maxrss * 1024, peak())


def _watch(pid: int) -> Callable[[], int]:
    """Looks at a process's anonymous memory every 20 ms; gives the largest."""
    found = [0]
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            try:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            except OSError:
                return
            found[0] = max(found[0], *(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()

    def stop() -> int:
        done.set()
        thread.join()
        return found[0]

    return stop


def show(method: str, costs: Mapping[str, list[Cost]]) -> None:
    """Medians, and each variant's multiple of vlmerge."""
    ours = statistics.median(cost.wall for cost in costs["vlmerge"])
    lines = [[method, "wall s", "× vlmerge", "CPU s", "resident GB", "anonymous GB"]]
    for name, each in costs.items():
        wall = statistics.median(cost.wall for cost in each)
        cpu = statistics.median(cost.cpu for cost in each)
        resident, anonymous = (max(getattr(cost, key) for cost in each) / 1e9 for key in ("resident", "anonymous"))
        lines.append([name, f"{wall:.2f}", f"{wall / ours:.2f}", f"{cpu:.1f}", f"{resident:.2f}", f"{anonymous:.2f}"])
    print()
    print_columns(lines)
    print(flush=True)


def plain(measured: Mapping[str, Mapping[str, list[Cost]]]) -> dict[str, Any]:
    """As JSON."""
    return json.loads(json.dumps(measured, default=vars))


if __name__ == "__main__":
    main()
