"""The fast path of a GPU: a Llama-like decoder with fused kernels, packed prompts and CUDA graphs.

What it cannot take (another kind of decoder, no Triton, other answers than the model's own forward gives) is left to
`runtime.decode`, which runs everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vlmerge.methods.launches import comes_from_triton
from vlmerge.runtime.decode import Row
from vlmerge.runtime.fused.shapes import TILES, queries_per_tile
from vlmerge.runtime.room import READ_AT_ONCE

if TYPE_CHECKING:
    from vlmerge.runtime.decode import Decoder
    from vlmerge.runtime.fused.greedy import FusedDecoder
    from vlmerge.runtime.fused.weights import Weights

PROBE_TOKENS = (23, 9)
"""Lengths of the two random prompts that both forwards read when a model is loaded."""
AGREE = {torch.float32: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.1}
"""Largest difference of hidden states (root mean square, relative) that rounding explains."""


def fuse(decoder: Decoder, read_at_once: int | None = None) -> tuple[FusedDecoder | None, str | None]:
    """The fast path for a decoder, or the reason why there is none.

    Args:
        decoder: A live decoder on a GPU. Its projections are laid side by side in memory; values and parameters stay.
        read_at_once: Tokens of prompts that are read together; None: as many as keep a large card busy.
    """
    try:
        import triton  # noqa: F401 # pyright: ignore[reportMissingImports, reportUnusedImport]

        from vlmerge.runtime.fused.greedy import FusedDecoder
        from vlmerge.runtime.fused.weights import UnfamiliarError, Weights
    except ImportError:
        return None, "Triton is not installed"
    dtype = decoder.body.norm.weight.dtype if hasattr(decoder.body, "norm") else None
    if dtype not in AGREE:
        return None, f"the fast path does not take {dtype}"
    try:
        weights = Weights.join(decoder.body)
    except UnfamiliarError as reason:
        return None, f"the fast path does not know {reason}"
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None, "this card has no room to lay weights side by side"
    failed = ""
    for tile in TILES:
        queries = queries_per_tile(weights.heads, tile)
        try:
            difference = _difference(decoder, weights, queries)
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError) or not comes_from_triton(error):
                raise
            failed = f"Triton failed: {(str(error).splitlines() or [type(error).__name__])[0]}"
            continue  # Smaller cards have less room for a tile.
        if not difference <= AGREE[dtype]:
            return None, f"the fast path differs from the model's own forward by {difference:.2g}"
        return FusedDecoder(decoder, weights, queries, read_at_once or READ_AT_ONCE[0]), None
    return None, failed


@torch.inference_mode()
def _difference(decoder: Decoder, weights: Weights, queries: int) -> float:
    """Reads two random prompts both ways, ours the last token of each as a step; the relative difference of hidden states."""
    from vlmerge.runtime.fused.forward import Cells, forward
    from vlmerge.runtime.fused.prompts import lay_out, pack
    from vlmerge.runtime.fused.shapes import Blocks

    generator = torch.Generator().manual_seed(1)
    width, device = weights.norm.shape[0], decoder.device
    scale = float(decoder.embed(torch.arange(8, device=device)).float().std())
    prompts = [torch.randn((length, width), generator=generator) * scale for length in PROBE_TOKENS]
    prompts = [prompt.to(device, weights.norm.dtype) for prompt in prompts]
    layout = lay_out([length - 1 for length in PROBE_TOKENS], [Row(number, ()) for number in range(len(prompts))], 1)
    packed = pack(layout.first, queries, device)
    cells = Cells.empty(weights, layout.cells, layout.positions)
    read = forward(
        weights, torch.cat([each[:-1] for each in prompts]), packed.positions, packed.cells, packed.blocks, cells
    )  # fmt: skip
    start1, length1, start2, used = torch.tensor(layout.spans, device=device).T.contiguous().unbind()
    numbers = torch.arange(len(prompts), device=device)
    blocks = Blocks(numbers, torch.ones_like(numbers), start1, length1, start2, used + 1, tile=1)
    step = forward(weights, torch.stack([each[-1] for each in prompts]), length1, start2, blocks, cells)
    pieces: list[Tensor] = []
    start = 0
    for number, length in enumerate(PROBE_TOKENS):
        pieces += [read[start : start + length - 1], step[number : number + 1]]
        start += length - 1
    ours = torch.cat(pieces)
    theirs = torch.cat([decoder.body(inputs_embeds=each[None], use_cache=False).last_hidden_state[0] for each in prompts])
    error = (ours.float() - theirs.float()).pow(2).mean().sqrt() / theirs.float().pow(2).mean().sqrt()
    return float(error)
