"""Recipe or run: a file, or a dict, of the other kind gets one clear sentence instead of a list of unknown keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmerge.config.recipe import Recipe, load_recipe, located_recipe, parse_recipe
from vlmerge.config.run import RunConfig, load_run, parse_run
from vlmerge.config.yaml_file import read_yaml
from vlmerge.errors import ConfigError

OF_A_RUN = ("merge", "genome", "tasks")
"""Keys that only a run has."""

OF_A_RECIPE = ("merge_method",)
"""Keys that only a recipe has."""

DICT = "the dict given"
"""How messages name what came from Python; local paths in it are relative to the working directory."""


def load_either(path: Path) -> Recipe | RunConfig:
    """Reads a recipe or a run; raises ConfigError for what is neither."""
    return load_run(path) if any(key in read_yaml(path).data for key in OF_A_RUN) else load_recipe(path)


def load_only_recipe(path: Path) -> Recipe:
    """Reads a recipe; raises ConfigError for a run, with the command that takes it."""
    _refuse(read_yaml(path).data, str(path), OF_A_RUN, "this is a run, not a recipe", f"`vlmerge evolve {path}`")
    return load_recipe(path)


def load_only_run(path: Path) -> RunConfig:
    """Reads a run; raises ConfigError for a recipe, with the command that takes it."""
    _refuse(read_yaml(path).data, str(path), OF_A_RECIPE, "this is a recipe, not a run", f"`vlmerge merge {path}`")
    return load_run(path)


def parse_either(data: Mapping[str, Any]) -> Recipe | RunConfig:
    """The same of a dict."""
    return parse_only_run(data) if any(key in data for key in OF_A_RUN) else parse_only_recipe(data)


def parse_only_recipe(data: Mapping[str, Any]) -> Recipe:
    """The same of a dict."""
    _refuse(data, DICT, OF_A_RUN, "this is a run, not a recipe", "`vlmerge.evolve(…)`")
    return located_recipe(parse_recipe(data, DICT), Path.cwd())


def parse_only_run(data: Mapping[str, Any]) -> RunConfig:
    """The same of a dict."""
    _refuse(data, DICT, OF_A_RECIPE, "this is a recipe, not a run", "`vlmerge.merge(…)`")
    return parse_run(data, DICT, Path.cwd())


def _refuse(data: Mapping[str, Any], where: str, keys: tuple[str, ...], what: str, instead: str) -> None:
    found = [key for key in keys if key in data]
    if found:
        raise ConfigError(what, where=where, found=f"the key `{found[0]}`", remedy=f"use {instead}")
