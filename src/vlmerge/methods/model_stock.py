"""model_stock: from the base towards the mean of the models, as far as their differences from it agree."""

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
from vlmerge.methods.sums import Terms

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.method import Rule
    from vlmerge.methods.scratch import Scratch

NORM_FLOOR = 1e-6
"""Products of norms below this count as this (mergekit's threshold); so do denominators of the ratio, which is then 0."""


class ModelStock:
    """base + t · (mean - base), t = n·c / (1 + (n-1)·c), c the mean cosine between differences (Jang et al. 2024)."""

    spec: MethodSpec = SPECS["model_stock"]

    def check(self, values: Values) -> None:
        """Any values have a result."""

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> Known:
        """Products are found out when they are first asked for: whole or by row is a parameter."""
        del tensors, base, scratch
        return {}

    def rule(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: Known, scratch: Scratch) -> Rule:
        """One weighted sum, of a ratio that is the same for the whole tensor, or for each row."""
        assert base is not None
        many, by_row, shape = len(tensors), values.flag("filter_wise"), values.shape
        if by_row not in known:
            if by_row:
                dots = products_by_row(tensors, base, shape, scratch)
            else:
                dots = torch.as_tensor(products(tensors, base, scratch))[None]
            known[by_row] = ratios(dots)
        table = known[by_row]
        if not by_row:
            ratio = float(table[0])
            return Terms(base, tuple(tensors) if ratio else (), (ratio / many,) * many if ratio else ())

        def formula(origin: Tensor | None, chunks: Sequence[Tensor], place: slice) -> Tensor:
            assert origin is not None
            mean = sum((chunk.sub_(origin) for chunk in chunks[1:]), chunks[0].sub_(origin)).div_(many)
            return mean.mul_(table.to(origin.dtype)[row_of(place, shape, origin.device)]).add_(origin)

        return Pointwise(base, tuple(tensors), formula)


Known = dict[bool, "Tensor"]
"""Ratios by whether they are of rows."""


def ratios(dots: Tensor) -> Tensor:
    """t of every row, float64 [rows], from products of differences [rows, models, models]."""
    many = dots.shape[1]
    norms = dots.diagonal(dim1=1, dim2=2).clamp_min(0.0).sqrt()
    cosines = [
        (dots[:, i, j] / (norms[:, i] * norms[:, j]).clamp_min(NORM_FLOOR)).clamp(-1.0, 1.0)
        for i in range(many)
        for j in range(i + 1, many)
    ]
    cosine = torch.stack(cosines).sum(0) / math.comb(many, 2)
    denominator = 1.0 + (many - 1) * cosine
    flat = denominator.abs() < NORM_FLOOR
    return torch.where(flat, 0.0, many * cosine / torch.where(flat, 1.0, denominator))
