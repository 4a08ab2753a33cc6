"""A recipe's numbers, tensor by tensor: what a search that begins at a recipe has to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vlmerge.config import METHODS, MergeSpec, ModelRef, ParameterValue, Recipe, Source, resolve
from vlmerge.errors import ConfigError


@dataclass(frozen=True)
class _Part:
    """A run of layers [first, end) with its models and the levels of parameters above theirs, nearest first."""

    first: int
    end: int
    sources: Sequence[Source]
    levels: Sequence[Mapping[str, ParameterValue]]


@dataclass(frozen=True)
class RecipeValues:
    """The numbers of a recipe over a decoder of so many layers, each layer at its own place.

    Attributes:
        recipe: The recipe.
        merge: The run whose models it speaks of.
        parts: Its runs of layers.
        method: The method that the numbers are for: the recipe's own, or one that can say the same.
    """

    recipe: Recipe
    merge: MergeSpec
    parts: tuple[_Part, ...]
    method: str
    _known: dict[tuple[str, str, ModelRef | None], float] = field(
        default_factory=dict[tuple[str, str, "ModelRef | None"], float], compare=False, repr=False
    )

    @classmethod
    def of(cls, recipe: Recipe, merge: MergeSpec, layers: int) -> RecipeValues:
        """Reads a recipe.

        Raises:
            ConfigError: It speaks of other models or layers, or of parts of a model.
        """
        others = [str(model) for model in recipe.model_refs() if model not in (*merge.models, merge.base_model)]
        if others:
            raise refuse_start(
                "it merges models that the run does not", expected="the run's models alone", found=", ".join(others)
            )
        if recipe.modules is not None:
            raise refuse_start("it has `modules`", expected="`models` or `slices`", found="modules")
        if recipe.slices is None:
            return cls(recipe, merge, (_Part(0, layers, recipe.models or (), ()),), recipe.merge_method)
        parts: list[_Part] = []
        at = 0
        for part in recipe.slices:
            ranges = {source.layer_range for source in part.sources}
            first, end = part.sources[0].layer_range
            if len(ranges) > 1 or first != at:
                raise refuse_start("it moves layers", expected="every layer at its own place", found=f"{sorted(ranges)}")
            parts.append(_Part(first, end, part.sources, (part.parameters,)))
            at = end
        if at != layers:
            raise refuse_start("it has another number of layers", expected=f"{layers} layers", found=f"{at} layers")
        return cls(recipe, merge, tuple(parts), recipe.merge_method)

    def said_by(self, methods: Sequence[str]) -> tuple[str, RecipeValues]:
        """The method among these that can say the recipe, and its numbers for it: its own; or linear, for task arithmetic.

        Raises:
            ConfigError: None of them can.
        """
        own = self.recipe.merge_method
        if own in methods:
            base = self.recipe.base_model
            if METHODS[own].subtracts and base != self.merge.base_model:
                raise refuse_start(
                    "its base is another one", expected=str(self.merge.base_model or "no base"), found=str(base or "no base")
                )
            return own, self
        if own == "task_arithmetic" and "linear" in methods:
            return "linear", RecipeValues(self.recipe, self.merge, self.parts, "linear")
        raise refuse_start("it has another method", expected=" or ".join(methods), found=own)

    def columns(self, method: str) -> list[tuple[str, ModelRef | None]]:
        """Every number that a method has: (parameter, model), the model None for what all share."""
        found: list[tuple[str, ModelRef | None]] = []
        for parameter in METHODS[method].parameters.values():
            if parameter.kind != "number" or parameter.ignored:
                continue
            models = self.merge.searched_by(method) if parameter.per_source else (None,)
            found += [(parameter.name, model) for model in models]
        return found

    def number(self, tensor: str, parameter: str, model: ModelRef | None) -> float:
        """A parameter's value for a tensor, by its name in a plain language model. A model without a part has a weight of 0."""
        key = (tensor, parameter, model)
        if key not in self._known:
            self._known[key] = self._number(tensor, parameter, model)
        return self._known[key]

    def _number(self, tensor: str, parameter: str, model: ModelRef | None) -> float:
        if self.recipe.merge_method == "task_arithmetic" and self.method == "linear" and parameter == "weight":
            scale = self._raw(tensor, "lambda", None)
            if self._flag("normalize"):
                scale /= sum(self._raw(tensor, "weight", each) for each in self._inputs(tensor))
            differences = {each: scale * self._raw(tensor, "weight", each) for each in self._inputs(tensor)}
            rest = 1 - sum(differences.values()) if model == self.recipe.base_model else 0.0
            return differences.get(model, 0.0) + rest if model is not None else 0.0
        found = self._raw(tensor, parameter, model)
        if parameter == "weight" and METHODS[self.recipe.merge_method].normalizes and self._flag("normalize"):
            if self.merge.normalize:
                return found
            return found / sum(self._raw(tensor, "weight", each) for each in self._inputs(tensor))
        return found

    def _inputs(self, tensor: str) -> list[ModelRef]:
        """Models that have a weight in the part of a tensor."""
        listed = [source.model for source in self._part(tensor).sources]
        base = self.recipe.base_model if METHODS[self.recipe.merge_method].subtracts else None
        return [model for model in listed if model != base]

    def _raw(self, tensor: str, parameter: str, model: ModelRef | None) -> float:
        part = self._part(tensor)
        own = {source.model: source.parameters for source in part.sources}
        if model is not None and model not in own:
            return 0.0 if parameter == "weight" else float(METHODS[self.method].parameters[parameter].default or 0.0)
        t = 0.0
        if tensor.startswith("model.layers."):
            width = part.end - part.first
            t = (int(tensor.split(".")[2]) - part.first) / (width - 1) if width > 1 else 1.0
        levels = [level.get(parameter) for level in (*part.levels, self.recipe.parameters)]
        if model is not None:
            levels.insert(0, own[model].get(parameter))
        given = resolve(levels, [tensor], t)
        if given is None:
            known = METHODS[self.recipe.merge_method].parameters.get(parameter)
            given = (known.default if known is not None else None) or 0.0
        return float(given)

    def _part(self, tensor: str) -> _Part:
        if not tensor.startswith("model.layers."):
            return self.parts[0 if "embed_tokens" in tensor else -1]
        layer = int(tensor.split(".")[2])
        return next(part for part in self.parts if part.first <= layer < part.end)

    def _flag(self, name: str) -> bool:
        spec = METHODS[self.recipe.merge_method].parameters[name]
        return bool(self.recipe.parameters.get(name, spec.default))


def refuse_start(what: str, *, expected: str, found: str) -> ConfigError:
    """A start that a space cannot say."""
    return ConfigError(
        "the search cannot begin at this recipe",
        where=f"search.start: {what}",
        expected=expected,
        found=found,
        remedy="name another start, or a space that can say it (finer groups, the same method, wider bounds)",
    )
