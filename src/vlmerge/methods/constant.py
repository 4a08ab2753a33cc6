"""Tensors that hold one number throughout: what a merge makes of such parents, or a result that came to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmerge.methods.combine import as_cast

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.combine import Read
    from vlmerge.methods.resolved import Step

PROBE = 64
"""Elements that are looked at first: a tensor that differs among them is known not to be constant, whatever its size."""


class Constancy:
    """Whether the pieces of one tensor, seen one after the other, all hold one number."""

    def __init__(self) -> None:
        self._value: Tensor | None = None
        self._length = 0
        self._differs = False

    def see(self, piece: Tensor) -> None:
        """Looks at the next piece, which may be overwritten afterwards."""
        if self._differs or piece.numel() == 0:
            return
        flat = piece.reshape(-1)
        if self._value is None:
            self._value = flat[0].clone()
        self._length += flat.numel()
        self._differs = any(bool((part != self._value).any()) for part in (flat[:PROBE], flat) if part.numel())

    @property
    def value(self) -> float | None:
        """The number; None where there are several, or no more than one element to compare."""
        return None if self._differs or self._value is None or self._length < 2 else float(self._value)


def constant_of(tensor: Tensor) -> float | None:
    """The one number that a tensor holds throughout; None where it holds several, or a single element."""
    seen = Constancy()
    seen.see(tensor)
    return seen.value


def has_constant_parent(step: Step, read: Read) -> bool:
    """Whether one of the tensors that went in is constant as the result's dtype would hold it."""
    parents = list(step.pair.inputs.items())
    if step.pair.rows is not None:
        parents.append((step.host, step.pair.host_name))
    return any(constant_of(as_cast(as_cast(read(*each), step.cast), step.out_dtype)) is not None for each in parents)


def asks_for_zero(step: Step) -> bool:
    """Whether the recipe's own numbers make it zero: every weight or scale is 0, and nothing else goes in."""
    if step.base is not None or not step.values.sources:
        return False
    numbers: Sequence[object] = [values.get("weight", values.get("scale")) for values in step.values.sources]
    return all(number == 0 for number in numbers)
