"""passthrough: one model as it is, or scaled; with `slices`, layers of several models one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.config.method_table import MethodSpec
from vlmerge.methods.method import Values
from vlmerge.methods.summing import Summing
from vlmerge.methods.sums import Terms

if TYPE_CHECKING:
    from torch import Tensor


class Passthrough(Summing):
    """scale · x."""

    spec: MethodSpec = SPECS["passthrough"]

    def check(self, values: Values) -> None:
        """Any scale has a result."""

    def terms(self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: None) -> Terms:
        """A copy where there is no scale."""
        del base, known
        scale = values.sources[0]["scale"]
        return Terms(None, tuple(tensors), (1.0 if scale is None else float(scale),))
