"""How tensors of one role combine. One file per method, one line here; `config.method_table` has their parameters."""

from __future__ import annotations

from collections.abc import Mapping

from vlmerge.config.method_table import METHODS as SPECS
from vlmerge.methods.arcee_fusion import ArceeFusion
from vlmerge.methods.combine import Known, Read, combine, keep
from vlmerge.methods.constant import Constancy, asks_for_zero, constant_of, has_constant_parent
from vlmerge.methods.dtypes import named_dtype, output_dtype, spelling
from vlmerge.methods.finite import is_finite, require_finite
from vlmerge.methods.karcher import Karcher
from vlmerge.methods.linear import Linear
from vlmerge.methods.method import Method, Values
from vlmerge.methods.model_stock import ModelStock
from vlmerge.methods.multislerp import MultiSlerp
from vlmerge.methods.nearswap import NearSwap
from vlmerge.methods.nuslerp import NuSlerp
from vlmerge.methods.passthrough import Passthrough
from vlmerge.methods.pieces import Turns, kept_pieces, merged_pieces
from vlmerge.methods.ram import Ram
from vlmerge.methods.resolved import Step, resolve_values, steps_of
from vlmerge.methods.sce import Sce
from vlmerge.methods.scratch import Scratch
from vlmerge.methods.slerp import Slerp
from vlmerge.methods.sparse import Sparse
from vlmerge.methods.svd_linear import SvdLinear
from vlmerge.methods.task_arithmetic import TaskArithmetic

METHODS: Mapping[str, Method] = {
    "linear": Linear(),
    "slerp": Slerp(),
    "nuslerp": NuSlerp(),
    "multislerp": MultiSlerp(),
    "karcher": Karcher(),
    "nearswap": NearSwap(),
    "task_arithmetic": TaskArithmetic(),
    "ties": Sparse(SPECS["ties"], "largest", elect=True),
    "dare_linear": Sparse(SPECS["dare_linear"], "drawn", elect=False),
    "dare_ties": Sparse(SPECS["dare_ties"], "drawn", elect=True),
    "della": Sparse(SPECS["della"], "ranked", elect=True),
    "della_linear": Sparse(SPECS["della_linear"], "ranked", elect=False),
    "breadcrumbs": Sparse(SPECS["breadcrumbs"], "band", elect=False),
    "breadcrumbs_ties": Sparse(SPECS["breadcrumbs_ties"], "band", elect=True),
    "sce": Sce(),
    "ram": Ram(SPECS["ram"], amplify=False),
    "ramplus_tl": Ram(SPECS["ramplus_tl"], amplify=True),
    "model_stock": ModelStock(),
    "arcee_fusion": ArceeFusion(),
    "passthrough": Passthrough(),
    "svd_linear": SvdLinear(),
}

__all__ = [
    "METHODS",
    "Constancy",
    "Known",
    "Method",
    "Read",
    "Scratch",
    "Step",
    "Turns",
    "Values",
    "asks_for_zero",
    "combine",
    "constant_of",
    "has_constant_parent",
    "is_finite",
    "keep",
    "kept_pieces",
    "merged_pieces",
    "named_dtype",
    "output_dtype",
    "require_finite",
    "resolve_values",
    "spelling",
    "steps_of",
]
