"""One tensor of a merge, from reading to rounding. The live merge calls `combine` and `keep`; the merge to disk takes the same
rules and casts piece by piece (`pieces.py`): what was scored is what is exported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from vlmerge.errors import CandidateFailure
from vlmerge.methods.finite import is_finite
from vlmerge.methods.rearranged import rearranged
from vlmerge.methods.resolved import Step

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.anatomy import Rearranged, RowMap, TensorPair
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.methods.method import Rule
    from vlmerge.methods.scratch import Scratch

Read = Callable[["ModelRef", str], "Tensor"]
"""(model, name on disk) → its tensor on the device of the merge; never written into."""
Known = dict[object, object]
"""What methods found out about tensors, by method, tensor and models."""


def combine(step: Step, read: Read, out: Tensor, scratch: Scratch, known: Known | None = None) -> None:
    """Merges one tensor into `out`.

    Args:
        step: From `resolve_values`.
        read: Gives the inputs (and, for a vocabulary, the host's tensor), all on the device of `out`.
        out: Contiguous, of the pair's shape, `step.out_dtype`. May not share memory with an input.
        scratch: Buffers of the device.
        known: What methods found out about these tensors before; added to. None where nothing comes after.

    Raises:
        CandidateFailure: The result is not finite.
    """
    if out.numel() == 0:
        return
    if step.pair.rearranged is not None:
        tensors, base = _laid_out_anew(step, step.pair.rearranged, read)
    else:
        tensors, base = inputs_of(step, read)
    rows = step.pair.rows
    if rows is None:
        finite = _merge(step, [t.view(-1) for t in tensors], _flat(base), out.view(-1), scratch, known)
    else:
        host = _read(read, step.host, step.pair.host_name, step.cast)
        finite = _by_rows(step, rows, tensors, base, host, out, scratch, known)
    if not finite:
        raise CandidateFailure(f"NaN or infinity in {step.pair.name}")


def inputs_of(step: Step, read: Read, *, cast: bool = True) -> tuple[list[Tensor], Tensor | None]:
    """The inputs and the base of a step, contiguous; cast as the recipe says, unless the caller does that."""
    wanted = step.cast if cast else None
    tensors = [_read(read, ref, step.pair.inputs[ref], wanted) for ref in step.inputs]
    return tensors, None if step.base is None else _read(read, step.base, step.pair.inputs[step.base], wanted)


def known_of(step: Step, tensors: list[Tensor], base: Tensor | None, scratch: Scratch, known: Known | None) -> object:
    """What the step's method wants to know about its tensors: found out once per run and role."""
    names = tuple(step.pair.inputs[ref] for ref in step.sources)
    key = (step.method.spec.name, step.pair.name, step.inputs, step.base, names, step.cast)
    if known is None:
        return step.method.prepare(tensors, base, scratch)
    if key not in known:
        known[key] = step.method.prepare(tensors, base, scratch)
    return known[key]


def _merge(step: Step, tensors: list[Tensor], base: Tensor | None, out: Tensor, scratch: Scratch, known: Known | None) -> bool:
    return rule_of(step, tensors, base, scratch, known).write(out, scratch)


def rule_of(step: Step, tensors: list[Tensor], base: Tensor | None, scratch: Scratch, known: Known | None = None) -> Rule:
    """What a step's method computes of flat tensors."""
    return step.method.rule(tensors, base, step.values, known_of(step, tensors, base, scratch, known), scratch)


def keep(pair: TensorPair, host: ModelRef, read: Read, out: Tensor, cast: torch.dtype | None) -> None:
    """Writes a tensor that is not merged: the host's, cast where the whole result is cast."""
    tensor = host_tensor(pair, host, read)
    cast = cast_of(pair, tensor, cast)
    out.copy_(as_cast(tensor, cast))


def host_tensor(pair: TensorPair, host: ModelRef, read: Read) -> Tensor:
    """The host's tensor, in the rows of the result's vocabulary."""
    tensor = read(host, pair.host_name)
    return tensor if pair.rearranged is None else rearranged({host: tensor}, pair.rearranged)[host]


def cast_of(pair: TensorPair, tensor: Tensor, cast: torch.dtype | None) -> torch.dtype | None:
    """What a tensor that is not merged is cast to, where the recipe casts: not integers, nor what is no weight."""
    return cast if tensor.dtype.is_floating_point and not pair.is_buffer else None


def as_cast(tensor: Tensor, cast: torch.dtype | None) -> Tensor:
    """The tensor in a dtype; None: in its own."""
    return tensor if cast is None else tensor.to(cast)


def _laid_out_anew(step: Step, plan: Rearranged, read: Read) -> tuple[list[Tensor], Tensor | None]:
    """The inputs and the base in the rows of the result's vocabulary."""
    names = {**step.pair.lenders, **{ref: step.pair.inputs[ref] for ref in step.sources}}
    laid_out = rearranged({ref: _read(read, ref, name, step.cast) for ref, name in names.items()}, plan)
    return [laid_out[ref] for ref in step.inputs], None if step.base is None else laid_out[step.base]


def _by_rows(
    step: Step,
    rows: RowMap,
    tensors: list[Tensor],
    base: Tensor | None,
    host: Tensor,
    out: Tensor,
    scratch: Scratch,
    known: Known | None,
) -> bool:
    """Merges the rows that every source has, as one tensor of their own; the others are the host's."""
    if rows.straight:
        count = rows.merged
        out[count:].copy_(host[count:])
        heads = [tensor[:count].view(-1) for tensor in tensors]
        finite = _merge(step, heads, _flat(base[:count] if base is not None else None), out[:count].view(-1), scratch, known)
        return finite and is_finite(out[count:], scratch)
    out.copy_(host)
    gathered = [
        tensor.index_select(0, scratch.index(rows.sources[ref])).view(-1)
        for ref, tensor in zip(step.inputs, tensors, strict=True)
    ]
    from_base = None
    if base is not None and step.base is not None:
        from_base = base.index_select(0, scratch.index(rows.sources[step.base])).view(-1)
    merged = torch.empty((rows.merged, *out.shape[1:]), dtype=out.dtype, device=out.device)
    finite = _merge(step, gathered, from_base, merged.view(-1), scratch, known)
    out.index_copy_(0, scratch.index(rows.host), merged)
    return finite and is_finite(out, scratch)


def _read(read: Read, ref: ModelRef, name: str, cast: torch.dtype | None) -> Tensor:
    return as_cast(read(ref, name), cast).contiguous()


def _flat(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.view(-1)
