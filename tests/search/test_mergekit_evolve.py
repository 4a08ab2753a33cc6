"""A `genome:` block means what it means in mergekit-evolve 0.1.5: recorded from it, and against it where it is installed."""

from __future__ import annotations

import importlib.util
import json
import random
from typing import Any

import mergekit_evolve_golden
import pytest

from vlmerge.config import GenomeSpec, ModelRef, Recipe, parse_recipe
from vlmerge.search import GenomeSpace

CASES: list[dict[str, Any]] = json.loads(mergekit_evolve_golden.GOLDEN.read_text(encoding="utf-8"))
PAIRS = [pytest.param(case, pair, id=f"{case['name']} {i}") for case in CASES for i, pair in enumerate(case["decoded"])]


def space_of(block: dict[str, Any], layers: int) -> GenomeSpace:
    """The space of a recorded block."""
    return GenomeSpace(GenomeSpec.model_validate(block), ModelRef("a"), layers)


def same(ours: Recipe, theirs: dict[str, Any]) -> None:
    """The recipes are equal; a slerp's t up to the last bits of an exponential."""
    expected = parse_recipe(theirs, "mergekit")
    assert ours.vlm == ModelRef("a")
    ours = ours.model_copy(update={"vlm": None})
    if ours.merge_method != "slerp":
        assert ours == expected
        return
    assert ours.slices is not None
    assert expected.slices is not None
    for part, other in zip(ours.slices, expected.slices, strict=True):
        assert part.parameters["t"] == pytest.approx(other.parameters["t"], rel=1e-14)
        assert (part.sources, part.base_model) == (other.sources, other.base_model)
    assert ours.model_copy(update={"slices": None}) == expected.model_copy(update={"slices": None})


@pytest.mark.parametrize(("case", "pair"), PAIRS)
def test_a_genome_decodes_to_what_mergekit_evolve_made_of_it(case: dict[str, Any], pair: dict[str, Any]) -> None:
    same(space_of(case["genome"], case["layers"]).decode(tuple(pair["genes"])), pair["recipe"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_search_starts_where_mergekit_evolve_starts(case: dict[str, Any]) -> None:
    assert space_of(case["genome"], case["layers"]).start == tuple(case["start"])


@pytest.mark.skipif(importlib.util.find_spec("mergekit") is None, reason="mergekit is not installed here")
@pytest.mark.parametrize("name", mergekit_evolve_golden.BLOCKS)
def test_new_genomes_decode_to_what_mergekit_evolve_makes_of_them(name: str) -> None:
    block, _ = mergekit_evolve_golden.BLOCKS[name]
    space, generator = space_of(block, mergekit_evolve_golden.LAYERS), random.Random(name)
    for _ in range(10):
        genes = [generator.gauss(0.3, 0.5) for _ in space.names]
        with mergekit_evolve_golden.models():
            theirs = mergekit_evolve_golden.mergekit_recipe(block, genes)
        same(space.decode(tuple(genes)), theirs)
