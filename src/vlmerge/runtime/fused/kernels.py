"""Triton kernels of the fused decoder: what stands between its matrix products, each reading its input once.

Sums and exponentials are float32; results are rounded where transformers rounds them, so that both paths differ by rounding
inside attention alone. With TRITON_INTERPRET=1 the same kernels run on a CPU, slowly: that is how they are tested there.
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportIndexIssue=false, reportAttributeAccessIssue=false
# numba and Triton compile these functions from their source; they have no types of Python's.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from vlmerge.runtime.fused.shapes import Blocks, Heads


def rms_norm(hidden: Tensor, weight: Tensor, epsilon: float, *, added: Tensor | None = None) -> Tensor:
    """Root-mean-square norm of rows [rows, width].

    Args:
        hidden: The residual stream; with `added`, that is added to it in place first.
        weight: [width].
        epsilon: Added to the mean square.
        added: [rows, width].
    """
    rows, width = hidden.shape
    out = torch.empty_like(hidden)
    block = triton.next_power_of_2(width)
    other = hidden if added is None else added
    _rms_norm[(rows,)](hidden, other, weight, out, epsilon, width, added is not None, block, num_warps=_warps(block))
    return out


def gated(both: Tensor) -> Tensor:
    """silu(gate) · up of [rows, 2·width], gate first → [rows, width]."""
    rows, width = both.shape[0], both.shape[1] // 2
    out = both.new_empty((rows, width))
    block = min(1024, triton.next_power_of_2(width))
    _gated[(rows, triton.cdiv(width, block))](both, out, width, block)
    return out


def turn_and_keep(
    qkv: Tensor, heads: Heads, positions: Tensor, cells: Tensor, turns: tuple[Tensor, Tensor], cache: tuple[Tensor, Tensor]
) -> None:
    """Rotary positions for queries (in place) and keys, and keys and values into their cells of the cache.

    Args:
        qkv: [rows, (queries + 2·keys)·size], contiguous.
        heads: Shape of attention.
        positions: int64 [rows], into the turns.
        cells: int64 [rows], into the cache.
        turns: Cosines and sines, each [positions, size / 2].
        cache: Keys and values of one layer, each [cells, keys, size].
    """
    at_once = 1
    while at_once < 8 and heads.queries % (2 * at_once) == 0 and heads.keys % (2 * at_once) == 0:
        at_once *= 2
    grid = (len(qkv), (heads.queries + 2 * heads.keys) // at_once)
    _turn_and_keep[grid](
        qkv, positions, cells, *turns, *cache, heads.queries, heads.keys, heads.size, at_once, num_warps=1
    )  # fmt: skip


def attend(qkv: Tensor, heads: Heads, blocks: Blocks, cache: tuple[Tensor, Tensor]) -> Tensor:
    """Attention of queries over cells of the cache; a query that sees nothing gives zeros.

    Args:
        qkv: [rows, (queries + 2·keys)·size]; only the queries are read.
        heads: Shape of attention.
        blocks: Who sees what.
        cache: Keys and values of one layer, each [cells, keys, size].

    Returns:
        [rows, queries·size].
    """
    out = qkv.new_empty((len(qkv), heads.queries * heads.size))
    group = triton.next_power_of_2(heads.group)
    tile = max(16, triton.next_power_of_2(blocks.tile) * group)
    scale = heads.size**-0.5 * 1.4426950408889634  # log2(e): exp2 is what the hardware has
    wide = qkv.dtype == torch.float32
    _attend[(len(blocks.first), heads.keys)](
        qkv, *cache, out,
        blocks.first, blocks.count, blocks.start1, blocks.length1, blocks.start2, blocks.seen,
        scale, heads.queries, heads.keys, heads.group, heads.size, group, tile,
        64 if tile <= 16 and not wide else 32, "ieee" if wide else "tf32",
        num_warps=4,
        num_stages=3,
    )  # fmt: skip
    return out


def _warps(block: int) -> int:
    return min(16, max(1, block // 512))


@triton.jit
def _rms_norm(hidden, added, weight, out, epsilon, width, HAS_ADDED: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803
    row = tl.program_id(0).to(tl.int64) * width
    at = tl.arange(0, BLOCK)
    inside = at < width
    value = tl.load(hidden + row + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_ADDED:
        rounded = (value + tl.load(added + row + at, mask=inside, other=0.0).to(tl.float32)).to(hidden.dtype.element_ty)
        tl.store(hidden + row + at, rounded, mask=inside)
        value = rounded.to(tl.float32)
    mean = tl.sum(value * value, axis=0) / width
    normal = (value * tl.rsqrt(mean + epsilon)).to(out.dtype.element_ty).to(tl.float32)
    scaled = normal * tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row + at, scaled.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gated(both, out, width, BLOCK: tl.constexpr):  # noqa: N803
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    gate = tl.load(both + row * 2 * width + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(both + row * 2 * width + width + at, mask=inside, other=0.0).to(tl.float32)
    open_by = (gate / (1.0 + tl.exp(-gate))).to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + row * width + at, (open_by * up).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _turn_and_keep(
    qkv, positions, cells, cosines, sines, keys, values,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, SIZE: tl.constexpr, AT_ONCE: tl.constexpr,  # noqa: N803
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * AT_ONCE
    half: tl.constexpr = SIZE // 2
    head = first + tl.arange(0, AT_ONCE)[:, None]
    at = tl.arange(0, half)[None, :]
    source = qkv + row * (QUERIES + 2 * KEYS) * SIZE + head * SIZE + at
    left = tl.load(source).to(tl.float32)
    right = tl.load(source + half).to(tl.float32)
    if first >= QUERIES + KEYS:
        target = values + (tl.load(cells + row) * KEYS + head - QUERIES - KEYS) * SIZE + at
        tl.store(target, left.to(values.dtype.element_ty))
        tl.store(target + half, right.to(values.dtype.element_ty))
    else:
        position = tl.load(positions + row)
        cosine = tl.load(cosines + position * half + at).to(tl.float32)
        sine = tl.load(sines + position * half + at).to(tl.float32)
        # Each product is rounded, as transformers rounds it.
        own = qkv.dtype.element_ty
        turned_left = ((left * cosine).to(own).to(tl.float32) - (right * sine).to(own).to(tl.float32)).to(own)
        turned_right = ((right * cosine).to(own).to(tl.float32) + (left * sine).to(own).to(tl.float32)).to(own)
        if first >= QUERIES:
            target = keys + (tl.load(cells + row) * KEYS + head - QUERIES) * SIZE + at
            tl.store(target, turned_left)
            tl.store(target + half, turned_right)
        else:
            tl.store(source, turned_left)
            tl.store(source + half, turned_right)


@triton.jit
def _fold(
    query, best, total, result, keys, values, cells, there, seen, scale,
    CUT: tl.constexpr, PRECISION: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Online softmax over one block of cells; with CUT, over those alone that each query sees."""
    if CUT:
        key = tl.load(keys + cells, mask=there[:, None], other=0.0)
        value = tl.load(values + cells, mask=there[:, None], other=0.0)
    else:
        key = tl.load(keys + cells)
        value = tl.load(values + cells)
    score = tl.dot(query, tl.trans(key), input_precision=PRECISION)
    if CUT:
        score = tl.where(seen, score, float("-inf"))
    new_best = tl.maximum(best, tl.max(score, axis=1) * scale)
    # A query that has seen nothing yet: -inf minus -inf would be NaN.
    safe = tl.where(new_best == float("-inf"), 0.0, new_best) if CUT else new_best
    share = tl.exp2(score * scale - safe[:, None])
    fade = tl.exp2(best - safe)
    total = total * fade + tl.sum(share, axis=1)
    result = result * fade[:, None] + tl.dot(share.to(value.dtype), value, input_precision=PRECISION)
    return new_best, total, result


