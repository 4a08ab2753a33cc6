"""Recipe or run: a file of the other kind gets one clear sentence instead of a list of unknown keys."""

from __future__ import annotations

from pathlib import Path

from vlmerge.config.recipe import Recipe, load_recipe
from vlmerge.config.run import RunConfig, load_run
from vlmerge.config.yaml_file import read_yaml
from vlmerge.errors import ConfigError

OF_A_RUN = ("merge", "genome", "tasks")
"""Keys that only a run has."""

OF_A_RECIPE = ("merge_method",)
"""Keys that only a recipe has."""


def load_either(path: Path) -> Recipe | RunConfig:
    """Reads a recipe or a run; raises ConfigError for what is neither."""
    return load_run(path) if any(key in read_yaml(path).data for key in OF_A_RUN) else load_recipe(path)


def load_only_recipe(path: Path) -> Recipe:
    """Reads a recipe; raises ConfigError for a run, with the command that takes it."""
    _refuse(path, OF_A_RUN, "this is a run, not a recipe", "vlmerge evolve")
    return load_recipe(path)


def load_only_run(path: Path) -> RunConfig:
    """Reads a run; raises ConfigError for a recipe, with the command that takes it."""
    _refuse(path, OF_A_RECIPE, "this is a recipe, not a run", "vlmerge merge")
    return load_run(path)


def _refuse(path: Path, keys: tuple[str, ...], what: str, command: str) -> None:
    found = [key for key in keys if key in read_yaml(path).data]
    if found:
        raise ConfigError(what, where=str(path), found=f"the key `{found[0]}`", remedy=f"use `{command} {path}`")
