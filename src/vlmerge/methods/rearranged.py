"""Vocabulary tensors laid out anew, each model's rows where the result's tokens want them; then merged as whole tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.anatomy import Rearranged
    from vlmerge.config.model_ref import ModelRef


ROWS = 4096
"""Rows that are added up at once."""


def rearranged(tensors: Mapping[ModelRef, Tensor], plan: Rearranged) -> dict[ModelRef, Tensor]:
    """Every model of the plan in the result's rows.

    Args:
        tensors: Of the models, and of those that fills name, [rows, …], on one device; a row has one shape in all of them.
        plan: Which row goes where.

    Returns:
        [plan.total, …] of the widest dtype among the models.
    """
    dtype = tensors[next(iter(plan.rows))].dtype
    for ref in plan.rows:
        dtype = torch.promote_types(dtype, tensors[ref].dtype)
    fills = [(torch.as_tensor(fill.rows), _value(tensors, fill.sources), fill) for fill in plan.fills]
    found: dict[ModelRef, Tensor] = {}
    for ref, rows in plan.rows.items():
        tensor = tensors[ref]
        out = torch.zeros((plan.total, *tensor.shape[1:]), dtype=dtype, device=tensor.device)
        has = rows >= 0
        targets = torch.as_tensor(plan.named[has], device=tensor.device)
        out[targets] = tensor[torch.as_tensor(rows[has], device=tensor.device)].to(dtype)
        lacks = torch.as_tensor(np.isin(np.arange(plan.total), plan.named[~has]))
        for at, value, fill in fills:
            wanted = torch.ones_like(at, dtype=torch.bool) if fill.force else lacks[at]
            places = at[wanted].to(tensor.device)
            out[places] = 0.0 if value is None else value[wanted.to(value.device)].to(dtype)
        _pad(out, plan)
        found[ref] = out
    return found


def _value(tensors: Mapping[ModelRef, Tensor], sources: tuple[tuple[ModelRef, object], ...]) -> Tensor | None:
    """The mean of rows, [n, …]; None: zeros."""
    rows = [tensors[ref][torch.as_tensor(numbers, device=tensors[ref].device)] for ref, numbers in sources]
    if len(rows) < 2:
        return rows[0] if rows else None
    return torch.stack([each.float() for each in rows]).mean(0)


def _pad(out: Tensor, plan: Rearranged) -> None:
    """Rows without a token are the mean of those with one."""
    if len(plan.named) == plan.total:
        return
    named = torch.as_tensor(plan.named, device=out.device)
    padding = torch.ones(plan.total, dtype=torch.bool, device=out.device)
    padding[named] = False
    total = torch.zeros(out.shape[1:], dtype=torch.float64, device=out.device)
    for start in range(0, len(named), ROWS):  # A vocabulary in float64 would take more memory than the merge.
        total += out[named[start : start + ROWS]].double().sum(0)
    out[padding] = (total / len(named)).to(out.dtype)
