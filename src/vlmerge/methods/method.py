"""The contract of a merge method, and the values it is given for one tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vlmerge.config.method_table import MethodSpec

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.scratch import Scratch

Scalar = float | bool | None


class Rule(Protocol):
    """How each element of one result comes from its inputs' elements at the same place."""

    def part(self, span: slice) -> Rule:
        """The same for a part of the tensors."""
        ...

    def write(self, out: Tensor, scratch: Scratch) -> bool:
        """Computes `out`, of the tensors' length, rounded once to its dtype; gives whether all of it is finite."""
        ...


@dataclass(frozen=True)
class Values:
    """A method's parameters for one tensor, resolved.

    Attributes:
        shared: Parameters of the tensor as a whole.
        sources: Parameters of each input but the base, in the order of the inputs.
        keys: For methods that draw: what each input's lots for this tensor come from.
        shape: For methods that look at rows: the shape of the tensors, which come flat. For those that look at matrices:
            likewise, and empty where the tensor is none.
    """

    shared: Mapping[str, Scalar]
    sources: tuple[Mapping[str, Scalar], ...]
    keys: tuple[tuple[int, int], ...] = ()
    shape: tuple[int, ...] = ()

    def number(self, name: str) -> float:
        """A shared number."""
        return float(self.shared[name] or 0.0)

    def flag(self, name: str) -> bool:
        """A shared flag."""
        return bool(self.shared[name])

    def weights(self) -> list[float]:
        """`weight` of each input but the base."""
        return [float(values["weight"] or 0.0) for values in self.sources]


class Method(Protocol):
    """How tensors of one role combine. Without state."""

    @property
    def spec(self) -> MethodSpec:
        """Row of the method table."""
        ...

    def check(self, values: Values) -> None:
        """Raises CandidateFailure for values with which there is no result."""
        ...

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> Any:
        """What does not depend on the parameters: once per run and role. Arguments as in `rule`."""
        ...

    def rule(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: Any, scratch: Scratch) -> Rule:
        """What is to be computed; all that needs whole tensors is found out here.

        Args:
            tensors: The inputs but the base, in listed order; flat, contiguous, of one length, any float dtypes, on one device.
            base: The base, likewise; None for methods without one.
            values: Parameters.
            known: From `prepare` for the same tensors.
            scratch: Buffers of the device.
        """
        ...
