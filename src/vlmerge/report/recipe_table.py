"""Figure 3's data: a recipe's numbers by layer group and model, equal neighbours taken together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from vlmerge.config import (
    METHODS,
    Filtered,
    ModelRef,
    Module,
    ParameterSpec,
    ParameterValue,
    Recipe,
    Source,
    read_recipe,
    resolve,
)

MODULES = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
    "norm 1": "input_layernorm", "norm 2": "post_attention_layernorm",
}  # fmt: skip
"""Short names of a decoder layer's tensors, and how a plain language model names them."""

PARTS = {
    ("q", "k", "v", "o"): "attention",
    ("gate", "up", "down"): "mlp",
    ("norm 1", "norm 2"): "norms",
    ("q", "k", "v", "o", "gate", "up", "down"): "matrices",
    tuple(MODULES): "",
}
"""What groups of them are called (keys of the phrases `part.…`)."""

Values = tuple[float | None, ...]
_Column = tuple[ModelRef | None, ParameterSpec]


@dataclass(frozen=True)
class Group:
    """Tensors that share their numbers.

    Attributes:
        outer: `embed`, `norm` or `head` outside the layers (joined by `+`), else empty.
        layers: First and last layer; None outside the layers, or where the model's depth is not known and all layers agree.
        part: A key of the phrases `part.…`, or the tensors' short names.
        values: One per column; None: kept from the host.
    """

    outer: str
    layers: tuple[int, int] | None
    part: str
    values: Values


@dataclass(frozen=True)
class RecipeTable:
    """A recipe as a picture: columns are (model, parameter), rows are groups from the embeddings to the head."""

    method: str
    columns: tuple[tuple[str, str], ...]
    groups: tuple[Group, ...]
    normalised: bool
    protect: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """A run of layers that one list of sources makes: all of them, or a slice.

    Attributes:
        sources: The models.
        first: Each model's first layer in it.
        parameters: Levels above the models', nearest first, without the recipe's own.
        layers: How many.
    """

    sources: Sequence[Source]
    first: Mapping[ModelRef, int]
    parameters: Sequence[Mapping[str, ParameterValue]]
    layers: int


def recipe_table(recipe_text: str, labels: Mapping[str, str], layers: int | None) -> RecipeTable | None:
    """Resolves every parameter of a recipe for every tensor of a decoder, and joins what is equal.

    Args:
        recipe_text: The recipe's YAML.
        labels: Model (as recipes name it) → heading.
        layers: Depth of the decoder, where it is known.

    Returns:
        The table; None where the recipe has no numbers.
    """
    recipe = read_recipe(recipe_text, "the store's recipe")
    columns = _columns(recipe)
    if not columns:
        return None
    spec = METHODS[recipe.merge_method].parameters.get("normalize")
    flag = recipe.parameters.get("normalize", spec.default if spec is not None and not spec.ignored else False)
    return RecipeTable(
        method=recipe.merge_method,
        columns=tuple(("" if ref is None else labels.get(str(ref), ref.name), parameter.name) for ref, parameter in columns),
        groups=tuple(_joined(_groups(recipe, columns, layers))),
        normalised=bool(flag),
        protect=recipe.protect,
    )


def _columns(recipe: Recipe) -> list[_Column]:
    """(model, parameter) for what each model has of its own, (None, parameter) for what the recipe sets for all."""
    spec = METHODS[recipe.merge_method]
    base = [recipe.base_model] if recipe.base_model is not None else []
    refs: list[ModelRef] = list(dict.fromkeys([*decoder_of(recipe).model_refs(), *base]))
    if spec.base == "required" and recipe.base_model in refs:
        refs.remove(recipe.base_model)  # it is what the differences are taken from: it has no numbers of its own
    block = decoder_of(recipe)
    shared = {key for level in (recipe, block, *(block.slices or ())) for key in level.parameters}
    found: list[_Column] = []
    for parameter in spec.parameters.values():
        if parameter.kind != "number" or parameter.ignored:
            continue
        if parameter.per_source:
            found += [(ref, parameter) for ref in refs]
        elif parameter.name in shared:
            found.append((None, parameter))
    return found


