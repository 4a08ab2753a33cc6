"""YAML files → validated, frozen values. No torch here."""

from vlmerge.config.method_table import METHODS, MethodSpec, ParameterSpec
from vlmerge.config.model_ref import ModelRef
from vlmerge.config.parameter_values import Filtered, ParameterValue
from vlmerge.config.parameters import Placement, place, resolve
from vlmerge.config.recipe import check_slices, dump_recipe, load_recipe, parse_recipe
from vlmerge.config.recipe_blocks import Recipe, Slice, SliceSource, Source

__all__ = [
    "METHODS",
    "Filtered",
    "MethodSpec",
    "ModelRef",
    "ParameterSpec",
    "ParameterValue",
    "Placement",
    "Recipe",
    "Slice",
    "SliceSource",
    "Source",
    "check_slices",
    "dump_recipe",
    "load_recipe",
    "parse_recipe",
    "place",
    "resolve",
]
