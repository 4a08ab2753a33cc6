"""nuslerp: along the arc between two models, or between their differences from a base, by weights instead of t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.methods.method import Values
from vlmerge.methods.pointwise import Pointwise
from vlmerge.methods.products import products, products_by_row, row_of
from vlmerge.methods.slerp import arc
from vlmerge.methods.sums import Terms, weighted

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.method import Rule
    from vlmerge.methods.scratch import Scratch

NORM_FLOOR = 1e-7
"""Norms below this count as this (mergekit's threshold)."""
SINE_FLOOR = 1e-8
"""Sine of the angle below which the arc is taken for a straight line (mergekit's threshold)."""
NO_WEIGHT = 1e-6
"""Weights whose sum is smaller than this meet half way (mergekit's threshold)."""


class NuSlerp:
    """sin((1-t)θ)/sin θ · a + sin(tθ)/sin θ · b, t = w_b / (w_a + w_b), of whole tensors or of their rows or columns.

    mergekit's `nuslerp_row_wise` takes vectors along the first axis, and both flags are asked for in its order:
    `nuslerp_flatten` (true) makes the other one meaningless.
    """

    spec: MethodSpec = SPECS["nuslerp"]

    def check(self, values: Values) -> None:
        """Any weights have a result."""

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> Known:
        """Products are found out when they are first asked for: whole or by row is a parameter."""
        del tensors, base, scratch
        return {}

    def rule(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: Known, scratch: Scratch) -> Rule:
        """One weighted sum, of factors that are the same for the whole tensor, or for each row."""
        first, second = values.weights()
        total = first + second
        t = 0.5 if abs(total) < NO_WEIGHT else second / total
        if t in (0.0, 1.0):
            return Terms(base, (tensors[int(t)],), (1.0,))
        if values.flag("nuslerp_flatten"):
            if "whole" not in known:
                known["whole"] = torch.as_tensor(products(tensors, base, scratch))
            return weighted(tensors, _factors(known["whole"], t), base=base)
        columns, shape = values.flag("nuslerp_row_wise"), values.shape
        kind = "columns" if columns else "rows"
        if kind not in known:
            known[kind] = products_by_row(tensors, base, shape, scratch, columns=columns)
        table = _factors_by_row(known[kind], t)

        def formula(origin: Tensor | None, chunks: Sequence[Tensor], place: slice) -> Tensor:
            one, two = chunks
            factors = table.to(one.dtype)[row_of(place, shape, one.device, columns=columns)]
            if origin is None:
                return one.mul_(factors[:, 0]).add_(two.mul_(factors[:, 1]))
            return one.sub_(origin).mul_(factors[:, 0]).add_(two.sub_(origin).mul_(factors[:, 1])).add_(origin)

        return Pointwise(base, tuple(tensors), formula)


Known = dict[str, "Tensor"]
"""Dot products by what they are of: `whole`, `rows`, `columns`."""


def _factors(dots: Tensor, t: float) -> tuple[float, float]:
    """Factors of the two."""
    norms = [max(math.sqrt(float(dots[place, place])), NORM_FLOOR) for place in (0, 1)]
    cosine = min(1.0, max(-1.0, float(dots[0, 1]) / (norms[0] * norms[1])))
    angle = math.acos(cosine)
    if abs(math.sin(angle)) < SINE_FLOOR:
        return 1.0 - t, t
    return arc(t, angle)


def _factors_by_row(dots: Tensor, t: float) -> Tensor:
    """The same for each row, float64 [rows, 2]."""
    norms = torch.stack([dots[:, 0, 0], dots[:, 1, 1]]).sqrt().clamp_min(NORM_FLOOR)
    angle = (dots[:, 0, 1] / (norms[0] * norms[1])).clamp(-1.0, 1.0).acos()
    sine = angle.sin()
    straight = torch.tensor([1.0 - t, t], dtype=torch.float64, device=dots.device)
    arc = torch.stack([((1.0 - t) * angle).sin(), (t * angle).sin()], 1) / sine[:, None]
    return torch.where((sine.abs() < SINE_FLOOR)[:, None], straight, arc)
