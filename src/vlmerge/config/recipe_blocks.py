"""A recipe: a complete, reproducible description of one merge. The file format is a superset of mergekit's.

`dtype` casts every input when it is read, before any arithmetic (as in mergekit), and the result has it; `out_dtype` rounds the
result once, when it is saved. Without either the result has the host's dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from vlmerge.config.chat_templates import CHAT_TEMPLATES
from vlmerge.config.fields import Block, DtypeField, Model, Text, Whole, complaint, not_empty
from vlmerge.config.model_ref import ModelRef
from vlmerge.config.parameter_values import ParameterField, ParameterValue
from vlmerge.config.tokenizer_blocks import TokenizerSpec

Parameters = Mapping[str, ParameterValue]
Part = Literal["decoder", "vision", "projector"]
MODULES: Mapping[str, Part] = MappingProxyType(
    {"default": "decoder", "text_decoder": "decoder", "vision_tower": "vision", "multi_modal_projector": "projector"}
)
"""mergekit's name of a module → the part of a model that it means. A language model is one module, `default`."""


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

    not_here: ClassVar[Mapping[str, str]] = MappingProxyType({"residual_weight": "read by mergekit without any effect"})

    sources: Annotated[tuple[SliceSource, ...], AfterValidator(not_empty)]
    base_model: Model | None = None
    parameters: ParametersField = Field(default_factory=dict)


class Module(Block):
    """A part of the result with models, or slices, of its own; and parameters, which stand between theirs and the recipe's."""

    models: Annotated[tuple[Source, ...], AfterValidator(not_empty)] | None = None
    slices: Annotated[tuple[Slice, ...], AfterValidator(not_empty)] | None = None
    parameters: ParametersField = Field(default_factory=dict)

    def model_refs(self) -> list[ModelRef]:
        """Its models as listed; then the bases that slices name."""
        listed = [source.model for source in self.models or ()]
        listed += [source.model for part in self.slices or () for source in part.sources]
        return listed + [part.base_model for part in self.slices or () if part.base_model is not None]

    def rewritten(self, ref: Callable[[ModelRef], ModelRef], parameters: Callable[[Parameters], Parameters]) -> Module:
        """The same with every model and every set of parameters passed through."""

        def source(one: Source) -> Source:
            return one.model_copy(update={"model": ref(one.model), "parameters": parameters(one.parameters)})

        def part(one: Slice) -> Slice:
            sources, base = tuple(source(each) for each in one.sources), one.base_model and ref(one.base_model)
            return one.model_copy(update={"sources": sources, "base_model": base, "parameters": parameters(one.parameters)})

        models = self.models and tuple(source(one) for one in self.models)
        slices = self.slices and tuple(part(one) for one in self.slices)
        return Module.model_construct(models=models, slices=slices, parameters=parameters(self.parameters))


class Recipe(Block):
    """One merge.

    Attributes:
        merge_method: A key of METHODS.
        models: The models, each with its parameters; or
        slices: runs of layers, each with its models and parameters. Embeddings take the first slice's parameters, final norm
            and lm_head the last's; or
        modules: parts of the model (see MODULES), each with models or slices; a part that is not named stays the host's.
            Exactly one of the three.
        base_model: The common ancestor. Among `models` it takes part there; else it is added at their end (as mergekit does),
            for every method; in slices it takes part only where a slice lists it.
        vlm: The host: what the result keeps everything else of. None: the first VLM; without any, `base_model`, else the first.
        parameters: Parameters for all.
        protect: Substrings of tensor names; what holds one stays the host's. `token:TOKEN`: that token's row does.
        dtype: Inputs are cast to it when read.
        out_dtype: The result is rounded to it once.
        seed: For methods that draw at random; the same seed draws the same, wherever and in whatever order.
        tokenizer: The vocabulary of the result; None: the host's. `tokenizer_source: X` is short for `{source: X}`.
        chat_template: Jinja text that the result's tokenizer gets; or the name of one of CHAT_TEMPLATES; or `auto`: the most
            frequent among the models.
        name: For headings.
    """

    name: Text | None = None
    merge_method: Text
    vlm: Model | None = None
    base_model: Model | None = None
    models: Annotated[tuple[Source, ...], AfterValidator(not_empty)] | None = None
    slices: Annotated[tuple[Slice, ...], AfterValidator(not_empty)] | None = None
    modules: Annotated[dict[str, Module], AfterValidator(not_empty)] | None = None
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

    @property
    def whole(self) -> Module:
        """The recipe's own `models` or `slices`, for all parts of a model."""
        return Module.model_construct(models=self.models, slices=self.slices, parameters={})

    def blocks(self) -> dict[Part, Module]:
        """Part → its block. Without `modules` the decoder's alone, which the other parts then follow."""
        if self.modules is None:
            return {"decoder": self.whole}
        return {MODULES[name]: block for name, block in self.modules.items()}

    def model_refs(self) -> tuple[ModelRef, ...]:
        """Every model that takes part, in order of first appearance; then the base, if it is not listed. Not `vlm`, and not
        models whose tokenizer alone is named.
        """
        listed = [ref for block in (self.whole, *(self.modules or {}).values()) for ref in block.model_refs()]
        return tuple(dict.fromkeys([*listed, *([self.base_model] if self.base_model is not None else [])]))

    def rewritten(
        self,
        *,
        ref: Callable[[ModelRef], ModelRef] = lambda ref: ref,
        parameters: Callable[[Parameters], Parameters] = lambda parameters: parameters,
    ) -> Recipe:
        """The same recipe with every model but those of `tokenizer`, and every set of parameters, passed through."""
        whole = self.whole.rewritten(ref, parameters)
        modules = self.modules and {name: block.rewritten(ref, parameters) for name, block in self.modules.items()}
        heads = {"vlm": self.vlm and ref(self.vlm), "base_model": self.base_model and ref(self.base_model)}
        blocks = {"models": whole.models, "slices": whole.slices, "modules": modules}
        return self.model_copy(update={**heads, **blocks, "parameters": parameters(self.parameters)})

    def parameter_sets(self) -> list[Parameters]:
        """Every set of parameters in it: the recipe's, and those of modules, slices and models."""
        found: list[Parameters] = []

        def seen(given: Parameters) -> Parameters:
            found.append(given)
            return given

        self.rewritten(parameters=seen)
        return found

    def opened_refs(self) -> tuple[ModelRef, ...]:
        """Every model that has to be opened: those that take part, those whose tokenizer is named, and `vlm`."""
        tokens = () if self.tokenizer is None else self.tokenizer.models()
        return tuple(dict.fromkeys([*self.model_refs(), *tokens, *(() if self.vlm is None else (self.vlm,))]))
