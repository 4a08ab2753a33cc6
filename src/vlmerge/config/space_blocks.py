"""Which numbers a `merge:` run searches: groups of tensors, parameters of the method, ties, bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, cast

from pydantic import Field, model_validator

from vlmerge.config.fields import Block, Number, Text, Whole, complaint

Module = Literal["attention", "q/k", "v/o", "mlp", "gate/up", "down", "norms"]
HALVES: Mapping[str, tuple[str, str]] = MappingProxyType({"attention": ("q/k", "v/o"), "mlp": ("gate/up", "down")})
"""Module → the two that it is divided into."""


@dataclass(frozen=True)
class Searched:
    """How a parameter is searched where a run says nothing else.

    Attributes:
        low: Smallest value; None: no bound.
        high: Largest value; None: no bound.
        start: Where a search begins that knows nothing better; None: one over the number of models.
        scale: Standard deviation that a step size of 1 means.
    """

    low: float | None
    high: float | None
    start: float | None
    scale: float


SEARCHED: Mapping[str, Searched] = MappingProxyType(
    {
        "weight": Searched(None, None, None, 1.0),
        "t": Searched(None, None, 0.5, 1.0),
        "lambda": Searched(None, None, 1.0, 1.0),
        "density": Searched(0.01, 1.0, 0.8, 1.0),
        "rank": Searched(0.01, 1.0, 0.5, 1.0),
        "select_topk": Searched(0.01, 1.0, 0.8, 1.0),
        "gamma": Searched(0.0, 0.5, 0.01, 0.2),
    }
)
"""Parameter → how it is searched. Others are searched too, where a run gives their bounds and start."""


class GeneSpec(Block):
    """How one parameter of the method is searched. What is None is as in `SEARCHED`.

    Attributes:
        per: Which numbers it has: one per `group` of tensors (and model, where the method has one for each); one per `model`,
            the same for all groups; or one for `all`.
        bounds: Smallest and largest value.
        negative: Whether values below zero count as they are; false: their absolute value does, as in mergekit-evolve.
        start: Where a search begins that knows nothing better.
        scale: Standard deviation that a step size of 1 means.
    """

    per: Literal["group", "model", "all"] = "group"
    bounds: tuple[Number, Number] | None = None
    negative: bool = True
    start: Number | None = None
    scale: Number | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> GeneSpec:
        if self.bounds is not None:
            low, high = self.bounds
            if not low < high:
                raise complaint("the bounds hold no value", expected="[low, high], low < high", found=f"[{low:g}, {high:g}]")
            if self.start is not None and not low <= self.start <= high:
                found = f"start {self.start:g}, bounds [{low:g}, {high:g}]"
                raise complaint("the start is out of the bounds", expected="a start within them", found=found)
        return self

    def searched(self, name: str) -> Searched:
        """Everything decided.

        Args:
            name: The parameter's.
        """
        usual = SEARCHED.get(name)
        low, high = self.bounds or ((usual.low, usual.high) if usual else (None, None))
        width = 1.0 if low is None or high is None else (high - low) / 2
        scale = self.scale or (usual.scale if usual and self.bounds is None else width if usual is None else usual.scale)
        start = self.start if self.start is not None else usual.start if usual else None
        if start is not None:
            start = min(max(start, start if low is None else low), start if high is None else high)
        return Searched(low, high, start, scale)


class SpaceSpec(Block):
    """Which numbers are searched: of the method's parameters, for each group of tensors.

    Attributes:
        groups: Runs of layers, as equal as can be; or `layer`, each layer its own.
        separate: What has numbers of its own: `embed`, the embeddings (else they go with the first layers), and `head`, the
            final norm and lm_head (else with the last layers).
        modules: Of every run of layers, what has numbers of its own: `attention` (or `q/k`, `v/o`), `mlp` (or `gate/up`,
            `down`), `norms`. What is not named shares the run's. Where everything is named, what a family's layers hold
            besides goes with the norms.
        curve: The numbers of the layers lie on a `linear` or `quadratic` curve along depth, one for each of `modules`; then
            `groups` plays no part.
        parameters: Parameters of the method that have numbers beside the weights (or t): names, or each with how it is
            searched. `weight` may stand here, too, for its ties and bounds.
    """

    groups: Annotated[Whole, Field(ge=1)] | Literal["layer"] = 2
    separate: tuple[Literal["embed", "head"], ...] = ("embed", "head")
    modules: tuple[Module, ...] = ()
    curve: Literal["linear", "quadratic"] | None = None
    parameters: dict[Text, GeneSpec] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _names_alone(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        given = dict(cast("Mapping[str, Any]", value))
        listed = given.get("parameters")
        if isinstance(listed, str):
            listed = [listed]
        if isinstance(listed, list | tuple):
            names = list(cast("list[Any]", listed))
            if all(isinstance(name, str) for name in names):
                given["parameters"] = {name: {} for name in names}
        elif isinstance(listed, Mapping):
            named = cast("Mapping[str, Any]", listed)
            given["parameters"] = {name: {} if each is None else each for name, each in named.items()}
        return given

    @model_validator(mode="after")
    def _each_once(self) -> SpaceSpec:
        if len(set(self.separate)) < len(self.separate):
            found = ", ".join(self.separate)
            raise complaint("`separate` names something twice", expected="embed and head, each once", found=found)
        whole = [module for module, halves in HALVES.items() if module in self.modules and {*halves} & {*self.modules}]
        if len(set(self.modules)) < len(self.modules) or whole:
            found = ", ".join(self.modules)
            expected = "attention (or q/k, v/o), mlp (or gate/up, down), norms, each once"
            raise complaint("`modules` names something twice", expected=expected, found=found)
        return self


AUTO: tuple[SpaceSpec, ...] = (
    SpaceSpec(),
    SpaceSpec(modules=("attention", "mlp", "norms")),
    SpaceSpec(modules=("q/k", "v/o", "gate/up", "down", "norms")),
)
"""`space: auto`, coarse to fine, after one number per model; how many of them a run takes, its budget and questions say."""