@triton.jit
def _span(
    query, best, total, result, keys, values, start, length, least, limit, own_key, scale,
    KEYS: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """One span of cells; query m sees the first limit[m] of its `length`, and all queries the first `least`."""
    at = own_key * SIZE + tl.arange(0, SIZE)[None, :]
    whole = least // BLOCK * BLOCK
    for begin in range(0, whole, BLOCK):
        place = begin + tl.arange(0, BLOCK)
        cells = (start + place)[:, None] * (KEYS * SIZE) + at
        best, total, result = _fold(query, best, total, result, keys, values, cells, 0, 0, scale, False, PRECISION)
    for begin in range(whole, length, BLOCK):
        place = begin + tl.arange(0, BLOCK)
        cells = (start + place)[:, None] * (KEYS * SIZE) + at
        best, total, result = _fold(
            query,
            best,
            total,
            result,
            keys,
            values,
            cells,
            place < length,
            place[None, :] < limit[:, None],
            scale,
            True,
            PRECISION,
        )
    return best, total, result


@triton.jit
def _attend(
    qkv, keys, values, out, first, count, start1, length1, start2, seen, scale,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr,  # noqa: N803
    GROUP_ROOM: tl.constexpr, TILE_ROWS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,  # noqa: N803
):  # fmt: skip
    block, own_key = tl.program_id(0), tl.program_id(1)
    rows = tl.arange(0, TILE_ROWS)
    number, member = rows // GROUP_ROOM, rows % GROUP_ROOM
    queries = tl.load(count + block)
    present = (number < queries) & (member < GROUP)
    query_row = tl.load(first + block) + number
    head = own_key * GROUP + member
    at = tl.arange(0, SIZE)
    source = qkv + (query_row * (QUERIES + 2 * KEYS) + head)[:, None] * SIZE + at[None, :]
    query = tl.load(source, mask=present[:, None], other=0.0)
    best = tl.full([TILE_ROWS], float("-inf"), tl.float32)
    total = tl.zeros([TILE_ROWS], tl.float32)
    result = tl.zeros([TILE_ROWS, SIZE], tl.float32)
    whole = tl.load(length1 + block)
    best, total, result = _span(
        query, best, total, result, keys, values, tl.load(start1 + block), whole, whole, whole + number * 0, own_key, scale,
        KEYS, SIZE, BLOCK, PRECISION,
    )  # fmt: skip
    visible = tl.load(seen + block)
    best, total, result = _span(
        query, best, total, result, keys, values, tl.load(start2 + block), visible + queries - 1, visible, visible + number,
        own_key, scale, KEYS, SIZE, BLOCK, PRECISION,
    )  # fmt: skip
    result = result / tl.where(total == 0.0, 1.0, total)[:, None]
    target = out + (query_row * QUERIES + head)[:, None] * SIZE + at[None, :]
    tl.store(target, result.to(out.dtype.element_ty), mask=present[:, None])
