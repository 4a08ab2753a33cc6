"""YAML files → validated, frozen values. No torch here."""

from vlmerge.config.method_table import METHODS, MethodSpec, ParameterSpec
from vlmerge.config.model_ref import ModelRef
from vlmerge.config.parameter_values import Filtered, ParameterValue
from vlmerge.config.parameters import resolve
from vlmerge.config.path_blocks import PathSpec, ScaleSpec
from vlmerge.config.recipe import dump_recipe, load_recipe, parse_recipe, read_recipe
from vlmerge.config.recipe_blocks import Module, Recipe, Slice, SliceSource, Source
from vlmerge.config.run import RunConfig, diff_runs, dump_run, load_run, parse_run
from vlmerge.config.run_blocks import (
    DecodingSpec,
    GenomeSpec,
    MergeSpec,
    RacingSpec,
    RuntimeSpec,
    SearchSpec,
    TaskSpec,
    ValidationSpec,
)
from vlmerge.config.space_blocks import GeneSpec, SpaceSpec

__all__ = [
    "METHODS",
    "DecodingSpec",
    "Filtered",
    "GeneSpec",
    "GenomeSpec",
    "MergeSpec",
    "MethodSpec",
    "ModelRef",
    "Module",
    "ParameterSpec",
    "ParameterValue",
    "PathSpec",
    "RacingSpec",
    "Recipe",
    "RunConfig",
    "RuntimeSpec",
    "ScaleSpec",
    "SearchSpec",
    "Slice",
    "SliceSource",
    "Source",
    "SpaceSpec",
    "TaskSpec",
    "ValidationSpec",
    "diff_runs",
    "dump_recipe",
    "dump_run",
    "load_recipe",
    "load_run",
    "parse_recipe",
    "parse_run",
    "read_recipe",
    "resolve",
]