def _groups(recipe: Recipe, columns: Sequence[_Column], layers: int | None) -> Iterator[Group]:
    """Unjoined groups, in the order of the model; a layer's tensors of equal numbers are one group."""
    known = layers is not None or decoder_of(recipe).slices is not None
    parts = _parts(recipe, layers or _depth_of(recipe))
    yield Group("embed", None, "", _values(recipe, columns, parts[0], "model.embed_tokens.weight", None))
    layer = 0
    for part in parts:
        for offset in range(part.layers):
            by_values: dict[Values, list[str]] = {}
            for short, module in MODULES.items():
                by_values.setdefault(_values(recipe, columns, part, f"{module}.weight", offset, layer), []).append(short)
            for numbers, shorts in by_values.items():
                name = PARTS.get(tuple(shorts), " ".join(shorts))
                yield Group("", (layer, layer) if known or part.layers > 1 else None, name, numbers)
            layer += 1
    yield Group("norm", None, "", _values(recipe, columns, parts[-1], "model.norm.weight", None))
    yield Group("head", None, "", _values(recipe, columns, parts[-1], "lm_head.weight", None))


def decoder_of(recipe: Recipe) -> Module:
    """What the recipe says of the decoder; nothing where its `modules` leave it out."""
    return recipe.blocks().get("decoder") or Module()


def _parts(recipe: Recipe, depth: int) -> list[_Part]:
    block = decoder_of(recipe)
    if block.slices is not None:
        return [
            _Part(
                part.sources,
                {source.model: source.layer_range[0] for source in part.sources},
                (part.parameters, block.parameters),
                part.sources[0].layer_range[1] - part.sources[0].layer_range[0],
            )
            for part in block.slices
        ]
    sources = block.models or ()
    if sources and recipe.base_model is not None and all(source.model != recipe.base_model for source in sources):
        sources = (*sources, Source(model=recipe.base_model))
    return [_Part(sources, {source.model: 0 for source in sources}, (block.parameters,), depth)]


def _values(recipe: Recipe, columns: Sequence[_Column], part: _Part, name: str, offset: int | None, layer: int = 0) -> Values:
    """The numbers of one tensor.

    Args:
        recipe: The recipe.
        columns: What to look up.
        part: Its part of the recipe.
        name: Its name in a plain language model; within a layer, its name there.
        offset: Its layer, counted within the part; None outside the layers.
        layer: Its layer in the result.
    """
    whole = name if offset is None else f"model.layers.{layer}.{name}"
    if any(substring in whole for substring in recipe.protect):
        return tuple(None for _ in columns)
    t = 0.0 if offset is None else offset / (part.layers - 1) if part.layers > 1 else 1.0
    own = {source.model: source.parameters for source in part.sources}
    found: list[float | None] = []
    for ref, parameter in columns:
        if ref is not None and ref not in own:
            found.append(None)
            continue
        levels = [block.get(parameter.name) for block in (*part.parameters, recipe.parameters)]
        names = [whole]
        if ref is not None:
            levels.insert(0, own[ref].get(parameter.name))
            names = [whole if offset is None else f"model.layers.{part.first[ref] + offset}.{name}"]
        given = resolve(levels, names, t)
        given = parameter.default if given is None else given
        found.append(None if given is None else round(float(given), 9))
    return tuple(found)


def _joined(groups: Iterator[Group]) -> Iterator[Group]:
    """Joins neighbouring layers with the same parts and numbers, and final norm with head."""
    whole: list[list[Group]] = []
    for key, members in groupby(groups, key=lambda group: (group.outer, group.layers)):
        layer = list(members)
        before = whole[-1] if whole else None
        same = before is not None and [(g.part, g.values) for g in before] == [(g.part, g.values) for g in layer]
        if same and before is not None and key[0] == "" and before[0].outer == "" and key[1] is not None:
            first = before[0].layers
            whole[-1] = [Group("", (first[0] if first else 0, key[1][1]), g.part, g.values) for g in layer]
        elif same and before is not None and key[0] and before[0].outer:
            whole[-1] = [Group(f"{before[0].outer}+{key[0]}", None, "", layer[0].values)]
        else:
            whole.append(layer)
    for layer in whole:
        yield from layer


def _depth_of(recipe: Recipe) -> int:
    """Layers that a recipe speaks of: its slices' end, the highest number in a filter, or the length of a gradient."""
    block = decoder_of(recipe)
    if block.slices is not None:
        return max(source.layer_range[1] for part in block.slices for source in part.sources)
    blocks = [*(source.parameters for source in block.models or ()), block.parameters, recipe.parameters]
    lengths = [_speaks_of(value) for block in blocks for value in block.values()]
    return max([*lengths, 1])


def _speaks_of(value: ParameterValue) -> int:
    if not isinstance(value, tuple):
        return 1
    filtered = [entry for entry in value if isinstance(entry, Filtered)]
    if not filtered:
        return len(value)
    layers = [int(found[1]) + 1 for entry in filtered if (found := re.search(r"layers\.(\d+)", entry.filter or ""))]
    return max([*layers, *(_speaks_of(entry.value) for entry in filtered)])
