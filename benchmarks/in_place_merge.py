"""Merging in place on a GPU: weighted sums over every tensor of a 7B decoder, beside a device copy of the same bytes.

Three random parents and a live model of Llama-2-7B's shapes (54 GB in 16 bits) are made on the device; no file is read. Each
method merges all tensors as `vlmerge evolve` launches them, with other weights in every round. A copy of as many bytes as
the merge reads and writes is the floor.

    python benchmarks/in_place_merge.py                        on a GPU with 80 GB
    python benchmarks/in_place_merge.py --layers 8             a quarter of it
    TRITON_INTERPRET=1 python benchmarks/in_place_merge.py --tiny --rounds 1      to try the program out on a CPU
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from llava_7b_checkpoints import PLAIN_ROWS
from timing import Clock, machine, print_columns, take_turns, write_json
from torch import Tensor

from vlmerge.methods.kernels.gpu import Sum, Sums
from vlmerge.methods.launches import TENSORS
from vlmerge.methods.sums import Terms, weighted

PARENTS = 3


def main() -> None:
    options = arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, options.dtype)
    hidden, middle, rows, layers = (64, 96, 256, 2) if options.tiny else (4096, 11008, PLAIN_ROWS, options.layers)
    shapes = decoder_shapes(hidden, middle, rows, layers)
    live = [torch.empty(size, dtype=dtype, device=device) for size in shapes]
    parents = [[torch.empty(size, dtype=dtype, device=device).normal_(0, 0.02) for size in shapes] for _ in range(PARENTS)]
    moved = sum(tensor.nbytes for tensor in live) * (PARENTS + 1)
    # A copy reads and writes: half of the bytes are its source. Copied by pieces, so that it needs no memory of its own.
    piece = max(live, key=Tensor.numel)
    copies = max(1, round(moved / (2 * piece.nbytes)))
    source = max(parents[0], key=Tensor.numel)
    sums = Sums(device)

    def copy(_: int, clock: Clock) -> None:
        with clock.step("copy"):
            for _ in range(copies):
                piece.copy_(source)

    def merge(turn: int, clock: Clock, *, based: bool) -> None:
        with clock.step("merge"):
            run(sums, live, [terms_of(each, turn, based=based) for each in zip(*parents, strict=True)])

    variants = {
        "a copy of the bytes": copy,
        "linear": lambda turn, clock: merge(turn, clock, based=False),
        "task_arithmetic": lambda turn, clock: merge(turn, clock, based=True),
    }
    measured = take_turns(
        variants, options.rounds, synchronise=torch.cuda.synchronize if device.type == "cuda" else lambda: None
    )  # fmt: skip
    lines = [["", "ms", "TB/s", "of the copy's bandwidth"]]
    floor = measured["a copy of the bytes"]["seconds"] * moved / (2 * piece.nbytes * copies)
    for name, each in measured.items():
        seconds = floor if name == "a copy of the bytes" else each["seconds"]
        lines.append([name, f"{seconds * 1e3:.1f}", f"{moved / seconds / 1e12:.2f}", f"{floor / seconds:.0%}"])
    print(f"{len(live)} tensors, {moved / 1e9:.1f} GB read and written, {options.dtype}, medians of {options.rounds}\n")
    print_columns(lines)
    write_json(options.json, {"bytes": moved, "dtype": options.dtype, "variants": measured, "machine": machine()})


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


def terms_of(parents: Sequence[Tensor], turn: int, *, based: bool) -> Terms:
    """Weights that change from round to round."""
    weights = (0.5 + 0.01 * (turn % 5), 0.65, -0.03)
    if based:
        return Terms(parents[0], tuple(parents[1:]), weights[1:], scale=0.9)
    return weighted(parents, weights)


def run(sums: Sums, live: Sequence[Tensor], terms: Sequence[Terms]) -> None:
    """Launches all tensors, and waits for their flags as a candidate does."""
    jobs = [
        Sum(out, each.base, each.inputs, each.weights, each.divisor, each.scale)
        for out, each in zip(live, terms, strict=True)
    ]  # fmt: skip
    flags = [sums.run(jobs[start : start + TENSORS]) for start in range(0, len(jobs), TENSORS)]
    if any(torch.cat(flags).tolist()):
        raise SystemExit("a result is not finite")


if __name__ == "__main__":
    main()
