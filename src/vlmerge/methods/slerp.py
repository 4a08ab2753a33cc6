"""slerp: along the arc between base (t = 0) and the other model (t = 1), the tensor taken as one vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.methods.kernels import arrays_of, kernels
from vlmerge.methods.method import Values
from vlmerge.methods.summing import Summing
from vlmerge.methods.sums import Terms, weighted

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.scratch import Scratch

PARALLEL = 0.9995
"""|cosine| above which the arc is taken for a straight line (mergekit's threshold)."""
NORM_FLOOR = 1e-8


class Slerp(Summing):
    """sin((1-t)θ)/sin θ · base + sin(tθ)/sin θ · other, θ the angle between them (Shoemake 1985)."""

    spec: MethodSpec = SPECS["slerp"]

    def check(self, values: Values) -> None:
        """Any t has a result; outside [0, 1] it extrapolates."""

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> float:
        """The cosine of the angle between the two."""
        assert base is not None
        return cosine(base, tensors[0], scratch)

    def terms(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: float) -> Terms:
        """The vectors are combined as they are, not normalised."""
        assert base is not None
        return weighted((base, tensors[0]), coefficients(values.number("t"), known))


def coefficients(t: float, cosine: float) -> tuple[float, float]:
    """Factors of base and other; (1, 0) at t = 0 and (0, 1) at t = 1 exactly."""
    if abs(cosine) > PARALLEL or t in (0.0, 1.0):
        return 1.0 - t, t
    return arc(t, math.acos(cosine))


def arc(t: float, angle: float) -> tuple[float, float]:
    """Factors of two vectors of that angle, at t of the way from the first to the second."""
    return math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


def cosine(one: Tensor, two: Tensor, scratch: Scratch) -> float:
    """Cosine of the angle between two flat tensors, in [-1, 1]; a norm of at most 1e-8 counts as 1."""
    compiled, arrays = kernels(one), arrays_of(one, two)
    if compiled is not None and arrays is not None:
        return _cosine(*compiled.moments(*arrays))
    # In float64, as the kernels do: near a right line the arc's factors are sensitive to the cosine.
    sums = torch.zeros(3, dtype=torch.float64, device=one.device)
    for span in scratch.spans(one.numel()):
        x = scratch.buffer(0, torch.float64, span.stop - span.start).copy_(one[span])
        y = scratch.buffer(1, torch.float64, span.stop - span.start).copy_(two[span])
        sums += torch.stack([torch.dot(x, y), torch.dot(x, x), torch.dot(y, y)])
    return _cosine(*(float(each) for each in sums.cpu()))


def _cosine(dot: float, first: float, second: float) -> float:
    norms = [math.sqrt(square) if math.sqrt(square) > NORM_FLOOR else 1.0 for square in (first, second)]
    return min(1.0, max(-1.0, dot / (norms[0] * norms[1])))
