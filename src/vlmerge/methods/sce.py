"""sce: select the entries that vary most between the models, weigh models by the energy of theirs, erase minority signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.methods.differences import REMEMBERED
from vlmerge.methods.method import Values
from vlmerge.methods.pointwise import Pointwise
from vlmerge.methods.products import stacked
from vlmerge.methods.remembered import forget_eldest
from vlmerge.methods.scratch import work_dtype
from vlmerge.methods.sums import Terms

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.method import Rule
    from vlmerge.methods.scratch import Scratch

NO_ENERGY = 1e-6
"""Sums of energies (and of the factors that take part in an entry) below this are too small to divide by (mergekit's)."""


class Sce:
    """FuseChat's SCE (Wan et al. 2024): base + Σ cᵢ dᵢ / Σ cᵢ over the models that have the elected sign."""

    spec: MethodSpec = SPECS["sce"]

    def check(self, values: Values) -> None:
        """Any share has a result."""

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> Known:
        """Selections are found out when a share is first asked for."""
        del tensors, base, scratch
        return {}

    def rule(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: Known, scratch: Scratch) -> Rule:
        """Element by element, by a threshold of variances and the models' factors; the base alone is the base."""
        assert base is not None
        if not tensors:
            return Terms(base, (), ())
        share = values.number("select_topk")
        if share not in known:
            forget_eldest(known, REMEMBERED)
            known[share] = _select(tensors, base, share, scratch)
        selection = known[share]

        def formula(origin: Tensor | None, chunks: Sequence[Tensor], place: slice) -> Tensor:
            assert origin is not None
            differences = selection.kept(torch.stack([chunk.sub_(origin) for chunk in chunks]), place)
            plus = differences.sum(0) >= 0
            joins = (differences != 0) & ((differences > 0) == plus)
            factors = torch.tensor(selection.factors, dtype=origin.dtype, device=origin.device)[:, None] * joins
            return (differences * factors).sum(0).div_(factors.sum(0).clamp_min_(NO_ENERGY)).add_(origin)

        return Pointwise(base, tuple(tensors), formula)


@dataclass(frozen=True)
class Selection:
    """Which entries take part, and what each model counts.

    Attributes:
        threshold: Smallest variance that is selected; None: all are; infinity: none is.
        last: Index of the last entry that is selected among those at the threshold.
        factors: One for each model; their sum is 1.
    """

    threshold: float | None
    last: int
    factors: tuple[float, ...]

    def kept(self, differences: Tensor, place: slice) -> Tensor:
        """Differences [models, length] that are selected, 0 elsewhere."""
        return _kept(differences, place, self.threshold, self.last)


Known = dict[float, Selection]
"""Share → selection."""


def _kept(differences: Tensor, place: slice, threshold: float | None, last: int) -> Tensor:
    if threshold is None:
        return differences
    variance = _variance(differences)
    index = torch.arange(place.start, place.stop, device=differences.device)
    return torch.where((variance > threshold) | ((variance == threshold) & (index <= last)), differences, 0.0)


def _variance(differences: Tensor) -> Tensor:
    """Over the models, all of them counted (population variance)."""
    return (differences - differences.mean(0)).square_().mean(0)


def _select(tensors: Sequence[Tensor], base: Tensor, share: float, scratch: Scratch) -> Selection:
    work = work_dtype(base.dtype, *(tensor.dtype for tensor in tensors))
    threshold, last = None, 0
    if share < 1:
        variances = torch.empty(len(base), dtype=work, device=base.device)
        for span in scratch.spans(len(base)):
            variances[span] = _variance(stacked(tensors, base, span, work))
        count = int(share * int(variances.count_nonzero())) if share > 0 else 0
        threshold = float("inf")
        if count > 0:
            threshold = float(variances.kthvalue(len(base) - count + 1).values)
            equal = count - int((variances > threshold).sum())
            last = int((variances == threshold).nonzero()[equal - 1])
        del variances
    energies = torch.zeros(len(tensors), dtype=torch.float64, device=base.device)
    for span in scratch.spans(len(base)):
        energies += _kept(stacked(tensors, base, span, work), span, threshold, last).double().square_().sum(1)
    means = [float(energy) / len(base) for energy in energies.cpu()]
    total = sum(means)
    shares = tuple(mean / total for mean in means) if total >= NO_ENERGY else (1.0 / len(means),) * len(means)
    return Selection(threshold, last, shares)
