"""How tensors of one role combine. One file per method, one line here; `config.method_table` has their parameters."""

from __future__ import annotations

from collections.abc import Mapping

from vlmerge.methods.combine import Known, Read, combine, keep
from vlmerge.methods.dtypes import named_dtype, output_dtype, spelling
from vlmerge.methods.finite import is_finite, require_finite
from vlmerge.methods.linear import Linear
from vlmerge.methods.method import Method, Values
from vlmerge.methods.resolved import Step, resolve_values
from vlmerge.methods.scratch import Scratch
from vlmerge.methods.slerp import Slerp
from vlmerge.methods.task_arithmetic import TaskArithmetic

METHODS: Mapping[str, Method] = {
    "linear": Linear(),
    "slerp": Slerp(),
    "task_arithmetic": TaskArithmetic(),
}

__all__ = [
    "METHODS",
    "Known",
    "Method",
    "Read",
    "Scratch",
    "Step",
    "Values",
    "combine",
    "is_finite",
    "keep",
    "named_dtype",
    "output_dtype",
    "require_finite",
    "resolve_values",
    "spelling",
]
