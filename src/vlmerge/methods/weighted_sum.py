"""The sum that several methods end in: Σ wᵢ·xᵢ in float32, rounded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from vlmerge.methods.scratch import Scratch, work_dtype

if TYPE_CHECKING:
    from torch import Tensor


def weighted_sum(
    tensors: Sequence[Tensor], weights: Sequence[float], out: Tensor, scratch: Scratch, *, normalize: bool = False
) -> None:
    """Writes Σ wᵢ·xᵢ [/ Σ wᵢ], summed in listed order in float32 (float64 where an input is), rounded once.

    Inputs of weight 0 are not read. A single input that is left with a factor of 1 is copied: bit for bit where the dtype is
    the same.

    Args:
        tensors: Flat inputs of one length.
        weights: One each.
        out: Flat result.
        scratch: Buffers.
        normalize: Divide by the sum of the weights, which may not be 0.
    """
    terms = [(tensor, weight) for tensor, weight in zip(tensors, weights, strict=True) if weight != 0]
    if not terms:
        out.zero_()
        return
    if len(terms) == 1 and (normalize or terms[0][1] == 1):
        out.copy_(terms[0][0])
        return
    work = work_dtype(*(tensor.dtype for tensor in tensors))
    # The sum of the weights as they act, rounded: weights rounded upwards then divide by a sum rounded upwards.
    divisor = torch.tensor([weight for _, weight in terms], dtype=work).sum().item() if normalize else 1.0
    for span in scratch.spans(out.numel()):
        total = scratch.buffer(0, work, span.stop - span.start)
        # The first product is not added to zero: -0.0 stays -0.0.
        total.copy_(terms[0][0][span]).mul_(terms[0][1])
        for tensor, weight in terms[1:]:
            total.add_(tensor[span], alpha=weight)
        if divisor != 1:
            total.div_(divisor)
        out[span].copy_(total)
