"""Reading the tables of `gpu_table` from within a kernel (Triton): which piece of which tensors a program works on.

Places within a piece are 32-bit numbers beside one pointer for each tensor: additions and comparisons of 64 bits, element by
element, would cost as much as the merge.
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# Triton compiles these functions from their source; they have no types of Python's.

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def piece_of(addresses, owners, starts, program, MANY: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803
    """Of a program: its tensor, that one's row of the table, the first element and how many there are from it on, to BLOCK."""
    owner = tl.load(owners + program).to(tl.int64)
    row = addresses + owner * (3 + MANY)
    first = tl.multiple_of(tl.load(starts + program), BLOCK)
    return owner, row, first, length_from(row, first, EVEN, BLOCK)


@triton.jit
def length_from(row, first, EVEN: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803
    """Elements of the row's tensors from `first` on, at most BLOCK."""
    there = tl.minimum(tl.load(row + 1) - first, BLOCK).to(tl.int32)
    # Only then are the widest words right.
    return tl.multiple_of(there, 16) if EVEN else there


@triton.jit
def tensor_from(row, which, first, TYPE: tl.constexpr, EVEN: tl.constexpr):  # noqa: N803
    """The row's result (which = 0), base (2) or input j (3 + j) from element `first` on."""
    start = tl.load(row + which).to(tl.pointer_type(TYPE))
    if EVEN:
        start = tl.multiple_of(start, 16)
    return start + first


@triton.jit
def values(tensor, own, there, CUT: tl.constexpr):  # noqa: N803
    """Elements at `own` as float32; with CUT, zero from `there` on."""
    if CUT:
        return tl.load(tensor + own, mask=own < there, other=0.0).to(tl.float32)
    return tl.load(tensor + own).to(tl.float32)


@triton.jit
def magnitudes(one, base, own, there, CUT: tl.constexpr):  # noqa: N803
    """Bits of |one - base| at `own`; with CUT, zero from `there` on."""
    difference = values(one, own, there, CUT) - values(base, own, there, CUT)
    return difference.to(tl.int32, bitcast=True) & 0x7FFFFFFF
