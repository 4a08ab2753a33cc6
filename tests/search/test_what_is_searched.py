"""Laws of what a space can search: parameters, ties, curves, signs, bounds, methods; and how one is lifted into another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml
from effective import effective, roles
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.config import MergeSpec, ModelRef, SpaceSpec, dump_recipe, parse_recipe
from vlmerge.search import Distribution, GroupSpace, Handed, coarsest, grouped
from vlmerge.search.layout import ENDS, TENSORS, layout_of
from vlmerge.types import Genome

HOST, OTHER, BASE = ModelRef("org/vlm"), ModelRef("org/ja"), ModelRef("org/base")
LAYERS = 7
STUDY = ["q/k", "v/o", "gate/up", "down", "norms"]
numbers = st.floats(-3, 3, allow_subnormal=False)

BLOCKS: dict[str, dict[str, Any]] = {
    "linear": {"models": [HOST, OTHER, BASE], "base_model": BASE},
    "ties": {"models": [HOST, OTHER], "base_model": BASE, "method": "ties"},
    "of three methods": {"models": [HOST, OTHER, BASE], "base_model": BASE, "method": ["linear", "ties", "dare_ties"]},
}
PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "linear": [{}, {"weight": {"negative": False}}, {"weight": {"per": "model"}}, {"weight": {"bounds": [0, 1.5]}}],
    "ties": [{"density": {}}, {"density": {"per": "all"}, "lambda": {}}, {"density": {"per": "model"}, "weight": {}}],
    "of three methods": [{}, {"density": {}, "lambda": {"per": "all"}}],
}


def made(block: str, **space: Any) -> GroupSpace:
    """A space of seven layers."""
    return grouped(MergeSpec.model_validate({**BLOCKS[block], "space": space}), HOST, LAYERS)


@st.composite
def spaces(draw: st.DrawFn) -> GroupSpace:
    """Any of them."""
    block = draw(st.sampled_from(list(BLOCKS)))
    space: dict[str, Any] = {
        "parameters": draw(st.sampled_from(PARAMETERS[block])),
        "separate": draw(st.lists(st.sampled_from(["embed", "head"]), unique=True)),
        "modules": draw(st.sampled_from([[], ["attention"], ["mlp", "norms"], ["attention", "mlp", "norms"], STUDY])),
    }
    space |= draw(
        st.sampled_from([{"groups": 1}, {"groups": 2}, {"groups": "layer"}, {"curve": "linear"}, {"curve": "quadratic"}])
    )
    return made(block, **space)


def drawn(space: GroupSpace, data: st.DataObject) -> Genome:
    """Any genome of a space, also out of its bounds."""
    return tuple(
        float(data.draw(st.integers(0, len(gene.choices) - 1))) if gene.choices else data.draw(numbers) for gene in space.genes
    )


def lifted(space: GroupSpace, coarse: GroupSpace, genome: Genome) -> Distribution:
    return space.lift(Handed(coarse, Distribution(genome, 0.1)))


@given(spaces(), st.data())
def test_every_genome_is_a_recipe_within_signs_and_bounds(space: GroupSpace, data: st.DataObject) -> None:
    recipe = space.decode(drawn(space, data))
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe)), "recipe.yaml") == recipe
    for parameter in space.parameters:
        how = space.parameters[parameter].searched(parameter)
        for value in effective(recipe, parameter, LAYERS).values():
            if value is not None:
                assert how.low is None or value >= how.low
                assert how.high is None or value <= how.high
                assert space.parameters[parameter].negative or value >= 0


@given(spaces(), st.data())
def test_decoding_a_lifted_genome_is_the_coarse_decoding(space: GroupSpace, data: st.DataObject) -> None:
    coarse = coarsest(space)
    genome = drawn(coarse, data)
    before, after = coarse.decode(genome), space.decode(lifted(space, coarse, genome).mean)
    assert before.merge_method == after.merge_method
    for parameter in ("weight", "density", "lambda"):
        ours, theirs = (effective(recipe, parameter, LAYERS) for recipe in (before, after))
        for key, value in ours.items():
            # A curve is a sum of three products; everything else is the number itself.
            assert value is None or theirs[key] == (pytest.approx(value, abs=1e-12) if space.layout.curve else value)


@given(st.data(), st.sampled_from([1, 2, "layer"]))
def test_lifting_into_finer_modules_changes_no_tensor(data: st.DataObject, groups: int | str) -> None:
    coarse, fine = made("linear", groups=2), made("linear", groups=2, modules=["attention", "mlp", "norms"])
    finest = made("linear", groups="layer" if groups == "layer" else 2, modules=STUDY)
    genome = drawn(coarse, data)
    middle = lifted(fine, coarse, genome)
    last = lifted(finest, fine, middle.mean)
    found = [effective(s.decode(g), "weight", LAYERS) for s, g in ((coarse, genome), (fine, middle.mean), (finest, last.mean))]
    assert found[0] == found[1] == found[2]


@given(spaces())
def test_genes_have_names_of_their_own_and_a_start_within_their_bounds(space: GroupSpace) -> None:
    assert len(set(space.names)) == len(space.genes) == len(space.start)
    for gene, start in zip(space.genes, space.start, strict=True):
        assert gene.low is None or start >= gene.low
        assert gene.high is None or start <= gene.high
        assert not gene.choices or start in range(len(gene.choices))


def test_every_tensor_of_a_layer_belongs_to_its_module() -> None:
    layout = layout_of(SpaceSpec(groups=1, modules=("q/k", "v/o", "gate/up", "down", "norms")), 3)
    cells = {tensor: layout.cell_of(tensor) for tensor in layout.tensors}
    assert [cells[name] for name in ENDS] == ["embeddings", "norm+head", "norm+head"]
    own = [cells[f"model.layers.1.{name}"].rpartition(" ")[2] for name in TENSORS]
    assert own == ["q/k", "q/k", "v/o", "v/o", "gate/up", "gate/up", "down", "norms", "norms"]
    for cell, homes in zip(layout.cells, layout.homes, strict=True):
        assert homes
        assert all(cells[tensor] == cell for tensor in homes)


def test_the_studys_sizes() -> None:
    sizes = {
        21: {"groups": 1, "modules": STUDY},
        15: {"groups": 3},
        24: {"groups": 2, "modules": ["attention", "mlp", "norms"]},
        51: {"curve": "quadratic", "modules": STUDY},
    }
    assert {len(made("linear", **space).genes) for space in sizes.values()} == set(sizes)
    assert all(len(made("linear", **space).genes) == size for size, space in sizes.items())


def test_a_quadratic_curve_goes_through_its_knots() -> None:
    space = made("linear", curve="quadratic", separate=[])
    genome = dict.fromkeys(space.names, 0.0) | {"first layer/vlm": 1.0, "middle layer/vlm": 2.0, "last layer/vlm": 5.0}
    found = effective(space.decode(tuple(genome.values())), "weight", LAYERS)
    depths = [found[f"layers.{layer}.mlp.down_proj.weight", HOST] for layer in range(LAYERS)]
    assert depths == pytest.approx([1 + 2 * x**2 * 2 for x in np.linspace(0, 1, LAYERS)])
    assert found["embed_tokens.weight", HOST] == 1.0


def test_ties_make_one_gene_of_many() -> None:
    space = made("ties", groups=2, parameters={"density": {"per": "model"}, "lambda": {"per": "all"}})
    assert space.names[-3:] == ("all/vlm/density", "all/ja/density", "all/lambda")
    genome = [*([0.5] * (len(space.names) - 3)), 0.3, 0.6, 1.5]
    recipe = space.decode(tuple(genome))
    densities = effective(recipe, "density", LAYERS)
    assert {densities[role, HOST] for role in roles(LAYERS)} == {0.3}
    assert {densities[role, OTHER] for role in roles(LAYERS)} == {0.6}
    assert {effective(recipe, "lambda", LAYERS)[role, None] for role in roles(LAYERS)} == {1.5}


def test_a_chosen_method_has_its_own_parameters() -> None:
    space = made("of three methods", groups=2, parameters=["density"])
    first = space.genes[0]
    assert (first.name, first.choices) == ("method", ("linear", "ties", "dare_ties"))
    for number, method in enumerate(first.choices):
        recipe = space.decode((float(number), *space.start[1:]))
        assert recipe.merge_method == method
        given = {name for part in recipe.slices or () for source in part.sources for name in source.parameters}
        assert given == ({"weight"} if method == "linear" else {"weight", "density"})


def test_a_spread_by_rank_stays_between_none_and_all() -> None:
    parameters = {"density": {}, "epsilon": {"bounds": [0, 0.5], "start": 0.1}}
    merge = MergeSpec.model_validate({**BLOCKS["ties"], "method": "della", "space": {"groups": 1, "parameters": parameters}})
    space = grouped(merge, HOST, LAYERS)
    genome = tuple(0.45 if name.endswith("epsilon") else 0.8 for name in space.names)
    recipe = space.decode(genome)
    spread, density = (effective(recipe, name, LAYERS)["norm.weight", HOST] for name in ("epsilon", "density"))
    assert density == 0.8
    assert spread is not None
    assert 0 < spread < 0.2


# ── covariance ──


@st.composite
def covariances(draw: st.DrawFn, size: int) -> tuple[tuple[float, ...], ...]:
    """Positive definite matrices, also nearly singular ones."""
    seed, thin = draw(st.integers(0, 10_000)), draw(st.floats(1e-8, 1.0))
    factor = np.random.default_rng(seed).normal(size=(size, size)) * np.geomspace(1, thin, size)
    matrix = factor @ factor.T + 1e-12 * np.eye(size)
    return tuple(tuple(float(number) for number in row) for row in (matrix + matrix.T) / 2)


@given(spaces(), st.data())
def test_an_inherited_covariance_is_positive_definite_and_of_unit_size(space: GroupSpace, data: st.DataObject) -> None:
    coarse = coarsest(space)
    given_matrix = data.draw(covariances(len(coarse.genes)))
    found = space.lift(Handed(coarse, Distribution(coarse.start, 0.1, given_matrix))).covariance
    assert found is not None
    matrix = np.array(found)
    assert (matrix == matrix.T).all()
    assert np.linalg.eigvalsh(matrix).min() > 0
    np.linalg.cholesky(matrix)
    scales = np.array([gene.scale for gene in space.genes])
    assert np.mean(np.diag(matrix) / scales**2) == pytest.approx(1.0)


def test_children_inherit_variance_and_a_part_of_the_correlation() -> None:
    coarse, fine = made("linear", groups=1, separate=[]), made("linear", groups=2)
    matrix = ((2.0, 0.6, 0.0), (0.6, 1.0, 0.0), (0.0, 0.0, 0.5))
    found = np.array(fine.lift(Handed(coarse, Distribution((0.4, 0.6, 0.0), 0.1, matrix))).covariance)
    places = {name: place for place, name in enumerate(fine.names)}
    one, other = places["embeddings/vlm"], places["norm+head/vlm"]
    assert found[one, one] == pytest.approx(found[other, other])
    assert found[one, one] / found[places["embeddings/base"], places["embeddings/base"]] == pytest.approx(4.0)
    siblings = found[one, other] / found[one, one]
    assert 0 < siblings < 1
    parents = 0.6 / np.sqrt(2.0)
    cousins = found[one, places["norm+head/ja"]] / np.sqrt(
        found[one, one] * found[places["norm+head/ja"], places["norm+head/ja"]]
    )
    assert cousins == pytest.approx(siblings * parents)


def test_a_distribution_that_knows_scales_alone_hands_on_scales_alone() -> None:
    fine = made("linear", groups=2)
    assert fine.lift(Handed(coarsest(fine), Distribution((0.4, 0.6, 0.0), 0.1))).covariance is None
