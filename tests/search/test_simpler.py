"""What can be taken from a winner: every step leaves a genome of the space, with fewer or rounder numbers, or nothing to do."""

from __future__ import annotations

from typing import Any

import pytest

from vlmerge.config import GenomeSpec, MergeSpec, SpaceSpec
from vlmerge.config.model_ref import ModelRef
from vlmerge.search import MOST_STEPS, GenomeSpace, GroupSpace, Point, grouped, steps, understood

HOST, JA, BASE = (ModelRef.parse(name) for name in ("vlm", "ja", "base"))
LAYERS = 6


def space(method: Any = "linear", **spec: Any) -> GroupSpace:
    merge = MergeSpec.model_validate({"models": ["vlm", "ja", "base"], "base_model": "base", "method": method})
    return grouped(merge, HOST, LAYERS, SpaceSpec.model_validate(spec))


def genome_space(**changes: Any) -> GenomeSpace:
    block = {"models": ["vlm", "ja"], "merge_method": "linear", "layer_granularity": 3, **changes}
    return GenomeSpace(GenomeSpec.model_validate(block), HOST, LAYERS)


def after(name: str, point: Point) -> Point | None:
    return next(step for step in steps(point) if step.name == name).apply(point)


SPACES = {
    "groups": space(),
    "modules": space(modules=["attention", "mlp", "norms"]),
    "one": space(groups=1, separate=[]),
    "curve": space(curve="linear"),
    "tied density": space("ties", parameters={"density": {"per": "model"}, "weight": {"per": "all"}}),
    "methods": space(["linear", "ties"], parameters=["density"]),
    "genome": genome_space(),
    "genome ties": genome_space(merge_method="ties", base_model="base", filters=["self_attn"]),
    "genome slerp": genome_space(merge_method="slerp"),
}


def uneven(of: Any) -> Point:
    """A genome in which no two numbers are alike."""
    values = [
        start if gene.choices else start + 0.0137 * place
        for place, (gene, start) in enumerate(zip(of.genes, of.start, strict=True))
    ]
    found = understood(of, tuple(values))
    assert found is not None
    return found


@pytest.mark.parametrize("name", SPACES)
def test_every_step_leaves_a_recipe_with_no_more_numbers(name: str) -> None:
    point = uneven(SPACES[name])
    listed = steps(point)
    assert 2 <= len(listed) <= MOST_STEPS
    for step in listed:
        simpler = step.apply(point)
        if simpler is None:
            continue
        simpler.space.decode(simpler.genome)
        assert simpler.numbers <= point.numbers, step.name
        assert step.apply(simpler) is None, f"{step.name} twice"
        point = simpler


@pytest.mark.parametrize("name", SPACES)
def test_roles_are_what_the_genes_names_say(name: str) -> None:
    of = SPACES[name]
    assert len(of.roles) == len(of.names)
    for role, said in zip(of.roles, of.names, strict=True):
        assert role.model is None or f"/{role.model}" in said
        assert role.parameter in ("weight", "t", "method") or said.endswith(role.parameter)
        first = role.group.split(" ")[0]
        assert first in said


def test_tied_is_one_number_per_model_and_no_slices() -> None:
    point = uneven(SPACES["groups"])
    tied = after("tied", point)
    assert tied is not None
    recipe = tied.space.decode(tied.genome)
    assert recipe.slices is None
    # Each of the 57 tensors that a layout tells apart counts once.
    counts = {role.group: role.tensors for role in point.roles}
    assert counts == {"embeddings": 1, "layers 0-2": 27, "layers 3-5": 27, "norm+head": 2}
    ja = sum(value * role.tensors for value, role in zip(point.genome, point.roles, strict=True) if role.model == "ja") / 57
    assert tied.genome[1] == pytest.approx(ja)


