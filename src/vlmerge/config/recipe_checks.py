"""Does a recipe make sense for its method: parameters known and present, models right in number, none twice, base there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vlmerge.config.method_table import METHODS, MethodSpec, ParameterSpec
from vlmerge.config.model_ref import ModelRef
from vlmerge.config.parameter_values import ParameterValue, as_flags, scalars
from vlmerge.config.problems import Location, Problem, unknown
from vlmerge.config.recipe_blocks import MODULES, Module, Recipe, Slice, Source


def check_recipe(recipe: Recipe) -> tuple[Recipe, list[Problem]]:
    """The recipe with 0 and 1 read as flags where flags belong, and everything that is wrong with it."""
    spec, problem = find_method(recipe.merge_method, ("merge_method",))
    if spec is None:
        return recipe, [problem] if problem else []
    named = [key for key in ("models", "slices", "modules") if getattr(recipe, key) is not None]
    if len(named) != 1:
        found = " and ".join(named) or "none of them"
        what = "a recipe has either `models`, `slices` or `modules`"
        return recipe, [Problem(what, (), "exactly one of them", found, "keep one" if named else "add `models`")]
    recipe = recipe.rewritten(parameters=lambda given: _with_flags(given, spec))
    problems = _parameters(recipe.parameters, spec, ("parameters",), of_source=False)
    if recipe.modules is None:
        return recipe, problems + _block(recipe, recipe.whole, spec, ())
    for name, block in recipe.modules.items():
        problems += _module_name(name, recipe.modules)
        problems += _parameters(block.parameters, spec, ("modules", name, "parameters"), of_source=False)
        problems += _block(recipe, block, spec, ("modules", name))
    return recipe, problems


def _module_name(name: str, named: Mapping[str, Module]) -> list[Problem]:
    at: Location = ("modules", name)
    if name not in MODULES:
        return [unknown("module", name, MODULES, at)]
    first = next(other for other in named if MODULES.get(other) == MODULES[name])
    if first == name:
        return []
    remedy = "keep one of them"
    return [
        Problem(f"`{name}` and `{first}` are the same part of a model", at, "each part once", f"{first} and {name}", remedy)
    ]


def _block(recipe: Recipe, block: Module, spec: MethodSpec, at: Location) -> list[Problem]:
    """Checks of a recipe's own models or slices, or of a module's, which stand at `at`."""
    problems: list[Problem] = []
    above = [block.parameters, recipe.parameters]
    if at and (block.models is None) == (block.slices is None):
        found = "neither" if block.models is None else "both"
        return [Problem("a module has either `models` or `slices`", at, "exactly one of them", found, "keep one")]
    if block.models is not None:
        listed = [source.model for source in block.models]
        extra = recipe.base_model is not None and recipe.base_model not in listed
        inputs = [*block.models, *([Source(model=recipe.base_model)] if extra and recipe.base_model else [])]
        problems += _group(inputs, len(listed), recipe.base_model, spec, (*at, "models"), above)
    for index, part in enumerate(block.slices or ()):
        here: Location = (*at, "slices", index)
        base = part.base_model or recipe.base_model
        problems += _parameters(part.parameters, spec, (*here, "parameters"), of_source=False)
        problems += _group(part.sources, len(part.sources), base, spec, (*here, "sources"), [part.parameters, *above])
        problems += _same_depth(part, here)
    return problems


def find_method(name: str, at: Location) -> tuple[MethodSpec | None, Problem | None]:
    """The method, or what is wrong with its name."""
    spec = METHODS.get(name)
    if spec is None:
        return None, unknown("method", name, METHODS, at)
    return spec, None


def _parameters(given: Mapping[str, ParameterValue], spec: MethodSpec, at: Location, *, of_source: bool) -> list[Problem]:
    problems: list[Problem] = []
    for name, value in given.items():
        parameter, here = spec.parameters.get(name), (*at, name)
        if parameter is None:
            problems.append(_unknown_parameter(name, spec, here))
        elif of_source and not parameter.per_source and not parameter.ignored:
            problems.append(
                Problem(
                    f"`{name}` is one value for the whole merge, not for each model", here, remedy="move it to the top level"
                )
            )
        else:
            problems += value_problems(parameter, value, here)
            if spec.name == "slerp" and name == "normalize" and any(scalars(value)):
                problems.append(Problem("slerp does not normalise", here, "false, or no such key", "true", "take it out"))
    return problems


def _unknown_parameter(name: str, spec: MethodSpec, at: Location) -> Problem:
    own = [parameter for parameter, each in spec.parameters.items() if not each.ignored]
    of_others = [other.name for other in METHODS.values() if name in other.parameters]
    if not of_others:
        return unknown(f"parameter of {spec.name}", name, own, at)
    return Problem(
        f"`{name}` is no parameter of {spec.name}",
        at,
        expected="one of " + ", ".join(own),
        found=f"a parameter of {', '.join(of_others)}",
        remedy="take it out, or use another method",
    )


def value_problems(parameter: ParameterSpec, value: ParameterValue, at: Location) -> list[Problem]:
    """What is wrong with a parameter's value: a flag where a number belongs or the other way round, a number out of bounds."""
    is_flag = parameter.kind == "flag"
    wrong = [scalar for scalar in scalars(value) if isinstance(scalar, bool) != is_flag]
    if not wrong:
        return _out_of_bounds(parameter, value, at)
    expected = "true or false" if is_flag else "a number (in YAML yes, no, on and off are read as true and false)"
    return [Problem(f"`{parameter.name}` cannot have this value", at, expected, str(wrong[0]).lower(), "write another value")]


