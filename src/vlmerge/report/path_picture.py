"""A path through the layers of several models, as the page and figure 3 show it: one box for each layer of the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vlmerge.config import Recipe, read_recipe, resolve

COLOURS = ("#3557b7", "#b4532f", "#3f7d4e", "#7a4b94", "#6b6b6b")
"""Of the models, the host first; more models than colours share the last."""


@dataclass(frozen=True)
class PathStep:
    """One layer of the result.

    Attributes:
        model: Heading of the model whose layer it is.
        layer: Which of its layers, from 0.
        colour: The model's.
        scale: What its last projections are multiplied by; 1 where they are as they were.
        again: Whether the same layer stood on the path before.
    """

    model: str
    layer: int
    colour: str
    scale: float
    again: bool


@dataclass(frozen=True)
class PathPicture:
    """A path.

    Attributes:
        steps: Its layers, in order.
        models: Heading of each model on it → its colour.
    """

    steps: tuple[PathStep, ...]
    models: Mapping[str, str]

    @property
    def scaled(self) -> bool:
        """Whether any layer's projections are not as they were."""
        return any(step.scale != 1 for step in self.steps)


def path_picture(recipe_text: str, labels: Mapping[str, str]) -> PathPicture | None:
    """The path that a recipe is; None for every other recipe.

    Args:
        recipe_text: The recipe's YAML.
        labels: Model (as recipes name it) → heading.
    """
    recipe = read_recipe(recipe_text, "the store's recipe")
    slices = recipe.slices
    if recipe.merge_method != "passthrough" or slices is None:
        return None
    colours: dict[str, str] = {}
    steps: list[PathStep] = []
    for part in slices:
        source = part.sources[0]
        name = labels.get(str(source.model), source.model.name)
        colours.setdefault(name, COLOURS[min(len(colours), len(COLOURS) - 1)])
        for layer in range(*source.layer_range):
            again = any((step.model, step.layer) == (name, layer) for step in steps)
            steps.append(PathStep(name, layer, colours[name], _scale(recipe, len(steps), part.sources[0].parameters), again))
    return PathPicture(tuple(steps), colours)


def _scale(recipe: Recipe, layer: int, own: Mapping[str, object]) -> float:
    levels = [own.get("scale"), recipe.parameters.get("scale")]
    found = resolve(levels, [f"model.layers.{layer}.self_attn.o_proj.weight"], 0.0)  # pyright: ignore[reportArgumentType]
    return 1.0 if found is None else float(found)
