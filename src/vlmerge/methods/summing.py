"""What methods share whose result is one weighted sum: they say which, and the rest is the same for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlmerge.methods.method import Values
from vlmerge.methods.sums import Terms

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.scratch import Scratch


class Summing(ABC):
    """A method whose result is one weighted sum: many of its tensors can be merged in one launch."""

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> Any:
        """Nothing depends on the tensors alone, unless a method says so."""
        del tensors, base, scratch

    @abstractmethod
    def terms(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: Any) -> Terms:
        """The sum. Arguments as in `Method.rule`."""

    def rule(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: Any, scratch: Scratch) -> Terms:
        """Nothing else is needed."""
        del scratch
        return self.terms(tensors, base, values, known)