def _out_of_bounds(parameter: ParameterSpec, value: ParameterValue, at: Location) -> list[Problem]:
    if parameter.within is None:
        return []
    least, most = parameter.within
    wrong = [scalar for scalar in scalars(value) if not (least < scalar <= most or (parameter.with_least and scalar == least))]
    if not wrong:
        return []
    expected = f"a number from {least:g} to {most:g}" if parameter.with_least else f"a number above {least:g}, up to {most:g}"
    return [Problem(f"`{parameter.name}` cannot have this value", at, expected, f"{wrong[0]:g}", "write another value")]


def _group(
    inputs: Sequence[Source],
    listed: int,
    base: ModelRef | None,
    spec: MethodSpec,
    at: Location,
    shared: Sequence[Mapping[str, ParameterValue]],
) -> list[Problem]:
    """Checks of the models that are merged with one another. The first `listed` of the inputs stand in the file."""
    problems: list[Problem] = []
    models = [source.model for source in inputs]
    for index, source in enumerate(inputs[:listed]):
        problems += _parameters(source.parameters, spec, (*at, index, "parameters"), of_source=True)
        if source.model in models[:index]:
            remedy = "merge it once, with the sum of the weights"
            problems.append(Problem("the same model stands twice", (*at, index), "every model once", str(source.model), remedy))
    problems += _base(models, base, spec, at)
    counted = [model for model in dict.fromkeys(models) if spec.base == "ordinary" or spec.name == "slerp" or model != base]
    fewest, most = spec.sources
    if len(counted) < fewest or (most is not None and len(counted) > most):
        number = f"{fewest}" if most == fewest else f"at least {fewest}"
        besides = " besides the base" if spec.base != "ordinary" and spec.name != "slerp" else ""
        found = ", ".join(map(str, counted)) or "none"
        problems.append(Problem(f"{spec.name} takes {number} model(s){besides}", at, number, f"{len(counted)}: {found}"))
    for name, parameter in spec.parameters.items():
        if not parameter.required or any(name in level for level in shared):
            continue
        if not parameter.per_source:
            problems.append(
                Problem(f"`{name}` is missing", ("parameters",), f"{spec.name} needs `{name}`", remedy="add it here")
            )
            continue
        for index, source in enumerate(inputs):
            if name not in source.parameters and (spec.base == "ordinary" or source.model != base):
                place = (*at, index) if index < listed else ("base_model",)
                note = "" if index < listed else " (a base that is not among the models is added at their end, as in mergekit)"
                remedy = f"add `parameters: {{{name}: …}}` to the model, or a `{name}` at the top level"
                what = f"`{name}` is missing for {source.model}{note}"
                problems.append(Problem(what, place, f"{spec.name} needs a `{name}` for each model", remedy=remedy))
    return problems + _zero_sum(inputs, spec, at, shared)


def _base(models: Sequence[ModelRef], base: ModelRef | None, spec: MethodSpec, at: Location) -> list[Problem]:
    if spec.base != "required":
        return []
    if base is None:
        return [Problem("`base_model` is missing", (), f"{spec.name} needs a base", remedy="add `base_model: MODEL`")]
    if base in models:
        return []
    return [
        Problem("the base takes no part here", at, f"{base} among the sources", ", ".join(map(str, models)),
                "list the base as a source of every slice (it needs no parameters)")
    ]  # fmt: skip


def _zero_sum(
    inputs: Sequence[Source], spec: MethodSpec, at: Location, shared: Sequence[Mapping[str, ParameterValue]]
) -> list[Problem]:
    """Weights that are plain numbers and sum to zero have no mean; those by filter or depth are known only in use."""
    normalize = next((level["normalize"] for level in shared if "normalize" in level), True)
    if spec.name != "linear" or normalize is not True:
        return []
    weights = [
        next((level["weight"] for level in (source.parameters, *shared) if "weight" in level), None) for source in inputs
    ]
    numbers = [weight for weight in weights if isinstance(weight, float)]
    if len(numbers) != len(weights) or sum(numbers) != 0:
        return []
    remedy = "change a weight, or set `normalize: false`"
    return [
        Problem("the weights sum to zero, so they have no mean", at, "any other sum", " + ".join(map(repr, numbers)), remedy)
    ]


def _same_depth(part: Slice, at: Location) -> list[Problem]:
    counts = [source.layer_range[1] - source.layer_range[0] for source in part.sources]
    if len(set(counts)) == 1:
        return []
    return [
        Problem("the sources of a slice have different numbers of layers", (*at, "sources"), "the same number", str(counts))
    ]


def _with_flags(given: Mapping[str, ParameterValue], spec: MethodSpec) -> dict[str, ParameterValue]:
    known = spec.parameters
    return {name: as_flags(value) if name in known and known[name].kind == "flag" else value for name, value in given.items()}
