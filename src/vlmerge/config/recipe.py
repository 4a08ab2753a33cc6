"""Recipe files: YAML → Recipe and back. The blocks themselves stand in recipe_blocks.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from vlmerge.config.fields import problems_of
from vlmerge.config.parameter_values import ParameterValue, plain_value
from vlmerge.config.plain_yaml import dump_plain
from vlmerge.config.problems import LineOf, no_lines, refuse
from vlmerge.config.recipe_blocks import Module, Recipe, Slice, SliceSource, Source
from vlmerge.config.recipe_checks import check_recipe
from vlmerge.config.yaml_file import read_yaml

__all__ = ["Module", "Recipe", "Slice", "SliceSource", "Source", "dump_recipe", "load_recipe", "parse_recipe", "read_recipe"]

# libyaml, where PyYAML has it: a recipe of hundreds of numbers is read with every page.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_recipe(data: Mapping[str, Any], where: str, line_of: LineOf = no_lines) -> Recipe:
    """Validates a recipe; `where` names it in messages.

    Raises:
        ConfigError: Naming every mistake: unknown keys, methods and parameters with the nearest known one, missing parameters,
            models twice, weights that sum to zero; and what is valid in mergekit and not supported yet.
    """
    given = {key: value for key, value in data.items() if value is not None}
    try:
        recipe = Recipe.model_validate(given)
    except ValidationError as error:
        refuse(problems_of(error, Recipe, given), where, line_of)
        raise
    checked, problems = check_recipe(recipe)
    refuse(problems, where, line_of)
    return checked


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe file. Local paths in it are relative to the file and come out absolute."""
    file = read_yaml(path)
    return located_recipe(parse_recipe(file.data, str(path), file.line_of), path.absolute().parent)


def located_recipe(recipe: Recipe, folder: Path) -> Recipe:
    """The same recipe with its local paths, relative to a folder, as absolute ones."""
    located = recipe.rewritten(ref=lambda ref: ref.relative_to(folder))
    return located.model_copy(update={"tokenizer": recipe.tokenizer and recipe.tokenizer.located(folder)})


def read_recipe(text: str, where: str) -> Recipe:
    """The recipe that `dump_recipe` wrote; `where` names it in messages."""
    data: Mapping[str, Any] = yaml.load(text, Loader=_Loader)
    return parse_recipe(data, where)


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML that reads back as the same recipe, numbers to the last bit. Only what is set is written."""
    return dump_plain(plain_recipe(recipe))


def plain_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as dicts, lists, numbers and text, keys in a fixed order."""
    plain: dict[str, Any] = {
        "name": recipe.name,
        "merge_method": recipe.merge_method,
        "vlm": recipe.vlm and recipe.vlm.plain(),
        "base_model": recipe.base_model and recipe.base_model.plain(),
        **_plain_block(recipe.whole),
        "modules": recipe.modules and {name: _plain_block(block) for name, block in recipe.modules.items()},
        "parameters": _plain_parameters(recipe.parameters) or None,
        "protect": list(recipe.protect) or None,
        "dtype": recipe.dtype,
        "out_dtype": recipe.out_dtype,
        "seed": recipe.seed,
        "tokenizer": recipe.tokenizer and recipe.tokenizer.plain(),
        "chat_template": recipe.chat_template,
    }
    return {key: value for key, value in plain.items() if value is not None}


def _plain_block(block: Module) -> dict[str, Any]:
    plain = {
        "models": block.models and [_plain_source(source) for source in block.models],
        "slices": block.slices and [_plain_slice(part) for part in block.slices],
        "parameters": _plain_parameters(block.parameters) or None,
    }
    return {key: value for key, value in plain.items() if value is not None}


def _plain_source(source: Source) -> dict[str, Any]:
    plain: dict[str, Any] = {"model": source.model.plain()}
    if isinstance(source, SliceSource):
        plain["layer_range"] = list(source.layer_range)
    return plain | ({"parameters": _plain_parameters(source.parameters)} if source.parameters else {})


def _plain_slice(part: Slice) -> dict[str, Any]:
    plain: dict[str, Any] = {"sources": [_plain_source(source) for source in part.sources]}
    if part.base_model is not None:
        plain["base_model"] = part.base_model.plain()
    return plain | ({"parameters": _plain_parameters(part.parameters)} if part.parameters else {})


def _plain_parameters(parameters: Mapping[str, ParameterValue]) -> dict[str, Any]:
    return {name: plain_value(value) for name, value in parameters.items()}
