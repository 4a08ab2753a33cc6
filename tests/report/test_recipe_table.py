"""The picture of a recipe shows the numbers that the merge uses, for every layer once."""

import pytest

from vlmerge.report.recipe_table import RecipeTable, recipe_table

LABELS = {"./a": "vlm", "./b": "ja"}


def table(text: str, layers: int | None = 6) -> RecipeTable:
    found = recipe_table(text, LABELS, layers)
    assert found is not None
    return found


def rows(found: RecipeTable) -> list[tuple[str, tuple[int, int] | None, str, tuple]]:
    return [(group.outer, group.layers, group.part, group.values) for group in found.groups]


def test_equal_weights_are_three_rows() -> None:
    found = table("{merge_method: linear, models: [{model: ./a}, {model: ./b}], parameters: {weight: 0.5}}", None)
    assert found.columns == (("vlm", "weight"), ("ja", "weight"))
    assert found.normalised
    assert rows(found) == [
        ("embed", None, "", (0.5, 0.5)),
        ("", None, "", (0.5, 0.5)),
        ("norm+head", None, "", (0.5, 0.5)),
    ]


SLICES = """
merge_method: linear
slices:
- sources:
  - {model: ./a, layer_range: [0, 2], parameters: {weight: [{filter: embed_tokens, value: 0.1}, {value: 0.2}]}}
  - {model: ./b, layer_range: [0, 2], parameters: {weight: 0.8}}
- sources:
  - {model: ./a, layer_range: [2, 6], parameters: {weight: [{filter: lm_head, value: 0.9}, {value: -0.3}]}}
  - {model: ./b, layer_range: [2, 6], parameters: {weight: 0.7}}
parameters: {normalize: false}
"""


def test_slices_are_layer_groups() -> None:
    found = table(SLICES, None)
    assert not found.normalised
    assert rows(found) == [
        ("embed", None, "", (0.1, 0.8)),
        ("", (0, 1), "", (0.2, 0.8)),
        ("", (2, 5), "", (-0.3, 0.7)),
        ("norm", None, "", (-0.3, 0.7)),
        ("head", None, "", (0.9, 0.7)),
    ]


def test_a_gradient_changes_from_layer_to_layer() -> None:
    found = table(
        "{merge_method: linear, models: [{model: ./a, parameters: {weight: [0, 1]}}, {model: ./b, parameters: {weight: 1}}]}"
    )
    layers = [group for group in found.groups if group.layers]
    assert [group.layers for group in layers] == [(n, n) for n in range(6)]
    assert [group.values[0] for group in layers] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert found.groups[-1].values == (0.0, 1.0)  # mergekit: final norm and head stand at the gradient's first entry


def test_filters_by_module_make_parts() -> None:
    text = """
merge_method: task_arithmetic
base_model: ./base
models:
- {model: ./a, parameters: {weight: [{filter: self_attn, value: 0.3}, {filter: mlp, value: 0.6}, {value: 0.1}]}}
parameters: {lambda: 0.9}
"""
    found = table(text)
    assert found.columns == (("vlm", "weight"), ("", "lambda"))  # the base has no number of its own
    assert [(part, values) for _, layers, part, values in rows(found) if layers] == [
        ("attention", (0.3, 0.9)),
        ("mlp", (0.6, 0.9)),
        ("norms", (0.1, 0.9)),
    ]
    assert {layers for _, layers, _, _ in rows(found) if layers} == {(0, 5)}


def test_what_is_protected_has_no_number() -> None:
    text = (
        "{merge_method: linear, models: [{model: ./a}, {model: ./b}], parameters: {weight: 0.5}, protect: [layernorm, lm_head]}"
    )
    found = table(text)
    assert ("", (0, 5), "norms", (None, None)) in rows(found)
    assert ("", (0, 5), "matrices", (0.5, 0.5)) in rows(found)
    assert rows(found)[-1] == ("head", None, "", (None, None))


def test_slerp_has_one_column() -> None:
    found = table("{merge_method: slerp, base_model: ./a, models: [{model: ./a}, {model: ./b}], parameters: {t: [0, 1]}}")
    assert found.columns == (("", "t"),)
