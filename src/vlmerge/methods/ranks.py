"""Differences drawn by rank (DELLA): the larger one is among those of its row, the likelier it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from vlmerge.methods.differences import LOTS, Choice, Key, lots, magnitudes
from vlmerge.methods.scratch import spans

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.scratch import Scratch


def ranked(one: Tensor, base: Tensor, shape: Sequence[int], chances: tuple[float, float], key: Key, scratch: Scratch) -> Choice:
    """Draws for every element, with a chance that rises linearly with its rank in its row; of equal ones the first ranks lower.

    Args:
        one, base: Flat; their differences are ranked.
        shape: Of the tensors; a row is a vector along the last axis, a tensor of one axis is one row.
        chances: Of the smallest and of the largest difference of a row.
        key: What the lots come from.
        scratch: For the size of chunks.
    """
    low, most = (round(chance * LOTS) for chance in chances)
    width, length = shape[-1], len(one)
    rising = torch.arange(width, dtype=torch.float64, device=one.device) / max(1, width - 1)
    limits = (low + rising * (most - low)).round().long() if width > 1 else torch.tensor([(low + most) // 2], device=one.device)
    stays = torch.empty(length, dtype=torch.bool, device=one.device)
    for span in spans(0, length, max(1, scratch.chunk // width) * width):
        sizes = magnitudes(one[span], base[span]).view(-1, width)
        order = sizes.argsort(dim=1, stable=True)
        limit = torch.empty_like(order).scatter_(1, order, limits.expand_as(order)).view(-1)
        stays[span] = lots(torch.arange(span.start, span.stop, device=one.device), key) < limit
    return Choice("ranked", chance=low, most=most, key=key, stays=stays)
