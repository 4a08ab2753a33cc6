"""Recipe files: what is understood, what is refused and how, and that nothing changes on the way to a file and back."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.config import ModelRef, dump_recipe, load_recipe, parse_recipe
from vlmerge.errors import ConfigError

TWO = [{"model": "a", "parameters": {"weight": 0.6}}, {"model": "b", "parameters": {"weight": 0.4}}]
LINEAR: dict[str, Any] = {"merge_method": "linear", "models": TWO}


def slices(*ranges: tuple[int, int], weight: float | None = 1.0) -> list[dict[str, Any]]:
    """Slices of models a and b, the same range for both."""
    own = {} if weight is None else {"parameters": {"weight": weight}}
    return [{"sources": [{"model": m, "layer_range": list(pair), **own} for m in "ab"]} for pair in ranges]


# ── there and back ──

words = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(str.strip),
    st.sampled_from(["no", "on", "1e-5", "null", "~", "2024-01-01", "a: b", "# c", "0x1f", "日本語", "@", "a+b", "'", "true"]),
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
scalar_or_gradient = st.one_of(numbers, st.lists(numbers, min_size=1, max_size=4))
filtered = st.lists(
    st.one_of(
        st.fixed_dictionaries({"value": scalar_or_gradient}),
        st.fixed_dictionaries({"filter": words, "value": scalar_or_gradient}),
    ),
    min_size=1,
    max_size=3,
)
values = st.one_of(scalar_or_gradient, filtered)
models = st.lists(words, min_size=2, max_size=4, unique=True)
heads = st.fixed_dictionaries(
    {},
    optional={
        "name": words,
        "vlm": words.map(lambda path: {"model": {"path": path}}),
        "protect": st.lists(words, max_size=3),
        "dtype": st.sampled_from(["float16", "bfloat16", "float32", "float64"]),
        "out_dtype": st.sampled_from(["float16", "torch.bfloat16"]),
    },
)


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Any]:
    """Any recipe of the available methods, as a file gives it."""
    method = draw(st.sampled_from(["linear", "task_arithmetic", "slerp"]))
    paths = draw(models)[: 2 if method == "slerp" else None]
    refs: list[Any] = [{"model": {"path": path, "revision": draw(st.none() | words)}} for path in paths]
    per_source = {} if method == "slerp" else {"weight": values}
    shared: dict[str, st.SearchStrategy[Any]] = {"normalize": st.just(False), "int8_mask": st.sampled_from([0, 1, True])}
    shared |= {"slerp": {"t": values}, "task_arithmetic": {"lambda": values}, "linear": {}}[method]
    data: dict[str, Any] = {"merge_method": method, **draw(heads), "parameters": draw(st.fixed_dictionaries(shared))}
    if method != "linear" or draw(st.booleans()):
        data["base_model"] = refs[draw(st.integers(0, len(refs) - 1))]
    if draw(st.booleans()):
        data["models"] = [{"model": ref, "parameters": draw(st.fixed_dictionaries(per_source))} for ref in refs]
        return data
    edges = [0, *sorted(draw(st.sets(st.integers(1, 9), min_size=1, max_size=3)))]
    data["slices"] = [
        {
            "sources": [
                {"model": ref, "layer_range": list(pair), "parameters": draw(st.fixed_dictionaries(per_source))} for ref in refs
            ],
            **({"base_model": refs[0]} if draw(st.booleans()) else {}),
        }
        for pair in pairwise(edges)
    ]
    return data


@given(recipes())
def test_a_recipe_survives_the_way_to_a_file_and_back(data: dict[str, Any]) -> None:
    recipe = parse_recipe(data, "recipe.yaml")
    text = dump_recipe(recipe)
    again = parse_recipe(yaml.safe_load(text), "recipe.yaml")
    assert again == recipe
    assert dump_recipe(again) == text


def test_a_dump_keeps_the_order_and_says_only_what_is_set() -> None:
    recipe = parse_recipe({"models": TWO, "protect": ["norm", "bias"], "merge_method": "linear", "vlm": "b@main"}, "x")
    assert list(yaml.safe_load(dump_recipe(recipe))) == ["merge_method", "vlm", "models", "protect"]
    assert recipe.protect == ("norm", "bias")
    assert [source.model.path for source in recipe.models or ()] == ["a", "b"]


# ── what is understood ──


def test_values_that_yaml_reads_as_text_are_numbers() -> None:
    data = yaml.safe_load("{merge_method: linear, models: [{model: a, parameters: {weight: 1e-5}}], dtype: torch.float16}")
    recipe = parse_recipe(data, "x")
    assert (recipe.models or ())[0].parameters == {"weight": 1e-5}
    assert recipe.dtype == "float16"


def test_zero_and_one_are_flags_and_empty_keys_are_absent() -> None:
    recipe = parse_recipe({**LINEAR, "parameters": {"normalize": 0}, "base_model": None, "tokenizer_source": None}, "x")
    assert recipe.parameters["normalize"] is False
    assert parse_recipe({**LINEAR, "parameters": None}, "x").parameters == {}


def test_models_are_listed_in_order_and_the_base_last() -> None:
    recipe = parse_recipe({**LINEAR, "base_model": "c", "vlm": "d", "parameters": {"weight": 1}}, "x")
    assert recipe.model_refs() == (ModelRef("a"), ModelRef("b"), ModelRef("c"))
    recipe = parse_recipe({**LINEAR, "base_model": "a"}, "x")
    assert recipe.model_refs() == (ModelRef("a"), ModelRef("b"))


def test_local_models_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "recipe.yaml").write_text(
        "merge_method: slerp\nbase_model: here\nvlm: ./v\nslices:\n- base_model: ../up\n  parameters: {t: 1}\n"
        "  sources: [{model: ../up, layer_range: [0, 1]}, {model: org/x, layer_range: [0, 1]}]\n"
    )
    recipe = load_recipe(tmp_path / "recipe.yaml")
    up = ModelRef(str(tmp_path.parent / "up"))
    assert (recipe.base_model, recipe.vlm) == (ModelRef(str(tmp_path / "here")), ModelRef(str(tmp_path / "v")))
    assert recipe.slices is not None
    assert [source.model for source in recipe.slices[0].sources] == [up, ModelRef("org/x")]
    assert recipe.slices[0].base_model == up


# ── what is refused ──

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({**LINEAR, "dtyp": "float16"}, "unknown key `dtyp`(.|\n)*did you mean `dtype`"),
    "unknown key in a model": (
        {**LINEAR, "models": [{"model": "a", "parameter": {"weight": 1}}]},
        r"models\[0\].parameter(.|\n)*did you mean `parameters`",
    ),
    "unknown key in a slice": (
        {"merge_method": "linear", "slices": [{**slices((0, 2))[0], "basemodel": "a"}]},
        r"slices\[0\].basemodel(.|\n)*did you mean `base_model`",
    ),
    "unknown method": ({**LINEAR, "merge_method": "liner"}, "unknown method `liner`(.|\n)*did you mean `linear`"),
    "unknown parameter": (
        {**LINEAR, "parameters": {"normalise": True}},
        "unknown parameter of linear `normalise`(.|\n)*did you mean `normalize`",
    ),
    "parameter of another method": ({**LINEAR, "parameters": {"density": 0.5}}, "`density` is no parameter of linear"),
    "shared parameter in a model": (
        {**LINEAR, "models": [{"model": "a", "parameters": {"weight": 1, "normalize": True}}]},
        "`normalize` is one value for the whole merge",
    ),
    "weight missing": (
        {**LINEAR, "models": [*TWO, {"model": "c"}]},
        r"`weight` is missing for c(.|\n)*models\[2\](.|\n)*linear needs a `weight`",
    ),
    "weight of an unlisted base missing": ({**LINEAR, "base_model": "c"}, "`weight` is missing for c(.|\n)*added at their end"),
    "t missing": ({"merge_method": "slerp", "base_model": "a", "models": [{"model": "a"}, {"model": "b"}]}, "`t` is missing"),
    "model twice": ({**LINEAR, "models": [*TWO, TWO[0]]}, "the same model stands twice(.|\n)*a"),
    "model twice in a slice": (
        {"merge_method": "linear", "slices": [{"sources": [slices((0, 2))[0]["sources"][0]] * 2}]},
        "the same model stands twice",
    ),
    "weights that sum to zero": (
        {"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": 1}},
                                              {"model": "b", "parameters": {"weight": -1}}]},
        "the weights sum to zero",
    ),
    "a zero for all": ({"merge_method": "linear", "models": [{"model": "a"}], "parameters": {"weight": 0}}, "sum to zero"),
    "base missing": ({**LINEAR, "merge_method": "task_arithmetic"}, "`base_model` is missing"),
    "base in no slice": (
        {"merge_method": "task_arithmetic", "base_model": "c", "slices": slices((0, 2))},
        "the base takes no part here(.|\n)*every slice",
    ),
    "slerp of three": (
        {"merge_method": "slerp", "base_model": "a", "parameters": {"t": 0.5}, "models": [{"model": m} for m in "abc"]},
        "slerp takes 2 model",
    ),
    "slerp that normalises": (
        {"merge_method": "slerp", "base_model": "a", "parameters": {"t": 0.5, "normalize": True},
         "models": [{"model": m} for m in "ab"]},
        "slerp does not normalise",
    ),
    "models and slices": ({**LINEAR, "slices": slices((0, 2))}, r"`models`, `slices` or `modules`(.|\n)*models and slices"),
    "neither models nor slices": ({"merge_method": "linear"}, r"`models`, `slices` or `modules`(.|\n)*none of them"),
    "no models": ({"merge_method": "linear", "models": []}, "at least one entry"),
    "no method": ({"models": TWO}, "`merge_method` is missing"),
    "a flag for a number": ({**LINEAR, "parameters": {"weight": True}}, "a number"),
    "a number for a flag": ({**LINEAR, "parameters": {"normalize": 0.5}}, "true or false"),
    "a range that holds nothing": ({"merge_method": "linear", "slices": slices((2, 2))}, "holds no layer"),
    "ranges of different lengths": (
        {"merge_method": "linear", "slices": [{"sources": [slices((0, 2))[0]["sources"][0], slices((0, 3))[0]["sources"][1]]}]},
        "different numbers of layers",
    ),
    "a dtype that is none": ({**LINEAR, "dtype": "float8"}, "dtype(.|\n)*float16"),
    "a name that YAML read as a flag": ({**LINEAR, "vlm": False}, "in quotes"),
    "a filter that YAML read as a flag": (
        {**LINEAR, "parameters": {"weight": [{"filter": True, "value": 1}]}}, "weight(.|\n)*"
    ),
    "models that are no list": ({"merge_method": "linear", "models": "a"}, "models"),
    "no mapping": ({"merge_method": "linear", "models": ["a"]}, r"models\[0\]|`0`"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_named_with_its_place_and_remedy(name: str) -> None:
    data, says = BAD[name]
    with pytest.raises(ConfigError, match=says) as caught:
        parse_recipe(data, "recipe.yaml")
    assert "recipe.yaml" in str(caught.value)


def test_every_mistake_is_named_at_once_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "merge_method: linear\nmodels:\n- model: a\n  parameters: {wieght: 1}\n- model: a\n  parameters: {weight: on}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    text = str(caught.value)
    for part in ("line 4", "did you mean `weight`", "line 5", "stands twice", "line 6", "a number"):
        assert part in text


def test_weights_that_sum_to_zero_are_fine_where_nothing_is_divided() -> None:
    models = [{"model": "a", "parameters": {"weight": 1}}, {"model": "b", "parameters": {"weight": -1}}]
    assert parse_recipe({"merge_method": "linear", "models": models, "parameters": {"normalize": False}}, "x")


def test_a_key_that_mergekit_ignores_says_so() -> None:
    part = {"sources": [{"model": "a", "layer_range": [0, 1], "parameters": {"weight": 1}}], "residual_weight": 0.5}
    with pytest.raises(ConfigError, match="`residual_weight` is read by mergekit without any effect"):
        parse_recipe({"merge_method": "linear", "slices": [part]}, "recipe.yaml")
