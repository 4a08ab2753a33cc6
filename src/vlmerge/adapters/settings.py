"""adapter_config.json → the numbers of a LoRA; what cannot be merged into the weights exactly is refused by name.

Keys as peft 0.21 writes them. Those that only steer training (which modules, which layers, dropout) are not looked at: the
adapter's tensors tell what was trained. Nor is `fan_in_fan_out`, which peft itself ignores for linear layers, and all layers of
the known families are such.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from vlmerge.checkpoint import AdapterFiles
from vlmerge.errors import MismatchError

STARTS_FROM_THE_BASE = (None, True, False, "gaussian", "eva", "orthogonal", "mica")
"""Values of `init_lora_weights` that leave the base as it is. The others (pissa, olora, corda, loftq, …) take something out of
it at the start of the training, so that the adapter belongs to weights that no file holds; peft can save such an adapter as
an ordinary one."""

NOT_MERGEABLE = {
    "layer_replication": "it repeats layers of its base",
    "target_parameters": "it was trained on parameters instead of modules",
    "trainable_token_indices": "it has rows of the embedding trained one by one",
    "alora_invocation_tokens": "it acts only behind certain tokens",
    "lora_bias": "it trains a bias of its own",
    "megatron_config": "its layers are Megatron's",
}
"""Keys with which there are no merged weights, or none that this release makes."""

KNOWN_SWITCHES = ("use_rslora", "use_dora")
KNOWN_BLOCKS = ("loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config")
"""Blocks that have to do with the start of the training, and where it ran."""


@dataclass(frozen=True)
class LoraSettings:
    """The numbers of a LoRA.

    Attributes:
        where: The adapter, for messages.
        rank: Of modules that have none of their own.
        alpha: Likewise.
        ranks, alphas: Pattern of module names → the module's own.
        rank_stabilised: Scaled by α/√r instead of α/r (rsLoRA, Kalajdzievski 2023).
        has_magnitudes: Whether rows have a length of their own (DoRA, Liu et al. 2024).
    """

    where: str
    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    rank_stabilised: bool
    has_magnitudes: bool

    def rank_of(self, module: str) -> int:
        """Rank of a module, by its name in the model that was trained."""
        return int(self._own(self.ranks, module, self.rank))

    def scaling_of(self, module: str) -> float:
        """What B·A is multiplied by."""
        rank, alpha = self.rank_of(module), self._own(self.alphas, module, self.alpha)
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank

    def _own(self, patterns: Mapping[str, float], module: str, default: float) -> float:
        """peft's rule: the first pattern that is the end of the name, from a dot on, or all of it."""
        for pattern, value in patterns.items():
            try:
                if re.match(rf"(.*\.)?({pattern})$", module):
                    return value
            except re.error as error:
                raise _unusable(self.where, "patterns that are regular expressions", f"{pattern!r}: {error}") from error
        return default


def read_settings(adapter: AdapterFiles) -> LoraSettings:
    """Reads an adapter's settings.

    Raises:
        MismatchError: Another kind of adapter, or a kind of LoRA that cannot be merged exactly; numbers that are none.
    """
    config, where = adapter.config, str(adapter.ref)
    kind = config.get("peft_type")
    if kind != "LORA":
        raise _refused(where, f"its kind is {kind}, not LoRA", "peft_type: LORA", f"peft_type: {kind}")
    for key, reason in NOT_MERGEABLE.items():
        if config.get(key):
            raise _refused(where, reason, f"no `{key}`", f"{key}: {config[key]!r}")
    for key, value in config.items():
        is_switch = key.startswith("use_") and key not in KNOWN_SWITCHES
        is_block = key.endswith("_config") and key not in KNOWN_BLOCKS
        if value and (is_switch or is_block):
            raise _refused(
                where, "it is a variant of LoRA that is not known here", "plain LoRA, rsLoRA or DoRA", f"{key}: {value!r}"
            )
    start = config.get("init_lora_weights")
    if not any(start is value or (isinstance(value, str) and start == value) for value in STARTS_FROM_THE_BASE):
        raise _refused(
            where,
            "its training began by changing the weights of its base, and those are in no file",
            f"init_lora_weights: {', '.join(map(str, STARTS_FROM_THE_BASE[1:]))}",
            f"init_lora_weights: {start!r}",
            "convert it to an ordinary LoRA (peft: save_pretrained with path_initial_model_for_weight_conversion)",
        )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not _is_rank(rank):
        raise _unusable(where, "`r`: a whole number above 0", f"r: {rank!r}")
    if not _is_number(alpha):
        raise _unusable(where, "`lora_alpha`: a number", f"lora_alpha: {alpha!r}")
    return LoraSettings(
        where,
        cast("int", rank),
        float(cast("float", alpha)),
        _patterns(config, "rank_pattern", where),
        _patterns(config, "alpha_pattern", where),
        rank_stabilised=bool(config.get("use_rslora")),
        has_magnitudes=bool(config.get("use_dora")),
    )


def _patterns(config: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    given: Any = config.get(key) or {}
    fits = _is_rank if key == "rank_pattern" else _is_number
    if not isinstance(given, dict) or not all(fits(value) for value in cast("dict[str, Any]", given).values()):
        raise _unusable(where, f"`{key}`: module name → number", f"{key}: {given!r}")
    return cast("dict[str, Any]", given)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_rank(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _refused(where: str, reason: str, expected: str, found: str, remedy: str | None = None) -> MismatchError:
    return MismatchError(
        f"this adapter cannot be merged exactly: {reason}",
        where=where,
        expected=expected,
        found=found if len(found) <= 120 else found[:117] + "…",
        remedy=remedy or "merge it into its model with what it was trained with, and name the result",
    )


def _unusable(where: str, expected: str, found: str) -> MismatchError:
    return MismatchError(
        "adapter_config.json has a value that is not usable",
        where=where,
        expected=expected,
        found=found,
        remedy="take adapter_config.json from the adapter's own repository",
    )