def test_layers_tied_keeps_what_stands_before_and_after_them() -> None:
    point = uneven(SPACES["groups"])
    tied = after("layers tied", point)
    assert tied is not None
    by_name = dict(zip(tied.space.names, tied.genome, strict=True))
    before = dict(zip(point.space.names, point.genome, strict=True))
    assert by_name["layers 0-2/ja"] == by_name["layers 3-5/ja"]
    assert by_name["embeddings/ja"] == before["embeddings/ja"]


@pytest.mark.parametrize("name", ["genome", "groups", "modules", "curve"])
def test_where_signs_do_not_count_opposite_numbers_are_alike(name: str) -> None:
    unsigned: dict[str, Any] = {"parameters": {"weight": {"negative": False}}}
    of = {
        "genome": genome_space,
        "groups": lambda: space(separate=[], groups=2, **unsigned),
        "modules": lambda: space(separate=[], groups=2, modules=["attention", "mlp", "norms"], **unsigned),
        "curve": lambda: space(curve="linear", separate=[], **unsigned),
    }[name]()
    firsts = {role.model: role.group for role in reversed(of.roles)}
    found = understood(of, tuple(0.6 if role.group == firsts[role.model] else -0.6 for role in of.roles))
    assert found is not None
    assert found.numbers == len(firsts)
    assert found.weights().keys() == firsts.keys()
    assert not found.removed
    flat = after("tied", found)
    if name == "genome":
        assert flat is None  # The recipe is flat already.
    elif name != "curve":
        assert flat is not None
        assert flat.genome == (0.6,) * 3
    else:  # Between points of opposite signs a curve goes through 0.
        assert flat is not None
        assert all(0.1 < value < 0.6 for value in flat.genome)
    along = after("layers tied", found)
    assert along is None or set(along.space.meant(along.genome)) == {0.6}


def test_genes_of_other_methods_are_nobody_s_numbers() -> None:
    of = SPACES["methods"]
    chosen = {role.parameter: place for place, role in enumerate(of.roles)}["method"]
    point = uneven(of)
    linear = Point(of, tuple(0.0 if place == chosen else value for place, value in enumerate(point.genome)))
    ties = Point(of, tuple(1.0 if place == chosen else value for place, value in enumerate(point.genome)))
    assert after("defaults", linear) is None  # Linear has no density.
    assert after("defaults", ties) is not None
    densities = sum(role.parameter == "density" for role in of.roles)
    assert ties.numbers - linear.numbers <= densities
    assert linear.numbers == sum(role.parameter == "weight" and value != 0 for role, value in linear.said) + 1


def test_the_lightest_are_taken_out_first_and_the_last_one_never() -> None:
    of = SPACES["one"]
    point = Point(of, (0.6, 0.5, -0.1))
    assert [step.name for step in steps(point) if step.name.startswith("without")] == ["without base", "without ja"]
    out = after("without base", point)
    assert out is not None
    assert (out.genome, out.removed) == ((0.6, 0.5, 0.0), {"base"})
    assert out.numbers == 2
    last = Point(of, (0.6, 0.0, 0.0))
    assert steps(last)[-3].apply(last) is None


def test_defaults_are_the_methods_and_weights_stay() -> None:
    point = uneven(space("ties", groups=1, separate=[], parameters=["density"]))
    plain = after("defaults", point)
    assert plain is not None
    pairs = list(zip(plain.roles, plain.genome, point.genome, strict=True))
    assert all(value == 1.0 for role, value, _ in pairs if role.parameter == "density")
    assert all(value == old for role, value, old in pairs if role.parameter == "weight")


def test_rounding_leaves_no_negative_zero() -> None:
    point = Point(SPACES["one"], (0.6123, -0.004, 0.25))
    rounded = after("1 decimal", point)
    assert rounded is not None
    assert [str(value) for value in rounded.genome] == ["0.6", "0.0", "0.2"]


def test_what_nobody_understands_is_left_alone() -> None:
    assert understood(SPACES["one"], None) is None
    assert understood(SPACES["one"], (1.0,)) is None
    assert understood(object(), (1.0,)) is None  # type: ignore[arg-type]  # a space of another kind
