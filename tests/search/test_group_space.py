"""Laws of the space of `merge:`."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from effective import effective, roles
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.anatomy import joined, segments_of
from vlmerge.config import MergeSpec, ModelRef, dump_recipe, parse_recipe
from vlmerge.errors import ConfigError
from vlmerge.search import Distribution, GroupSpace, Handed, coarsest, grouped
from vlmerge.types import Genome

HOST, OTHER, BASE = ModelRef("org/vlm"), ModelRef("org/ja"), ModelRef("org/base")
METHODS: dict[str, dict[str, Any]] = {
    "linear": {"models": [HOST, OTHER, BASE], "base_model": BASE},
    "linear, base unlisted": {"models": [HOST, OTHER], "base_model": BASE},
    "linear, no base": {"models": [HOST, OTHER], "normalize": True},
    "task_arithmetic": {"models": [HOST, OTHER], "base_model": BASE, "method": "task_arithmetic"},
    "task_arithmetic, base listed": {"models": [HOST, BASE, OTHER], "base_model": BASE, "method": "task_arithmetic"},
    "slerp": {"models": [OTHER, BASE], "base_model": BASE, "method": "slerp"},
}
genes = st.floats(-4, 4, allow_subnormal=False)


@st.composite
def spaces(draw: st.DrawFn) -> GroupSpace:
    """Any space of one to eight layers."""
    layers = draw(st.integers(1, 8))
    groups = draw(st.one_of(st.integers(1, layers), st.just("layer")))
    separate = draw(st.lists(st.sampled_from(["embed", "head"]), unique=True))
    modules = draw(st.lists(st.sampled_from(["attention", "mlp", "norms"]), unique=True))
    wanted = {"groups": groups, "separate": separate, "modules": modules}
    block = {**METHODS[draw(st.sampled_from(list(METHODS)))], "space": wanted}
    return grouped(MergeSpec.model_validate({**block, "protect": ["layernorm"], "dtype": "float16"}), HOST, layers)


def lifted(space: GroupSpace, coarse: GroupSpace, genome: Genome) -> Genome:
    """The genome in a finer space."""
    return space.lift(Handed(coarse, Distribution(genome, 0.1))).mean


def parameter(space: GroupSpace) -> str:
    """What the genes are values of."""
    return "t" if space.merge.methods == ("slerp",) else "weight"


def group_of(role: str, space: GroupSpace) -> str:
    """The group that a tensor belongs to, by the words of the design."""
    named = [module for module in ("attention", "mlp", "norms") if module in space.layout.modules]
    # What is not named; norms where all are.
    rest = "" if len(named) < 3 else " norms"
    if role.startswith("embed"):
        return "embeddings" if "embed" in space.layout.separate else f"{_run(0, space)}{rest}"
    if not role.startswith("layers."):
        own = " norms" if "norm" in role and "norms" in named else rest
        return "norm+head" if "head" in space.layout.separate else f"{_run(space.layout.layers - 1, space)}{own}"
    part = "attention" if "self_attn" in role else "mlp" if ".mlp." in role else "norms"
    return f"{_run(int(role.split('.')[1]), space)}{f' {part}' if part in named else rest}"


def _run(layer: int, space: GroupSpace) -> str:
    first, end = next(each for each in space.layout.ranges if layer in range(*each))
    return f"layers {first}-{end - 1}"


@given(spaces(), st.data())
def test_every_tensor_has_the_gene_of_its_group_and_model(space: GroupSpace, data: st.DataObject) -> None:
    genome = tuple(data.draw(st.lists(genes, min_size=len(space.names), max_size=len(space.names))))
    by_name = dict(zip(space.names, genome, strict=True))
    found = effective(space.decode(genome), parameter(space), space.layout.layers)
    for role in roles(space.layout.layers):
        group = group_of(role, space)
        if space.merge.methods == ("slerp",):
            assert found[role, None] == by_name[f"{group}/t"]
            continue
        for model in space.merge.searched:
            assert found[role, model] == by_name[f"{group}/{model.name}"]


@given(spaces(), st.data())
def test_lifting_a_coarse_genome_changes_no_tensor(space: GroupSpace, data: st.DataObject) -> None:
    coarse = coarsest(space)
    genome = tuple(data.draw(st.lists(genes, min_size=len(coarse.names), max_size=len(coarse.names))))
    before = effective(coarse.decode(genome), parameter(space), space.layout.layers)
    after = effective(space.decode(lifted(space, coarse, genome)), parameter(space), space.layout.layers)
    assert {key: value for key, value in after.items() if value is not None} == {
        key: value for key, value in before.items() if value is not None
    }


@given(spaces(), st.data())
def test_a_decoded_recipe_reads_back_to_the_last_bit(space: GroupSpace, data: st.DataObject) -> None:
    # Weights that sum to zero are refused where they are normalised.
    allowed = st.floats(0.01, 4) if space.merge.normalize else genes
    genome = tuple(data.draw(st.lists(allowed, min_size=len(space.names), max_size=len(space.names))))
    recipe = space.decode(genome)
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe)), "recipe.yaml") == recipe
    (whole,) = joined(segments_of(recipe, dict.fromkeys(recipe.model_refs(), space.layout.layers), recipe.model_refs()[0]))
    assert (whole.first, whole.layers, set(whole.starts)) == (0, space.layout.layers, {0})
    assert space.decode(genome) == recipe
    assert (recipe.vlm, recipe.protect, recipe.dtype) == (HOST, ("layernorm",), "float16")


@given(st.permutations(range(4)), st.lists(st.lists(genes, min_size=3, max_size=3), min_size=4, max_size=4))
def test_groups_are_independent(order: list[int], rows: list[list[float]]) -> None:
    space = grouped(MergeSpec.model_validate(METHODS["linear"]), HOST, 6)
    swapped = dict(zip(space.groups, (space.groups[index] for index in order), strict=True))
    before = effective(space.decode(tuple(gene for row in rows for gene in row)), "weight", 6)
    after = effective(space.decode(tuple(gene for index in order for gene in rows[index])), "weight", 6)
    role_in = {group_of(role, space): role for role in roles(6)}
    for group, source in swapped.items():
        for model in space.merge.models:
            assert after[role_in[group], model] == before[role_in[source], model]


def test_parts_of_a_layer_may_have_genes_of_their_own() -> None:
    wanted = {"groups": 1, "modules": ["mlp", "attention"]}
    space = grouped(MergeSpec.model_validate({**METHODS["linear"], "space": wanted}), HOST, 6)
    assert space.groups == ("embeddings", "layers 0-5 attention", "layers 0-5 mlp", "layers 0-5", "norm+head")
    every = {"groups": 2, "separate": [], "modules": ["attention", "mlp", "norms"]}
    space = grouped(MergeSpec.model_validate({**METHODS["slerp"], "space": every}), HOST, 6)
    assert space.groups == tuple(f"layers {run} {part}" for run in ("0-2", "3-5") for part in ("attention", "mlp", "norms"))


def test_the_automatic_space_of_three_models_has_twelve_genes() -> None:
    space = grouped(MergeSpec.model_validate(METHODS["linear"]), HOST, 6)
    assert space.groups == ("embeddings", "layers 0-2", "layers 3-5", "norm+head")
    assert len(space.names) == 12
    assert len(coarsest(space).names) == 3


def test_a_base_without_a_weight_takes_no_part_in_a_linear_merge() -> None:
    space = coarsest(grouped(MergeSpec.model_validate(METHODS["linear, base unlisted"]), HOST, 6))
    assert space.decode((0.5, 0.6)).model_refs() == (HOST, OTHER)


def test_more_groups_than_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match="more groups than layers"):
        grouped(MergeSpec.model_validate({**METHODS["linear"], "space": {"groups": 7}}), HOST, 6)


@pytest.mark.parametrize(
    ("method", "weights", "expected"),
    [
        ("linear", {HOST: 0.4, OTHER: 0.6}, (0.4, 0.6, 0.0)),
        ("linear", {OTHER: 1.13}, (0.0, 1.13, 0.0)),
        ("linear", {HOST: 1.0, OTHER: 1.0, BASE: -1.0}, (1.0, 1.0, -1.0)),
        ("linear, base unlisted", {HOST: 1.0, OTHER: 1.0, BASE: -1.0}, None),
        ("task_arithmetic", {HOST: 1.0, OTHER: 1.0, BASE: -1.0}, (1.0, 1.0)),
        ("task_arithmetic", {HOST: 0.4, OTHER: 0.6}, (0.4, 0.6)),
        ("task_arithmetic", {OTHER: 1.13}, None),
        ("slerp", {BASE: 0.3, OTHER: 0.7}, (0.7,)),
        ("slerp", {HOST: 1.0}, None),
    ],
)
def test_weights_become_genes_where_the_method_can_say_them(
    method: str, weights: dict[ModelRef, float], expected: tuple[float, ...] | None
) -> None:
    space = coarsest(grouped(MergeSpec.model_validate(METHODS[method]), HOST, 6))
    assert space.genome_of(weights) == expected
