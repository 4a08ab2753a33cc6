"""Element types: safetensors' spelling against torch's."""

from __future__ import annotations

from types import MappingProxyType

TORCH_NAMES = MappingProxyType(
    {
        "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
        "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
        "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
        "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    }
)  # fmt: skip
"""safetensors spelling → the attribute of `torch` of the same type."""

SAFETENSORS_NAMES = MappingProxyType({f"torch.{name}": spelling for spelling, name in TORCH_NAMES.items()})
"""`str(tensor.dtype)` → safetensors spelling."""
