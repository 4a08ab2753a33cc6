"""Compiled merge kernels: numba on a CPU, Triton on a GPU. Without them plain torch does the same, rounding by rounding."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.kernels.compiled import Compiled


def kernels(out: Tensor) -> Compiled | None:
    """The CPU's kernels for results like `out`; None where plain torch has to do."""
    if out.device.type != "cpu" or out.numel() < 1:
        return None
    return _compiled()


@cache
def _compiled() -> Compiled | None:
    try:
        from vlmerge.methods.kernels.compiled import Compiled
    except ImportError:
        return None
    return Compiled()


def arrays_of(*tensors: Tensor) -> tuple[Any, ...] | None:
    """numpy views of flat CPU tensors of one dtype, as the kernels take them; None if they are not all of one such dtype,
    or if one has gaps (kernels know where inputs begin, no more)."""
    dtype = tensors[0].dtype
    if dtype not in _VIEWS or tensors[0].device.type != "cpu":
        return None
    if any(tensor.dtype != dtype or not tensor.is_contiguous() for tensor in tensors):
        return None
    seen_as, kind = _VIEWS[dtype]
    return tuple(tensor.view(seen_as).numpy().view(kind) for tensor in tensors)


_VIEWS: dict[torch.dtype, tuple[torch.dtype, str]] = {
    torch.float32: (torch.float32, "float32"),
    torch.float16: (torch.int16, "int16"),
    torch.bfloat16: (torch.int16, "uint16"),
}
