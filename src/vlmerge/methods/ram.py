"""ram: of every difference from the base the mean over those models that have one there; ramplus_tl amplifies those of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vlmerge.config.method_table import MethodSpec
from vlmerge.methods.method import Values
from vlmerge.methods.pointwise import Pointwise
from vlmerge.methods.products import stacked
from vlmerge.methods.scratch import work_dtype
from vlmerge.methods.sums import Terms

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.method import Rule
    from vlmerge.methods.scratch import Scratch


@dataclass(frozen=True)
class Ram:
    """Reinforced Agent Merging: |x - base| > epsilon touches an element; shared ones are averaged, unique ones kept whole.

    Attributes:
        spec: Row of the method table.
        amplify: A model's unique differences are multiplied by 1 + r · (shared / unique, at most alpha) (RAM+).
    """

    spec: MethodSpec
    amplify: bool

    def check(self, values: Values) -> None:
        """Any values have a result."""

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> Known:
        """Counts are found out when an epsilon is first asked for."""
        del tensors, base, scratch
        return {}

    def rule(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: Known, scratch: Scratch) -> Rule:
        """Element by element; the base alone is the base."""
        assert base is not None
        if not tensors:
            return Terms(base, (), ())
        epsilon = values.number("epsilon")
        factors = [1.0] * len(tensors)
        if self.amplify:
            if epsilon not in known:
                known[epsilon] = _counts(tensors, base, epsilon, scratch)
            r, alpha = values.number("r"), values.number("alpha")
            factors = [1.0 + r * min(alpha, max(0.0, shared / unique)) if unique else 1.0 for unique, shared in known[epsilon]]

        def formula(origin: Tensor | None, chunks: Sequence[Tensor], place: slice) -> Tensor:
            del place
            assert origin is not None
            differences = torch.stack([chunk.sub_(origin) for chunk in chunks])
            touched = differences.abs() > epsilon
            many = touched.sum(0, dtype=torch.int32)
            total = torch.zeros_like(origin)
            for difference, touch, factor in zip(differences, touched, factors, strict=True):
                total += torch.where(touch, torch.where(many == 1, difference * factor, difference), 0.0)
            return total.div_(many.clamp_min_(1)).add_(origin)

        return Pointwise(base, tuple(tensors), formula)


Known = dict[float, list[tuple[int, int]]]
"""epsilon → for each model how many elements it alone touches, and how many others touch with it."""


def _counts(tensors: Sequence[Tensor], base: Tensor, epsilon: float, scratch: Scratch) -> list[tuple[int, int]]:
    work = work_dtype(base.dtype, *(tensor.dtype for tensor in tensors))
    found = torch.zeros((len(tensors), 2), dtype=torch.long, device=base.device)
    for span in scratch.spans(len(base)):
        touched = stacked(tensors, base, span, work).abs() > epsilon
        many = touched.sum(0)
        found[:, 0] += (touched & (many == 1)).sum(1)
        found[:, 1] += (touched & (many > 1)).sum(1)
    return [(int(unique), int(shared)) for unique, shared in found.cpu()]
