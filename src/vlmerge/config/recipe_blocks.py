"""A recipe: a complete, reproducible description of one merge. The file format is a superset of mergekit's.

`dtype` casts every input when it is read, before any arithmetic (as in mergekit), and the result has it; `out_dtype` rounds the
result once, when it is saved. Without either the result has the host's dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from vlmerge.config.chat_templates import CHAT_TEMPLATES
from vlmerge.config.fields import Block, DtypeField, Model, Text, Whole, complaint, not_empty
from vlmerge.config.model_ref import ModelRef
from vlmerge.config.parameter_values import ParameterField, ParameterValue
from vlmerge.config.tokenizer_blocks import TokenizerSpec

Parameters = Mapping[str, ParameterValue]


def _no_parameters(value: object) -> object:
    return {} if value is None else value


ParametersField = Annotated[dict[str, ParameterField], BeforeValidator(_no_parameters)]


class Source(Block):
    """A model that takes part, with parameters of its own."""

    model: Model
    parameters: ParametersField = Field(default_factory=dict)


class SliceSource(Source):
    """A model in a slice: its layers from the first up to, not including, the second number."""

    layer_range: tuple[Whole, Whole]

    @model_validator(mode="after")
    def _range(self) -> SliceSource:
        first, end = self.layer_range
        if not 0 <= first < end:
            raise complaint(
                "`layer_range` holds no layer", expected="[first, end], 0 <= first < end", found=f"[{first}, {end}]"
            )
        return self


class Slice(Block):
    """Some consecutive layers of the result."""

    not_yet: ClassVar[frozenset[str]] = frozenset({"residual_weight"})

    sources: Annotated[tuple[SliceSource, ...], AfterValidator(not_empty)]
    base_model: Model | None = None
    parameters: ParametersField = Field(default_factory=dict)


class Recipe(Block):
    """One merge.

    Attributes:
        merge_method: A key of METHODS.
        models: The models, each with its parameters; or
        slices: runs of layers, each with its models and parameters. Embeddings take the first slice's parameters, final norm
            and lm_head the last's. Exactly one of the two.
        base_model: The common ancestor. Among `models` it takes part there; else it is added at their end (as mergekit does),
            for every method; in slices it takes part only where a slice lists it.
        vlm: The host: what the result keeps everything else of. None: the first VLM; without any, `base_model`, else the first.
        parameters: Parameters for all.
        protect: Substrings of tensor names; what holds one stays the host's.
        dtype: Inputs are cast to it when read.
        out_dtype: The result is rounded to it once.
        seed: For methods that draw at random; the same seed draws the same, wherever and in whatever order.
        tokenizer: The vocabulary of the result; None: the host's. `tokenizer_source: X` is short for `{source: X}`.
        chat_template: Jinja text that the result's tokenizer gets; or the name of one of CHAT_TEMPLATES; or `auto`: the most
            frequent among the models.
        name: For headings.
    """

    not_yet: ClassVar[frozenset[str]] = frozenset({"modules"})

    name: Text | None = None
    merge_method: Text
    vlm: Model | None = None
    base_model: Model | None = None
    models: Annotated[tuple[Source, ...], AfterValidator(not_empty)] | None = None
    slices: Annotated[tuple[Slice, ...], AfterValidator(not_empty)] | None = None
    parameters: ParametersField = Field(default_factory=dict)
    protect: tuple[Text, ...] = ()
    dtype: DtypeField | None = None
    out_dtype: DtypeField | None = None
    seed: Annotated[Whole, Field(ge=0)] | None = None
    tokenizer: TokenizerSpec | None = None
    chat_template: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        """`tokenizer_source: X` is `tokenizer: {source: X}`."""
        if not isinstance(data, Mapping) or "tokenizer_source" not in data:
            return cast("Any", data)
        given = dict(cast("Mapping[str, Any]", data))
        source = given.pop("tokenizer_source")
        if given.get("tokenizer") is not None:
            found, remedy = "tokenizer and tokenizer_source", "keep one of them"
            raise complaint("the tokenizer is named twice", expected="one of them", found=found, remedy=remedy)
        return {**given, "tokenizer": {"source": source}} if source is not None else given

    @model_validator(mode="after")
    def _template_has_a_tokenizer(self) -> Recipe:
        template = self.chat_template
        if template is None:
            return self
        if template != "auto" and template not in CHAT_TEMPLATES and "{" not in template:
            expected = f"auto, one of {', '.join(CHAT_TEMPLATES)}, or Jinja text"
            remedy = "name one of these, or write the template itself"
            raise complaint("`chat_template` is no template", expected=expected, found=template, remedy=remedy)
        return self

    def model_refs(self) -> tuple[ModelRef, ...]:
        """Every model that takes part, in order of first appearance; then the base, if it is not listed. Not `vlm`, and not
        models whose tokenizer alone is named.
        """
        listed = [source.model for source in self.models or ()]
        for part in self.slices or ():
            listed += [source.model for source in part.sources]
        bases = [part.base_model for part in self.slices or ()] + [self.base_model]
        return tuple(dict.fromkeys([*listed, *(base for base in bases if base is not None)]))

    def opened_refs(self) -> tuple[ModelRef, ...]:
        """Every model that has to be opened: those that take part, those whose tokenizer is named, and `vlm`."""
        tokens = () if self.tokenizer is None else self.tokenizer.models()
        return tuple(dict.fromkeys([*self.model_refs(), *tokens, *(() if self.vlm is None else (self.vlm,))]))
