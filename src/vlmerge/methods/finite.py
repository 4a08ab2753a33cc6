"""NaN and infinities: found in one pass over the data, and named."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from vlmerge.errors import MismatchError

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.scratch import Scratch


def is_finite(tensor: Tensor, scratch: Scratch) -> bool:
    """Whether a tensor holds neither NaN nor an infinity; integers always do."""
    if not tensor.dtype.is_floating_point or tensor.numel() == 0:
        return True
    if tensor.device.type != "cpu":
        return bool(torch.isfinite(tensor).all())
    flat = tensor.reshape(-1)
    for span in scratch.spans(flat.numel()):
        # Least and greatest carry NaN along: one pass without a mask in memory.
        least, greatest = torch.aminmax(flat[span])
        if not (math.isfinite(least.item()) and math.isfinite(greatest.item())):
            return False
    return True


def require_finite(tensor: Tensor, scratch: Scratch, *, model: str, name: str) -> None:
    """Raises MismatchError, naming model and tensor, where a parent holds NaN or an infinity."""
    if not is_finite(tensor, scratch):
        bad = int((~torch.isfinite(tensor)).sum())
        raise MismatchError(
            "a model holds NaN or infinity",
            where=f"{model}: {name}",
            expected="finite weights",
            found=f"{bad} of {tensor.numel()} values are not finite",
            remedy="fetch the model again; if its authors publish it so, it cannot be merged",
        )
