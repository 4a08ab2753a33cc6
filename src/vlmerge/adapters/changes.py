"""Which tensors of a model its adapter changes, and how: paired by role, every tensor of the adapter used or refused.

An adapter names modules as transformers held them in memory when it was trained; files of models have other names, and so
have other releases. So a module is looked for under its own name first, then by its role in every known naming.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vlmerge.adapters.settings import LoraSettings
from vlmerge.anatomy import Anatomy, dissect
from vlmerge.anatomy.families import FAMILIES, Layout
from vlmerge.anatomy.roles import EMBEDDING, HEAD, VOCABULARY_ROLES, role_of
from vlmerge.checkpoint import AdapterFiles, Headers
from vlmerge.errors import MismatchError
from vlmerge.types import TensorInfo

DECODER_ALONE = Layout(name="decoder alone", decoder="")
"""An adapter that was trained on the decoder without a head around it."""

PREFIX = "base_model.model."
_LOW_RANK = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(\.[^.]+)?\.weight")
_LOW_RANK_ROWS = re.compile(r"(?P<module>.+)\.lora_embedding_(?P<side>[AB])(\.[^.]+)?")
_MAGNITUDE = re.compile(r"(?P<module>.+)\.lora_magnitude_vector(\.[^.]+)*")
_WRAPPING = re.compile(r"\.(base_layer|modules_to_save|default)(?=\.)")
"""Parts of names that come from how peft wraps a module. A tensor under such a name is one that was saved whole."""


@dataclass(frozen=True)
class Change:
    """What an adapter does to one tensor W of its model; names are those of the adapter's tensors.

    Attributes:
        whole: Takes the place of W.
        down, up: A and B: W + scaling · B·A. Both or none.
        scaling: Of the product.
        by_rows: The tensor is an embedding: W + scaling · (B·A)ᵀ.
        magnitude: Lengths that the rows of the sum are brought to (DoRA).
    """

    whole: str | None = None
    down: str | None = None
    up: str | None = None
    scaling: float = 0.0
    by_rows: bool = False
    magnitude: str | None = None


@dataclass(frozen=True)
class _Part:
    """One tensor of an adapter: `kind` is down, up, rows down, rows up, magnitude or whole."""

    info: TensorInfo
    module: str
    kind: str


def changes_of(adapter: AdapterFiles, settings: LoraSettings, base: Headers) -> dict[str, Change]:
    """Pairs an adapter with its model.

    Args:
        adapter: Headers read.
        settings: Its settings.
        base: Its model, headers read.

    Returns:
        Name of the model's tensor → what is done to it, in the adapter's file order.

    Raises:
        MismatchError: The adapter has tensors of another kind, for modules that the model lacks,
            or of another shape; the model is quantised.
    """
    return _Pairing(adapter, settings, base).changes()


class _Pairing:
    def __init__(self, adapter: AdapterFiles, settings: LoraSettings, base: Headers) -> None:
        self.where = str(adapter.ref)
        self.adapter, self.settings, self.base = adapter, settings, base
        self.anatomy: Anatomy = dissect(base)
        # The model's own namings first: another family may call something else by the same name.
        others = [layout for family in FAMILIES.values() if family != self.anatomy.family for layout in family.layouts]
        self.layouts: tuple[Layout, ...] = (*self.anatomy.family.layouts, *others, DECODER_ALONE)

    def changes(self) -> dict[str, Change]:
        parts: dict[str, dict[str, _Part]] = {}
        for info in self.adapter.tensors.values():
            part = self._part(info)
            target = self._target(part)
            known = parts.setdefault(target, {})
            if part.kind in known:
                raise self._refused(
                    "two tensors of the adapter play one part",
                    f"one for {target}",
                    f"{known[part.kind].info.name} and {info.name}",
                )
            known[part.kind] = part
        return {target: self._change(target, found) for target, found in parts.items()}

    def _part(self, info: TensorInfo) -> _Part:
        name = info.name.removeprefix(PREFIX)
        if not info.is_float:
            raise self._refused(
                "the adapter's own weights are quantised", "F16, BF16, F32 or F64", f"{info.name}: {info.dtype}"
            )
        if found := _LOW_RANK.fullmatch(name):
            return _Part(info, found["module"], "down" if found["side"] == "A" else "up")
        if found := _LOW_RANK_ROWS.fullmatch(name):
            return _Part(info, found["module"], "rows down" if found["side"] == "A" else "rows up")
        if found := _MAGNITUDE.fullmatch(name):
            return _Part(info, found["module"], "magnitude")
        module = _WRAPPING.sub("", name)
        if "lora_" in module or ".token_adapter." in module or ".original_module." in module:
            raise self._refused(
                "the adapter has a kind of weights that is not known here",
                "lora_A, lora_B, lora_embedding_A, lora_embedding_B, lora_magnitude_vector, or modules saved whole",
                info.name,
            )
        return _Part(info, module, "whole")

    def _target(self, part: _Part) -> str:
        """Name of the model's tensor that a part belongs to."""
        name = part.module if part.kind == "whole" else f"{part.module}.weight"
        if name in self.base.tensors:
            return name
        for layout in self.layouts:
            role = role_of(name, layout)
            if not role.startswith("other.") and role in self.anatomy.roles:
                return self.anatomy.roles[role]
        is_head = part.module.rpartition(".")[2] == "lm_head" and self.anatomy.facts.tied_head
        raise self._refused(
            "the adapter was trained on a module that the model has not got",
            f"a tensor for {name} in {self.base.ref}",
            "a head that is the embedding: merged into one, it would change both" if is_head else part.info.name,
            "name the model that the adapter was trained for"
            + (f" ({trained})" if (trained := self.adapter.config.get("base_model_name_or_path")) else ""),
        )

    def _change(self, target: str, found: Mapping[str, _Part]) -> Change:
        own = self.base.tensors[target]
        if not own.is_float:
            raise self._refused(
                "the adapter changes a tensor that is quantised", "F16, BF16, F32 or F64", f"{target}: {own.dtype}"
            )
        if self.anatomy.facts.tied_head and target == self.anatomy.roles.get(EMBEDDING):
            raise self._refused(
                "the adapter changes an embedding that is the head, too",
                f"an adapter that leaves {target} alone, or a model with {HEAD} in its files",
                ", ".join(part.info.name for part in found.values()),
            )
        names = {kind: part.info.name for kind, part in found.items()}
        by_rows = "rows up" in found or "rows down" in found
        down, up = ("rows down", "rows up") if by_rows else ("down", "up")
        if by_rows and ("up" in found or "down" in found):
            raise self._refused("an embedding has two kinds of LoRA", "one", ", ".join(names.values()))
        if (down in found) != (up in found) or ("magnitude" in found) > (up in found):
            raise self._refused("a pair of the adapter is not whole", f"A and B for {target}", ", ".join(names.values()))
        if ("magnitude" in found) != (self.settings.has_magnitudes and up in found):
            raise self._refused(
                "the adapter's magnitudes are not there, or not wanted (DoRA)",
                f"a lora_magnitude_vector for {target}"
                if self.settings.has_magnitudes
                else "use_dora: true in adapter_config.json",
                ", ".join(names.values()),
            )
        self._check_shapes(target, own, {kind: part.info.shape for kind, part in found.items()})
        if up not in found:
            return Change(whole=names["whole"])
        module = found[up].module
        self._check_rank(found[down], module)
        return Change(
            names.get("whole"), names[down], names[up], self.settings.scaling_of(module), by_rows, names.get("magnitude")
        )

    def _check_shapes(self, target: str, own: TensorInfo, shapes: Mapping[str, tuple[int, ...]]) -> None:
        rows, *columns = own.shape or (0,)
        rank = next((shape[0] for kind, shape in shapes.items() if kind.endswith("down") and shape), 0)
        wanted: dict[str, tuple[int, ...]] = {
            "whole": own.shape,
            "down": (rank, *columns),
            "up": (rows, rank, *(1 for _ in columns[1:])),
            "rows down": (rank, rows),
            "rows up": (math.prod(columns), rank),
            "magnitude": (rows,),
        }
        for kind, shape in shapes.items():
            if shape == wanted[kind] and not (kind != "whole" and len(own.shape) < 2):
                continue
            of_vocabulary = target in [self.anatomy.roles.get(role) for role in VOCABULARY_ROLES]
            counted = {"whole": shape[:1], "up": shape[:1], "rows down": shape[1:]}.get(kind, (rows,))
            resized = of_vocabulary and counted != (rows,)
            raise self._refused(
                "the adapter was trained with another vocabulary" if resized else "the adapter does not fit the model",
                f"{list(wanted[kind])} for {target} {list(own.shape)}",
                f"{list(shape)}",
                "an adapter that adds tokens cannot be merged on the fly: merge it with peft, and name the result"
                if resized
                else None,
            )
        if "magnitude" in shapes and (len(own.shape) != 2 or "rows up" in shapes):
            raise self._refused("DoRA is merged into linear layers alone", "a matrix of a linear layer", target)

    def _check_rank(self, down: _Part, module: str) -> None:
        rank = self.settings.rank_of(module)
        if down.info.shape[0] != rank:
            raise self._refused(
                "the adapter's weights and its adapter_config.json do not belong together",
                f"rank {rank} for {module}, as `r` and `rank_pattern` say",
                f"rank {down.info.shape[0]}: {down.info.name} {list(down.info.shape)}",
                "take both files from the adapter's own repository",
            )

    def _refused(self, what: str, expected: str, found: str, remedy: str | None = None) -> MismatchError:
        return MismatchError(
            what,
            where=f"{self.where}, for {self.base.ref}",
            expected=expected,
            found=found,
            remedy=remedy or "name the model that the adapter was trained for, or merge it with peft and name the result",
        )
