"""Paths as genomes: where a search begins, in which order layers stand, what a factor on the way becomes."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from vlmerge.config import ModelRef, PathSpec, Recipe, dump_recipe, parse_run, read_recipe
from vlmerge.errors import ConfigError
from vlmerge.hybrid import second_part
from vlmerge.plan import plan_of
from vlmerge.search import PathSpace, baselines, stages

VLM, LM = ModelRef("org/vlm"), ModelRef("org/lm")
TASKS = [{"name": "ja-vg-vqa-500"}]


def space(layers: tuple[int, int] = (4, 4), **keys: Any) -> PathSpace:
    return PathSpace(PathSpec.model_validate({"models": [VLM, LM], "layers": layers, **keys}), VLM)


def walked(recipe: Recipe) -> list[tuple[str, int]]:
    assert recipe.slices is not None
    sources = [part.sources[0] for part in recipe.slices]
    return [(source.model.name, layer) for source in sources for layer in range(*source.layer_range)]


def factors(recipe: Recipe) -> list[float]:
    """What the last projections of each layer are divided by."""
    assert recipe.slices is not None
    found: list[float] = []
    for part in recipe.slices:
        source = part.sources[0]
        scale: Any = source.parameters.get("scale")
        assert scale is None or [entry.filter for entry in scale] == ["o_proj", "down_proj", None]
        found += [1.0 if scale is None else 1 / scale[0].value] * (source.layer_range[1] - source.layer_range[0])
    return found


def on(one: PathSpace, *names: str, scale: tuple[float, ...] = ()) -> Recipe:
    chosen = [0.3 if name in names else -0.3 for name in one.names[: len(one.blocks)]]
    assert set(names) <= set(one.names)
    return one.decode((*chosen, *(math.log2(factor) for factor in scale)))


@pytest.mark.parametrize("keys", [{}, {"scale": True}, {"repeats": 3, "order": "models"}, {"block": 2, "scale": [0.5, 2]}])
def test_a_search_begins_at_the_hosts_own_path(keys: dict[str, Any]) -> None:
    one = space(**keys)
    recipe = one.decode(one.start)
    assert walked(recipe) == [("vlm", layer) for layer in range(4)]
    assert len(recipe.slices or ()) == 1
    assert factors(recipe) == [1.0] * 4
    assert one.genome_of({VLM: 1.0}) == one.start
    assert one.genome_of({LM: 1.0}) is None


def test_layers_stand_by_depth_or_model_after_model() -> None:
    assert space().names == ("lm layer 0", "vlm layer 1", "lm layer 1", "vlm layer 2", "lm layer 2", "lm layer 3")
    listed = space(order="models", repeats=2).names
    assert listed[:6] == tuple(f"{each} (1)" for each in ("vlm layer 1", "vlm layer 2", *(f"lm layer {n}" for n in range(4))))
    assert listed[6:] == tuple(f"{model} layer {n} (2)" for model in ("vlm", "lm") for n in range(4))
    assert space(block=2).names == ("lm layers 0-1", "vlm layers 1-2", "lm layers 2-3")


def test_models_of_different_depth_stand_side_by_side() -> None:
    names = space((6, 3)).names
    assert names == ("lm layer 0", "vlm layer 1", "vlm layer 2", "lm layer 1", "vlm layer 3", "vlm layer 4", "lm layer 2")


def test_first_and_last_layer_are_the_hosts_whatever_the_genome() -> None:
    assert walked(on(space())) == [("vlm", 0), ("vlm", 3)]
    path = on(space(), "lm layer 0", "vlm layer 2", "lm layer 3")
    assert walked(path) == [("vlm", 0), ("lm", 0), ("vlm", 2), ("lm", 3), ("vlm", 3)]


def test_a_factor_divides_the_last_projections_of_all_layers_after_it() -> None:
    recipe = on(space(scale=True), "lm layer 1", "vlm layer 2", "lm layer 2", scale=(2.0, 0.25))
    # vlm 0, lm 1 (x2), vlm 2 (x0.25), lm 2 (x2), vlm 3 (x0.25)
    assert factors(recipe) == pytest.approx([1, 2, 0.5, 1, 0.25])
    recipe = on(space(scale={"per": "block"}), "vlm layer 1", "lm layer 3", scale=(9.0, 0.8, 9.0, 9.0, 9.0, 1.5))
    assert factors(recipe) == pytest.approx([1, 0.8, 1.2, 1.2])


def test_neighbours_with_one_factor_are_one_slice_and_the_recipe_reads_back() -> None:
    recipe = on(space(scale=True), "lm layer 1", "lm layer 2", "lm layer 3", scale=(1.5, 1.0))
    assert [part.sources[0].layer_range for part in recipe.slices or ()] == [(0, 1), (1, 4), (3, 4)]
    assert read_recipe(dump_recipe(recipe), "a test") == recipe


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ({"models": ["org/vlm", "org/vlm"]}, "names a model twice"),
        ({"models": ["org/vlm"], "vlm": "org/lm"}, "begin and end a path"),
        ({"models": ["org/vlm"], "scale": [1.5, 2]}, "begins at 1"),
        ({"models": ["org/vlm"], "scale": [-1, 2]}, "begins at 1"),
        ({"models": ["org/vlm"], "scale": "yes please"}, "`scale` cannot have this value"),
        ({"models": ["org/vlm", "winner"]}, "nothing is merged before"),
        ({"models": ["org/vlm"], "max_fevals": 5}, "for runs that merge before"),
        ({"models": ["org/vlm"], "repeat": 2}, "repeats"),
    ],
)
def test_blocks_that_make_no_sense_are_refused(path: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_run({"path": path, "tasks": TASKS}, "a test", Path("/"))


def test_a_run_has_one_block_or_merge_and_path() -> None:
    merge, path = {"models": ["org/vlm", "org/lm"]}, {"models": ["winner", "org/lm"]}
    run = parse_run({"merge": merge, "path": path, "tasks": TASKS}, "a test", Path("/"))
    assert run.hybrid
    with pytest.raises(ConfigError, match="a run has either `merge`"):
        parse_run({"genome": {**merge, "merge_method": "linear"}, "path": path, "tasks": TASKS}, "a test", Path("/"))
    with pytest.raises(ConfigError, match="leaves out `winner`"):
        parse_run({"merge": merge, "path": merge, "tasks": TASKS}, "a test", Path("/"))
    aims = {"objectives": [{"label": name, "tasks": {"ja-vg-vqa-500": 1}} for name in ("one", "two")]}
    with pytest.raises(ConfigError, match="`objectives` have a front"):
        parse_run({"merge": merge, "path": path, "tasks": TASKS, "search": aims}, "a test", Path("/"))
    of_start = {"start": "a.yaml", "constraints": [{"task": "ja-vg-vqa-500", "at_least": 0.9, "of": "start"}]}
    parse_run({"merge": merge, "tasks": TASKS, "search": of_start}, "a test", Path("/"))
    with pytest.raises(ConfigError, match="the paths begin at no recipe"):
        parse_run({"merge": merge, "path": path, "tasks": TASKS, "search": of_start}, "a test", Path("/"))
    with pytest.raises(ConfigError, match=r"`search\.start` belongs to `merge:` runs"):
        parse_run({"path": merge, "tasks": TASKS, "search": {"start": "host"}}, "a test", Path("/"))


def test_a_plan_promises_no_simpler_paths() -> None:
    block = {"path": {"models": ["org/vlm", "org/lm"]}, "tasks": TASKS, "validation": TASKS}
    assert plan_of(parse_run(block, "a test", Path("/")).with_layers({VLM: 4, LM: 4}), VLM, 4).simpler == 0


def test_a_path_is_one_stage_and_its_rows_are_models_as_they_are() -> None:
    given = {"models": ["org/vlm", "org/lm"], "scale": True}
    run = parse_run({"path": given, "tasks": TASKS, "search": {"max_fevals": 60}}, "a test", Path("/"))
    run = run.with_layers({VLM: 4, LM: 4})
    (stage,) = stages(run, 4, VLM)
    assert (stage.name, stage.row, len(stage.space.genes)) == ("path", "mean", 8)
    assert stage.budget <= 60
    rows = {each.row: each.recipe for each in baselines(run, VLM)}
    assert rows["host"] == stage.space.decode(stage.space.start)
    assert [row for row, recipe in rows.items() if recipe is None] == ["swap:lm", "equal", "grid"]


@pytest.mark.parametrize("vlm", [None, "winner", "org/vlm"])
def test_behind_a_search_of_weights_both_what_it_found_and_its_host_are_rows(vlm: str | None) -> None:
    found, path = ModelRef("/found"), {"models": ["winner", "org/vlm"], **({"vlm": vlm} if vlm else {})}
    both = parse_run({"merge": {"models": ["org/vlm", "org/lm"]}, "path": path, "tasks": TASKS}, "a test", Path("/"))
    run = second_part(both, found, VLM).with_layers({found: 4, VLM: 4})
    assert run.path is not None
    assert set(run.models) == {found, VLM}
    host = run.path.vlm
    assert host == (VLM if vlm == "org/vlm" else found)
    rows = {each.row: each.recipe for each in baselines(run, host)}
    assert [row for row in rows if rows[row] is not None] == (["host", "merged"] if host == VLM else ["merged", "host"])
    for row, model in (("merged", found), ("host", VLM)):
        recipe = rows[row]
        assert recipe is not None
        assert recipe.vlm == host
        assert {part.sources[0].model for part in recipe.slices or ()} == {model}


def test_models_of_both_parts_are_read_at_the_same_commits() -> None:
    merge = {"models": ["org/vlm", "org/lm@v1"]}
    path = {"models": ["winner", "org/vlm", "org/lm@v1", "org/lm@v2", "org/other"], "vlm": "org/vlm"}
    both = parse_run({"merge": merge, "path": path, "tasks": TASKS}, "a test", Path("/"))
    used = (ModelRef("org/vlm", "aaa"), ModelRef("org/lm", "bbb"))
    run = second_part(both, ModelRef("/found"), used[0], used)
    assert run.path is not None
    # What the first part did not have stays as it is asked for.
    assert [str(ref) for ref in run.path.models] == ["/found", "org/vlm@aaa", "org/lm@bbb", "org/lm@v2", "org/other"]
    assert run.path.vlm == used[0]
    assert run.path.beside == (used[0], ModelRef("/found"))


@pytest.mark.parametrize("depth", [6, 40])
def test_a_first_generation_turns_about_two_blocks(depth: int) -> None:
    one = space((depth, depth))
    draws = random.Random(1)
    turned = [
        sum(
            abs(draws.gauss(0.0, gene.scale) / mean) > 1 and draws.random() < 0.5
            for gene, mean in zip(one.genes, one.start, strict=True)
        )
        for _ in range(2000)
    ]
    assert 1.8 < sum(turned) / len(turned) < 2.2


def test_a_host_of_two_layers_alone_has_no_path() -> None:
    with pytest.raises(ConfigError, match="no path to search"):
        PathSpace(PathSpec(models=(VLM,), layers=(2,)), VLM)
