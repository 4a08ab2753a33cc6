"""The fused decoder's forward: packed tokens of many rows, no padding, one cache of cells."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from vlmerge.runtime.fused.kernels import attend, gated, rms_norm, turn_and_keep
from vlmerge.runtime.fused.shapes import Blocks
from vlmerge.runtime.fused.weights import Weights


@dataclass(frozen=True)
class Cells:
    """Keys and values of every layer, each [cells, key heads, size], and turns for positions, each [positions, size / 2]."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    turns: tuple[Tensor, Tensor]

    @classmethod
    def empty(cls, weights: Weights, count: int, positions: int) -> Cells:
        """Room for `count` cells and positions up to `positions`."""
        like, heads = weights.norm, weights.heads
        shape = (count, heads.keys, heads.size)
        layers = tuple((like.new_empty(shape), like.new_empty(shape)) for _ in weights.layers)
        cosines, sines = weights.turns(like, torch.arange(positions, device=like.device)[None])
        half = heads.size // 2
        return cls(layers, (cosines[0, :, :half].contiguous(), sines[0, :, :half].contiguous()))

    @property
    def count(self) -> int:
        """Number of cells."""
        return len(self.layers[0][0])

    @property
    def positions(self) -> int:
        """Positions that have turns."""
        return len(self.turns[0])


def forward(
    weights: Weights,
    hidden: Tensor,
    positions: Tensor,
    own: Tensor,
    blocks: Blocks,
    cells: Cells,
    wanted: Tensor | None = None,
) -> Tensor:
    """Hidden states after the final norm.

    Args:
        weights: The decoder.
        hidden: Embedded tokens [tokens, hidden]; overwritten.
        positions: Position of each token in its row.
        own: Cell of each token.
        blocks: Which token sees which cells.
        cells: The cache; the tokens' keys and values are written into it.
        wanted: Tokens whose hidden states are asked for; None: all of them.

    Returns:
        [wanted tokens, hidden].
    """
    normal = rms_norm(hidden, weights.layers[0].norm1, weights.epsilon)
    last = len(weights.layers) - 1
    for number, layer in enumerate(weights.layers):
        qkv = linear(normal, layer.qkv, layer.qkv_bias)
        turn_and_keep(qkv, weights.heads, positions, own, cells.turns, cells.layers[number])
        seen = attend(qkv, weights.heads, blocks, cells.layers[number])
        if number == last and wanted is not None:
            seen, hidden = seen[wanted], hidden[wanted]
        normal = rms_norm(hidden, layer.norm2, weights.epsilon, added=linear(seen, layer.o, layer.o_bias))
        grown = linear(gated(linear(normal, layer.gate_up)), layer.down)
        following = weights.norm if number == last else weights.layers[number + 1].norm1
        normal = rms_norm(hidden, following, weights.epsilon, added=grown)
    return normal
