"""Dot products of tensors, or of their differences from a base: what methods that think of weights as vectors want to know.

They depend on no parameter, so that a run asks once for each tensor; what a candidate then takes is arithmetic on a few numbers
and one weighted sum. Sums are float64, since near a right line the factors of an arc are sensitive to the cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vlmerge.methods.scratch import Scratch

    Products = NDArray[np.float64]


def products(tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> Products:
    """Dot products of flat tensors (minus the base, if there is one) with each other; float64 [tensors, tensors]."""
    many, device = len(tensors), tensors[0].device
    found = torch.zeros((many, many), dtype=torch.float64, device=device)
    for span in scratch.spans(len(tensors[0])):
        rows = stacked(tensors, base, span, torch.float64)
        found += rows @ rows.T
    return found.cpu().numpy()


def products_by_row(
    tensors: Sequence[Tensor], base: Tensor | None, shape: Sequence[int], scratch: Scratch, *, columns: bool = False
) -> Tensor:
    """The same for every row (vector along the last axis) of tensors of that shape, or for every vector along the first axis.

    A tensor of one axis is one row.

    Returns:
        float64 [rows, tensors, tensors] on the tensors' device.
    """
    many, device, length = len(tensors), tensors[0].device, len(tensors[0])
    width = (length // shape[0] if len(shape) > 1 else 1) if columns else shape[-1]
    lines = length // width
    found = torch.zeros((width if columns else lines, many, many), dtype=torch.float64, device=device)
    step = max(1, scratch.chunk // width)
    for first in range(0, lines, step):
        span = slice(first * width, min(first + step, lines) * width)
        part = stacked(tensors, base, span, torch.float64).view(many, -1, width)
        if columns:
            found += torch.einsum("irw,jrw->wij", part, part)
        else:
            found[first : first + part.shape[1]] = torch.einsum("irw,jrw->rij", part, part)
    return found


def row_of(place: slice, shape: Sequence[int], device: torch.device, *, columns: bool = False) -> Tensor:
    """For each place of a flat tensor of that shape the number of its row (or column) among those of `products_by_row`."""
    index = torch.arange(place.start, place.stop, device=device)
    if columns:
        width = 1
        for size in shape[1:]:
            width *= size
        return index % width if len(shape) > 1 else torch.zeros_like(index)
    return index // shape[-1]


def stacked(tensors: Sequence[Tensor], base: Tensor | None, span: slice, dtype: torch.dtype) -> Tensor:
    """A part of every tensor (minus the base) in a dtype, [tensors, length]."""
    rows = torch.stack([tensor[span].to(dtype) for tensor in tensors])
    return rows if base is None else rows - base[span].to(dtype)
