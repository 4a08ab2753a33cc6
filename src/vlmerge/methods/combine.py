"""One tensor of a merge, from reading to rounding. The merge to disk and the live merge both call this: what was scored is
what is exported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from vlmerge.errors import CandidateFailure
from vlmerge.methods.finite import is_finite
from vlmerge.methods.resolved import Step

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.anatomy import RowMap, TensorPair
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.methods.scratch import Scratch

Read = Callable[["ModelRef", str], "Tensor"]
"""(model, name on disk) → its tensor on the device of the merge; never written into."""


def combine(step: Step, read: Read, out: Tensor, scratch: Scratch, *, check_finite: bool = False) -> None:
    """Merges one tensor into `out`.

    Args:
        step: From `resolve_values`.
        read: Gives the inputs (and, for a vocabulary, the host's tensor), all on the device of `out`.
        out: Contiguous, of the pair's shape, `step.out_dtype`. May not share memory with an input.
        scratch: Buffers of the device.
        check_finite: Look for NaN and infinities in the result.

    Raises:
        CandidateFailure: The result is not finite (only with `check_finite`).
    """
    cast = step.cast
    tensors = [_read(read, ref, step.pair.inputs[ref], cast) for ref in step.inputs]
    base = _read(read, step.base, step.pair.inputs[step.base], cast) if step.base is not None else None
    rows = step.pair.rows
    if rows is None:
        step.method.merge([t.view(-1) for t in tensors], _flat(base), step.values, out.view(-1), scratch)
    else:
        _by_rows(step, rows, tensors, base, _read(read, step.host, step.pair.host_name, cast), out, scratch)
    if check_finite and not is_finite(out, scratch):
        raise CandidateFailure(f"NaN or infinity in {step.pair.name}")


def keep(pair: TensorPair, host: ModelRef, read: Read, out: Tensor, cast: torch.dtype | None) -> None:
    """Writes a tensor that is not merged: the host's, cast where the whole result is cast."""
    tensor = read(host, pair.host_name)
    if cast is not None and tensor.dtype.is_floating_point and not pair.is_buffer:
        tensor = tensor.to(cast)
    out.copy_(tensor)


def _by_rows(
    step: Step, rows: RowMap, tensors: list[Tensor], base: Tensor | None, host: Tensor, out: Tensor, scratch: Scratch
) -> None:
    """Merges the rows that every source has, as one tensor of their own; the others are the host's."""
    if rows.straight:
        count = rows.merged
        out[count:].copy_(host[count:])
        heads = [tensor[:count].view(-1) for tensor in tensors]
        step.method.merge(heads, _flat(base[:count] if base is not None else None), step.values, out[:count].view(-1), scratch)
        return
    out.copy_(host)
    gathered = [
        tensor.index_select(0, scratch.index(rows.sources[ref])).view(-1)
        for ref, tensor in zip(step.inputs, tensors, strict=True)
    ]
    from_base = None
    if base is not None and step.base is not None:
        from_base = base.index_select(0, scratch.index(rows.sources[step.base])).view(-1)
    merged = torch.empty((rows.merged, *out.shape[1:]), dtype=out.dtype, device=out.device)
    step.method.merge(gathered, from_base, step.values, merged.view(-1), scratch)
    out.index_copy_(0, scratch.index(rows.host), merged)


def _read(read: Read, ref: ModelRef, name: str, cast: torch.dtype | None) -> Tensor:
    tensor = read(ref, name)
    return tensor.to(cast if cast is not None else tensor.dtype).contiguous()


def _flat(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.view(-1)
