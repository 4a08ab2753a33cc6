"""float32 ↔ 16-bit floats by their bits, for numba, which has no 16-bit floats on a CPU.

An array of uint16 holds bfloat16, an array of int16 holds float16: the array's type says which, so that one kernel serves all.
Rounding is to the nearest, ties to even, as torch rounds.
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# pyright: reportPrivateImportUsage=false
# ruff: noqa: ARG001 - overloads have the parameters of what they overload
# numba and Triton compile these functions from their source; they have no types of Python's.

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic, overload

UNSIGNED = np.uint32
FLOAT = np.float32


def widen(value: Any) -> Any:
    """One element as float32."""
    raise NotImplementedError("for kernels only")


def narrow(value: Any, like: Any) -> Any:
    """A float32, rounded to the element type of the array `like`."""
    raise NotImplementedError("for kernels only")


def overflows(value: Any) -> Any:
    """Whether an element of a result is NaN or infinite."""
    raise NotImplementedError("for kernels only")


@intrinsic
def _half_to_float(_context: Any, value: Any) -> Any:
    """One machine instruction on every CPU of the last ten years."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.int16), generate


@intrinsic
def _float_to_half(_context: Any, value: Any) -> Any:
    """Rounds as IEEE 754 says."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16))

    return types.int16(types.float32), generate


@intrinsic
def fused(_context: Any, one: Any, two: Any, three: Any) -> Any:
    """one · two + three in a single rounding."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic
def _pointer(_context: Any, address: Any, like: Any) -> Any:
    """The address of elements of the type of the array `like`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.uint64, like), generate


@njit(inline="always")
def span(address: Any, begin: Any, end: Any, like: Any) -> Any:
    """Elements [begin, end) of the array at an address, which has the element type of the array `like`."""
    return carray(_pointer(address, like), end)[begin:end]


@overload(widen, inline="always")
def _widen(value: Any) -> Any:
    if value == types.uint16:

        def bfloat16(value: Any) -> Any:
            return UNSIGNED(UNSIGNED(value) << UNSIGNED(16)).view(FLOAT)

        return bfloat16
    if value == types.int16:

        def float16(value: Any) -> Any:
            return _half_to_float(value)

        return float16

    def float32(value: Any) -> Any:
        return value

    return float32


@overload(narrow, inline="always")
def _narrow(value: Any, like: Any) -> Any:
    if like.dtype == types.uint16:

        def bfloat16(value: Any, like: Any) -> Any:
            bits = FLOAT(value).view(UNSIGNED)
            rounded = UNSIGNED(bits + UNSIGNED(0x7FFF) + ((bits >> UNSIGNED(16)) & UNSIGNED(1))) >> UNSIGNED(16)
            # Rounding could carry NaN's bits over into a number.
            size = bits & UNSIGNED(0x7FFFFFFF)
            return np.uint16(UNSIGNED(0x7FC0) if size > UNSIGNED(0x7F800000) else rounded)

        return bfloat16
    if like.dtype == types.int16:

        def float16(value: Any, like: Any) -> Any:
            return _float_to_half(value)

        return float16

    def float32(value: Any, like: Any) -> Any:
        return value

    return float32


@overload(overflows, inline="always")
def _overflows(value: Any) -> Any:
    if value == types.uint16:

        def bfloat16(value: Any) -> Any:
            return (UNSIGNED(value) & UNSIGNED(0x7F80)) == UNSIGNED(0x7F80)

        return bfloat16
    if value == types.int16:

        def float16(value: Any) -> Any:
            return (UNSIGNED(value) & UNSIGNED(0x7C00)) == UNSIGNED(0x7C00)

        return float16

    def float32(value: Any) -> Any:
        return (FLOAT(value).view(UNSIGNED) & UNSIGNED(0x7F800000)) == UNSIGNED(0x7F800000)

    return float32
