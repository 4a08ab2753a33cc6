"""The sum that most methods end in: [base +] Σ wᵢ·(xᵢ [- base]) / divisor · scale, in float32, rounded once.

Every step is rounded to float32 in this order, a product and the sum that it is added to together (fused multiply-add), on
every device: what a GPU scored is what a CPU exports, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from vlmerge.errors import CandidateFailure
from vlmerge.methods.finite import is_finite
from vlmerge.methods.kernels import arrays_of, kernels
from vlmerge.methods.scratch import Scratch, work_dtype

if TYPE_CHECKING:
    from torch import Tensor


NO_DIVISOR = 1e-8
"""Weights of differences whose sum is smaller than this do not divide (mergekit's threshold)."""


@dataclass(frozen=True)
class Terms:
    """One sum. Tensors are flat, contiguous and of one length, on one device.

    Attributes:
        base: What differences are taken from, or None for a sum of the inputs themselves (scale is then 1).
        inputs: Those whose weight is not 0.
        weights: One each.
        divisor: Divides the sum.
        scale: Multiplies it after that.
    """

    base: Tensor | None
    inputs: tuple[Tensor, ...]
    weights: tuple[float, ...]
    divisor: float = 1.0
    scale: float = 1.0

    @property
    def copied(self) -> Tensor | None:
        """The tensor that the result is, bit for bit where the dtype is the same; None where there is something to compute."""
        if not self.inputs:
            return self.base
        # base + (x - base) is x; computed, it would lose bits where the base is much larger.
        alone = len(self.inputs) == 1 and self.weights[0] == self.divisor and self.scale == 1
        return self.inputs[0] if alone else None

    def part(self, span: slice) -> Terms:
        """The sum of parts of the tensors."""
        base = None if self.base is None else self.base[span]
        return replace(self, base=base, inputs=tuple(tensor[span] for tensor in self.inputs))

    def write(self, out: Tensor, scratch: Scratch) -> bool:
        """One pass."""
        return add_up(self, out, scratch)


def divisor_of(weights: Sequence[float]) -> float:
    """The sum of the weights of differences, or 1 where that is next to nothing."""
    divisor = sum(weights)
    return 1.0 if abs(divisor) < NO_DIVISOR else divisor


def require_a_sum(weights: Sequence[float]) -> None:
    """Raises CandidateFailure for weights that sum to zero, and so have no mean; allows for decimal fractions' rounding."""
    if abs(sum(weights)) <= 1e-9 * sum(map(abs, weights)):
        raise CandidateFailure(f"the weights sum to zero ({' + '.join(f'{weight:g}' for weight in weights)})")


def weighted(
    tensors: Sequence[Tensor], weights: Sequence[float], *, base: Tensor | None = None, normalize: bool = False
) -> Terms:
    """[base +] Σ wᵢ·(xᵢ [- base]) [/ Σ wᵢ]; the weights' sum may then not be 0."""
    kept = [(tensor, weight) for tensor, weight in zip(tensors, weights, strict=True) if weight != 0]
    inputs, used = tuple(tensor for tensor, _ in kept), tuple(weight for _, weight in kept)
    if not normalize:
        return Terms(base, inputs, used)
    # The sum of the weights as they act, rounded: weights rounded upwards then divide by a sum rounded upwards.
    work = work_dtype(*(tensor.dtype for tensor in tensors))
    divisor = used[0] if len(used) == 1 else torch.tensor(used, dtype=work).sum().item()
    return Terms(base, inputs, used, divisor)


def add_up(terms: Terms, out: Tensor, scratch: Scratch) -> bool:
    """Writes a sum into `out`, rounded once; gives whether all of it is finite."""
    copied = terms.copied
    if copied is not None or not terms.inputs:
        if copied is None:
            out.zero_()
        else:
            out.copy_(copied)
        return is_finite(out, scratch)
    compiled = kernels(out)
    arrays = arrays_of(*([] if terms.base is None else [terms.base]), *terms.inputs)
    target = arrays_of(out)
    if compiled is None or arrays is None or target is None:
        _add_up(terms, out, scratch)
        return is_finite(out, scratch)
    return compiled.add_up(arrays, terms, target[0])


def _add_up(terms: Terms, out: Tensor, scratch: Scratch) -> None:
    """In chunks of plain torch: for any device and any mixture of dtypes."""
    dtypes = [tensor.dtype for tensor in terms.inputs] + ([] if terms.base is None else [terms.base.dtype])
    work = work_dtype(*dtypes)
    # A tensor: torch divides by a number through its reciprocal on a GPU.
    divisor = torch.tensor(terms.divisor, dtype=work, device=out.device)
    for span in scratch.spans(out.numel()):
        length = span.stop - span.start
        total, term = scratch.buffer(0, work, length), scratch.buffer(1, work, length)
        origin = None if terms.base is None else scratch.buffer(2, work, length).copy_(terms.base[span])
        for number, (tensor, weight) in enumerate(zip(terms.inputs, terms.weights, strict=True)):
            into = total if number == 0 else term
            into.copy_(tensor[span])
            if origin is not None:
                into.sub_(origin)
            if number == 0:
                into.mul_(weight)
            else:
                total.add_(term, alpha=weight)
        if terms.divisor != 1:
            total.div_(divisor)
        out[span].copy_(total if origin is None else torch.add(origin, total, alpha=terms.scale, out=term))
