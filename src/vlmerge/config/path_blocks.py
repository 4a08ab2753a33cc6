"""What a `path:` run searches: the way through the layers of several decoders, weights left as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from vlmerge.config.fields import Block, DtypeField, Model, Number, Whole, complaint, misfit, not_empty
from vlmerge.config.model_ref import ModelRef

WINNER = ModelRef("winner")
"""Among the models of a path behind a `merge:` block: what that block's search found."""


class ScaleSpec(Block):
    """How the factors are searched by which hidden states are multiplied on their way (the paper's W).

    Attributes:
        bounds: Smallest and largest factor, both above 0.
        per: Which factors there are: one for each `change` from one model's layers to another's, in either direction; or one
            for each `block` of the sequence.
    """

    bounds: tuple[Number, Number] = (0.5, 2.0)
    per: Literal["change", "block"] = "change"

    @model_validator(mode="before")
    @classmethod
    def _bounds_alone(cls, value: object) -> object:
        return {"bounds": cast("Any", value)} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _around_one(self) -> ScaleSpec:
        low, high = self.bounds
        if not 0 < low < high or not low <= 1 <= high:
            found = f"[{low:g}, {high:g}]"
            raise complaint("a search of factors begins at 1", expected="[low, high], 0 < low <= 1 <= high", found=found)
        return self


def _scale(value: object) -> object:
    if value is False or value is None:
        return None
    if value is True:
        return {}
    if isinstance(value, list | tuple | Mapping | ScaleSpec):
        return cast("object", value)
    raise misfit("false, true, [low, high], or {bounds: [low, high], per: change | block}", value)


class PathSpec(Block):
    """Which ways through the layers are searched.

    The layers of the models stand in a sequence that is repeated; the first and the last layer of a path are the host's, and of
    all others an indicator says whether they are on the path. Embeddings, final norm, head, tower and projector are the host's.

    Attributes:
        models: The models whose layers there are, in the order of the sequence; the host is one of them. `winner`, where the
            run has a `merge:` block, is what that found.
        vlm: The host; None: `winner` if it is among the models, else the first VLM.
        order: The sequence: all layers of one model, then all of the next (`models`, as published); or layers of the same depth
            side by side (`depth`).
        repeats: How often the sequence is repeated.
        block: Consecutive layers of a model that share an indicator.
        scale: Factors on the way; None (`false` in a file): none.
        layers: Layers of each model; a run that has begun says them here.
        max_fevals: Searched candidates of the path, where the run has a `merge:` block; None: `search.max_fevals`.
        beside: Behind a `merge:` block, what is scored as it is in a row of its own: that block's host (`host`); or, where
            `vlm` names another than `winner`, that one and what the block found (`merged`).
        dtype: As in a recipe.
        out_dtype: As in a recipe.
    """

    models: Annotated[tuple[Model, ...], AfterValidator(not_empty)]
    vlm: Model | None = None
    order: Literal["models", "depth"] = "depth"
    repeats: Annotated[Whole, Field(ge=1)] = 1
    block: Annotated[Whole, Field(ge=1)] = 1
    scale: Annotated[ScaleSpec | None, BeforeValidator(_scale)] = None
    layers: tuple[Whole, ...] | None = None
    max_fevals: Annotated[Whole, Field(ge=1)] | None = None
    beside: tuple[Model, ...] = ()
    dtype: DtypeField | None = None
    out_dtype: DtypeField | None = None

    @model_validator(mode="after")
    def _whole(self) -> PathSpec:
        if len(set(self.models)) < len(self.models):
            found = ", ".join(map(str, self.models))
            raise complaint("`models` names a model twice", expected="every model once", found=found, remedy="use `repeats`")
        if self.layers is not None and len(self.layers) != len(self.models):
            raise complaint("`layers` and `models` differ in length", expected="one number for each model")
        if self.vlm is not None and self.vlm not in self.models:
            remedy = "add it to `models`"
            raise complaint("the host's layers begin and end a path", expected="a `vlm` among `models`", remedy=remedy)
        return self

    @property
    def base_model(self) -> None:
        """A path has no base."""
        return

    @property
    def protect(self) -> tuple[str, ...]:
        """Nothing: what is not a layer is the host's anyway."""
        return ()

    @property
    def after_merge(self) -> bool:
        """Whether `winner` is still to be found."""
        return WINNER in self.models
