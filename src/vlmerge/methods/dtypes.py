"""dtypes of a merge: what inputs are cast to, and what the result has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vlmerge.types import FLOAT_DTYPES

if TYPE_CHECKING:
    from vlmerge.anatomy import TensorPair
    from vlmerge.config.recipe_blocks import Recipe

TORCH_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
"""safetensors spelling → torch's dtype."""


def named_dtype(name: str | None) -> torch.dtype | None:
    """torch's dtype by the name that recipes use (`float16`); None for None."""
    return None if name is None else getattr(torch, name)


def output_dtype(recipe: Recipe, pair: TensorPair) -> torch.dtype:
    """dtype of a tensor of the result: `out_dtype`, else `dtype`, else the host's own. Integers and buffers keep theirs."""
    wanted = named_dtype(recipe.out_dtype or recipe.dtype)
    if wanted is None or pair.dtype not in FLOAT_DTYPES or pair.is_buffer:
        return TORCH_DTYPES[pair.dtype]
    return wanted


def spelling(dtype: torch.dtype) -> str:
    """safetensors' spelling of torch's dtype."""
    return next(name for name, each in TORCH_DTYPES.items() if each == dtype)
