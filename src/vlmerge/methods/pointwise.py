"""Methods whose result at a place comes from the inputs there, and from what was found out about the tensors as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vlmerge.methods.finite import is_finite
from vlmerge.methods.scratch import work_dtype

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.scratch import Scratch

Formula = Callable[["Tensor | None", Sequence["Tensor"], slice], "Tensor"]
"""(base, inputs, their place in the tensors) → result. Chunks of float32 (float64 where an input is); may be written into."""


@dataclass(frozen=True)
class Pointwise:
    """One formula for all elements, in chunks of plain torch: for any device and any mixture of dtypes.

    Attributes:
        base: The base, or None; flat.
        inputs: The others, each of its length.
        formula: What to compute.
        start: Where the tensors begin in those that the formula knows of.
    """

    base: Tensor | None
    inputs: tuple[Tensor, ...]
    formula: Formula
    start: int = 0

    def part(self, span: slice) -> Pointwise:
        """The same for a part of the tensors."""
        base = None if self.base is None else self.base[span]
        inputs = tuple(tensor[span] for tensor in self.inputs)
        return replace(self, base=base, inputs=inputs, start=self.start + span.start)

    def write(self, out: Tensor, scratch: Scratch) -> bool:
        """Rounded once."""
        given = self.inputs if self.base is None else (self.base, *self.inputs)
        work = work_dtype(*(tensor.dtype for tensor in given))
        for span in scratch.spans(out.numel()):
            chunks = [tensor[span].to(work, copy=True) for tensor in self.inputs]
            origin = None if self.base is None else self.base[span].to(work, copy=True)
            place = slice(self.start + span.start, self.start + span.stop)
            out[span].copy_(self.formula(origin, chunks, place))
        return is_finite(out, scratch)
