"""A live model's tensors by role: parameters, and of those that hold several tensors of the files, the parts.

transformers holds the experts of a mixture in one parameter per kind, `[experts, rows, columns]`, the gate's rows before those
of `up`; on the hub each expert has tensors of its own. A part is a view: what is written into it is in the model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmerge.anatomy import live_roles

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Experts:
    """How the files of a kind of model name what transformers fuses, within a layer: `mlp.` and `mlp.experts.N.` in memory."""

    block: str
    gate: str
    up: str
    down: str


BY_EXPERT = Experts("mlp", "gate_proj", "up_proj", "down_proj")
EXPERTS = {
    "mixtral": Experts("block_sparse_moe", "w1", "w3", "w2"),
    "olmoe": BY_EXPERT,
    "qwen2_moe": BY_EXPERT,
    "qwen3_moe": BY_EXPERT,
}
"""model_type → the names in its files; checked against transformers 5.23."""

_IN_MEMORY = re.compile(r"(layers\.\d+)\.mlp\.(?:experts\.(gate_up_proj|down_proj)$)?")


def live_tensors(model: Any) -> dict[str, Tensor]:
    """Role → the tensor of a model in memory that plays it.

    Args:
        model: A transformers model.

    Raises:
        LookupError: Neither a VLM's nor a plain LM's names.
    """
    parameters: dict[str, Tensor] = {name: parameter.detach() for name, parameter in model.named_parameters()}
    experts = EXPERTS.get(model.config.model_type)
    live: dict[str, Tensor] = {}
    for role, name in live_roles(parameters).items():
        match = None if experts is None else _IN_MEMORY.match(role)
        if experts is None or match is None:
            live[role] = parameters[name]
            continue
        block = f"{match[1]}.{experts.block}."
        if match[2] is None:
            live[block + role[match.end() :]] = parameters[name]
            continue
        for number, held in enumerate(parameters[name]):
            at = f"{block}experts.{number}."
            if match[2] == "down_proj":
                live[f"{at}{experts.down}.weight"] = held
            else:
                live[f"{at}{experts.gate}.weight"], live[f"{at}{experts.up}.weight"] = held.chunk(2)
    return live
