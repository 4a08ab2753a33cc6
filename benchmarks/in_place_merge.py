"""Merging in place on a GPU: every tensor of a 7B decoder, beside a device copy of the same bytes.

Three random parents and a live model of Llama-2-7B's shapes (54 GB in 16 bits) are made on the device; no file is read. Each
method merges all tensors as `vlmerge evolve` launches them, with other weights in every round; those that choose among
differences also with another density in every round, whose thresholds and norms have to be found anew. A copy of as many
bytes as a merge of three reads and writes is the floor.

    python benchmarks/in_place_merge.py                        on a GPU with 80 GB
    python benchmarks/in_place_merge.py --layers 8             a quarter of it
    TRITON_INTERPRET=1 python benchmarks/in_place_merge.py --tiny --rounds 1      to try the program out on a CPU
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from llava_7b_checkpoints import PLAIN_ROWS
from timing import Clock, Variant, print_columns, take_turns, write_json
from torch import Tensor

from vlmerge.methods import METHODS
from vlmerge.methods.chosen_launches import Chosen, ChosenLaunches
from vlmerge.methods.differences import Differences, key_of
from vlmerge.methods.kernels.gpu import Sum, add_up
from vlmerge.methods.kernels.gpu_table import Place, Tables
from vlmerge.methods.launches import TENSORS
from vlmerge.methods.method import Values
from vlmerge.methods.sparse import Sparse

Job = TypeVar("Job")
PARENTS = 3


def main() -> None:
    options = arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, options.dtype)
    hidden, middle, rows, layers = (64, 96, 256, 2) if options.tiny else (4096, 11008, PLAIN_ROWS, options.layers)
    shapes = decoder_shapes(hidden, middle, rows, layers)
    live = [torch.empty(size, dtype=dtype, device=device) for size in shapes]
    base = [torch.empty(size, dtype=dtype, device=device).normal_(0, 0.02) for size in shapes]
    # Fine-tuned models: near their base, and here and there equal to it.
    others = [[relative(each, number) for each in base] for number in range(PARENTS - 1)]
    sources = list(zip(base, *others, strict=True))
    moved = sum(tensor.nbytes for tensor in live) * (PARENTS + 1)
    # A copy reads and writes: half of the bytes are its source. Copied by pieces, so that it needs no memory of its own.
    piece, source = max(live, key=Tensor.numel), max(base, key=Tensor.numel)
    copies = max(1, round(moved / (2 * piece.nbytes)))
    tables = Tables(device)
    chosen = ChosenLaunches(device, tables)
    known = {name: [Differences() for _ in live] for name in ("ties", "dare_linear", "dare_ties")}
    plain = [Place.of(out, None, each) for out, each in zip(live, sources, strict=True)]
    pairs = [Place.of(out, None, each[:2]) for out, each in zip(live, sources, strict=True)]
    based = [Place.of(out, each[0], each[1:]) for out, each in zip(live, sources, strict=True)]

    def copy(_: int, clock: Clock) -> None:
        with clock.step("copy"):
            for _ in range(copies):
                piece.copy_(source)

    def summed(places: Sequence[Place], weights: tuple[float, ...], turn: int, clock: Clock) -> None:
        with clock.step("merge"):
            first = weights[0] + 0.01 * (turn % 5)
            jobs = [Sum(place, (first, *weights[1:]), 1.0, 1.0 if place.base is None else 0.9) for place in places]
            finish([add_up(part, tables, device) for part in parts(jobs)])

    def thinned(name: str, turn: int, clock: Clock, *, new: bool) -> None:
        method = METHODS[name]
        assert isinstance(method, Sparse)
        density = 0.5 + (0.001 * (turn + 2) if new else 0)
        with clock.step("merge"):
            jobs: list[Chosen] = []
            for number, (place, each) in enumerate(zip(based, known[name], strict=True)):
                keys = tuple(key_of(1, str(source), str(number)) for source in range(PARENTS - 1))
                values = Values(
                    {"lambda": 1.0, "normalize": name == "ties", "rescale": name != "ties"},
                    tuple({"weight": 0.5 + 0.01 * (turn % 5), "density": density} for _ in keys),
                    keys,
                )
                shares = method.shares(values, place.out.numel())
                jobs.append(Chosen.of(method, values, place, shares, each))
            finish([chosen.run(part) for part in parts(jobs)])

    variants: dict[str, Variant] = {
        "a copy of the bytes": copy,
        "linear": lambda turn, clock: summed(plain, (0.5, 0.65, -0.03), turn, clock),
        "slerp (two models)": lambda turn, clock: summed(pairs, (0.5, 0.65), turn, clock),
        "task_arithmetic": lambda turn, clock: summed(based, (0.5, 0.7), turn, clock),
    }
    for name in known:
        variants[name] = lambda turn, clock, name=name: thinned(name, turn, clock, new=False)
        variants[f"{name}, a new density"] = lambda turn, clock, name=name: thinned(name, turn, clock, new=True)
    measured = take_turns(
        variants, options.rounds, synchronise=torch.cuda.synchronize if device.type == "cuda" else lambda: None
    )  # fmt: skip
    lines = [["", "ms", "× linear", "TB/s", "of the copy's bandwidth"]]
    floor = measured["a copy of the bytes"]["seconds"] * moved / (2 * piece.nbytes * copies)
    for name, each in measured.items():
        seconds = floor if name == "a copy of the bytes" else each["seconds"]
        share = 0.75 if "two models" in name else 1.0
        against = f"{seconds / measured['linear']['seconds']:.2f}"
        speed = f"{share * moved / seconds / 1e12:.2f}"
        lines.append([name, f"{seconds * 1e3:.1f}", against, speed, f"{share * floor / seconds:.0%}"])
    print(f"{len(live)} tensors, {moved / 1e9:.1f} GB read and written, {options.dtype}, medians of {options.rounds}\n")
    print_columns(lines)
    write_json(options.json, {"bytes": moved, "dtype": options.dtype, "variants": measured})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="bfloat16")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--tiny", action="store_true", help="toy shapes")
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds; the median counts")
    parser.add_argument("--json", type=Path, help="write the measurement here as well")
    return parser.parse_args()


def decoder_shapes(hidden: int, middle: int, rows: int, layers: int) -> list[int]:
    """Elements of every tensor of a Llama decoder."""
    layer = [hidden * hidden] * 4 + [hidden * middle] * 3 + [hidden] * 2
    return [rows * hidden, *layer * layers, hidden, rows * hidden]


def relative(base: Tensor, number: int) -> Tensor:
    """A model that was tuned from `base`, in its dtype."""
    torch.manual_seed(number)
    step = torch.empty_like(base).normal_(0, 0.001)
    return base + step.masked_fill_(step.abs() < 0.0003, 0)


def parts(jobs: Sequence[Job]) -> list[Sequence[Job]]:
    """Launches, as `vlmerge evolve` makes them."""
    return [jobs[start : start + TENSORS] for start in range(0, len(jobs), TENSORS)]


def finish(flags: Sequence[Tensor]) -> None:
    """Waits for the flags, as a candidate does."""
    if any(torch.cat(list(flags)).tolist()):
        raise SystemExit("a result is not finite")


if __name__ == "__main__":
    main()
