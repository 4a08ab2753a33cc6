"""Which value a parameter has, by mergekit's rules."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.config import ParameterValue, resolve
from vlmerge.config.parameter_values import parameter_value

NAMES = ["language_model.model.layers.3.self_attn.q_proj.weight", "model.layers.3.self_attn.q_proj.weight"]
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
plain = st.one_of(numbers, st.lists(numbers, min_size=1, max_size=5), st.lists(st.booleans(), min_size=1, max_size=5))
filters = st.sampled_from([None, "*", "self_attn", "mlp", "Self_attn", "q_.*", "", "layers.3."])
entries = st.lists(st.fixed_dictionaries({"filter": filters, "value": plain}), min_size=1, max_size=3)
depths = st.floats(0, 1)


def read(value: object) -> ParameterValue:
    """As a file gives it."""
    return parameter_value(value)


@pytest.mark.parametrize(
    ("value", "t", "expected"),
    [
        (0.5, 0.3, 0.5),
        ("1e-5", 0, 1e-5),
        ([0, 1], 0.25, 0.25),
        ([0, 1, 0], 0.5, 1.0),
        ([0.2, 0.8], 1, 0.8),
        ([7], 0.6, 7.0),
        ([True, False, True], 0.49, True),
        ([True, False, True], 0.5, False),
        ([{"filter": "mlp", "value": 1}, {"filter": "self_attn", "value": 2}, {"value": 3}], 0, 2.0),
        ([{"filter": "self_attn", "value": [0, 1]}], 0.75, 0.75),
        ([{"filter": "mlp", "value": 1}, {"filter": "*", "value": 3}], 0, 3.0),
        ({"filter": "self_attn", "value": 4}, 0, 4.0),
        ([{"filter": "SELF_ATTN", "value": 1}], 0, None),
        ([{"filter": "self.attn", "value": 1}], 0, None),
    ],
)
def test_a_value_alone(value: object, t: float, expected: float | None) -> None:
    assert resolve([read(value)], NAMES, t) == expected


def test_the_nearest_level_that_has_a_value_wins() -> None:
    missing, by_filter = read([{"filter": "mlp", "value": 1}]), read([{"filter": "q_proj", "value": 2}])
    assert resolve([None, read(3), read(4)], NAMES, 0) == 3
    assert resolve([missing, by_filter, read(4)], NAMES, 0) == 2
    assert resolve([missing, None, read(4)], NAMES, 0) == 4
    assert resolve([missing, None], NAMES, 0) is None
    assert resolve([read(0), read(4)], NAMES, 0) == 0
    assert resolve([read(False), read(True)], NAMES, 0) is False


def test_a_filter_matches_any_of_a_tensors_names() -> None:
    by_disk, by_role = read([{"filter": "language_model.", "value": 1}]), read([{"filter": "model.layers", "value": 2}])
    assert resolve([by_disk], NAMES, 0) == 1
    assert resolve([by_role], ["decoder.h.3.attn.q", "model.layers.3.self_attn.q_proj.weight"], 0) == 2


@given(st.lists(numbers, min_size=1, max_size=6), depths)
def test_a_gradient_stays_between_its_ends_and_meets_its_entries(values: list[float], t: float) -> None:
    found = resolve([read(values)], NAMES, t)
    assert found is not None
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - slack <= found <= max(values) + slack
    for index, value in enumerate(values):
        at = index / (len(values) - 1) if len(values) > 1 else 0.0
        assert resolve([read(values)], NAMES, at) == pytest.approx(value, rel=1e-6, abs=1e-6 * max(map(abs, values)))


@pytest.mark.parametrize("value", [math.nan, math.inf, "-inf", "many", "", [], [1, "x"], [1, {"value": 2}], {"filter": "x"},
                                   {"filter": "x", "value": 1, "vlaue": 2}, None, [None], [[1]], 10**400])  # fmt: skip
def test_what_is_no_value_is_refused(value: object) -> None:
    with pytest.raises(Exception, match="not usable"):
        read(value)


@pytest.mark.skipif(importlib.util.find_spec("mergekit") is None, reason="mergekit is not installed here")
@given(st.one_of(plain, entries), depths)
def test_a_value_is_what_mergekit_makes_of_it(value: Any, t: float) -> None:
    from mergekit.config import ConditionalParameter, evaluate_setting

    if isinstance(value, list) and isinstance(value[0], dict):
        theirs: Any = [ConditionalParameter.model_validate(entry) for entry in value]
    else:
        theirs = value
    expected = evaluate_setting(NAMES[0], theirs, t, validate=lambda scalar: scalar)
    assert resolve([read(value)], NAMES[:1], t) == expected
