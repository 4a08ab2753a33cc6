"""The files in examples/ mean what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmerge.config.recipe import dump_recipe, load_recipe, parse_recipe
from vlmerge.config.run import load_run

EXAMPLES = Path(__file__).parents[2] / "examples"
HONEST = EXAMPLES / "llava-1.5-elyza/honest.yaml"
REPLICA = EXAMPLES / "llava-1.5-elyza/replica.yaml"
STARTS = [EXAMPLES / "search" / name for name in ("start-recipe.yaml", "second-skill-start.yaml")]
RECIPES = [*sorted((EXAMPLES / "recipes").glob("*.yaml")), *STARTS]
SEARCHES = [path for path in sorted((EXAMPLES / "search").glob("*.yaml")) if path not in RECIPES]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_reads_and_reads_back(path: Path) -> None:
    import yaml

    recipe = load_recipe(path)
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe)), "again") == recipe


def test_every_example_is_described() -> None:
    text = (EXAMPLES / "README.md").read_text()
    for path in [HONEST, REPLICA, *RECIPES, *SEARCHES]:
        assert f"({path.relative_to(EXAMPLES)})" in text


def test_the_honest_run_keeps_its_sets_apart() -> None:
    run = load_run(HONEST)
    assert not run.allow_contaminated_holdout
    searched = {(task.name, task.split) for task in run.tasks}
    assert searched == {("ja-vg-vqa-500", "train")}
    assert run.validation.fraction > 0
    assert searched.isdisjoint((task.name, task.split) for task in run.holdout)
    assert run.search.global_fevals > 0
    assert not run.merge.normalize if run.merge else False


def test_the_replica_is_the_published_setting() -> None:
    run = load_run(REPLICA)
    genome = run.genome
    assert genome is not None
    assert (genome.merge_method, genome.layer_granularity, genome.normalize) == ("linear", 4, True)
    assert genome.allow_negative_weights
    assert genome.protect == ("layernorm",)
    assert (run.search.max_fevals, run.search.population, run.search.global_fevals) == (104, 13, 0)
    assert run.search.sigma == pytest.approx(1 / 6)
    assert run.preset == "colab-2024"
    assert run.validation.fraction == 0
    assert run.allow_contaminated_holdout
    assert {task.name for task in run.tasks} == {task.name for task in run.holdout} == {"ja-vlm-bench-in-the-wild"}


def test_the_run_file_in_readme_is_one() -> None:
    """README's run file is a run file."""
    import re

    import yaml

    from vlmerge.config.run import parse_run

    root = EXAMPLES.parent
    for name in ("README.md", "README.ja.md"):
        blocks = re.findall(r"```yaml\n(.*?)```", (root / name).read_text(), flags=re.DOTALL)
        assert blocks, f"{name} shows no run file"
        for block in blocks:
            run = parse_run(yaml.safe_load(block), name, root)
            assert run.merge is not None
            assert len(run.merge.models) == 3


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_a_search_plans_its_stages_and_its_first_candidate_is_a_recipe(path: Path) -> None:
    from vlmerge.search import read_start, stages

    run = read_start(load_run(path))
    if run.merge is None:
        run = run.with_layers(dict.fromkeys(run.models, 6))
    planned = stages(run, 6, run.models[0])
    assert planned
    assert sum(stage.budget for stage in planned) <= run.search.max_fevals
    first = planned[0].optimizer()
    assert read_back(planned[0].space.decode(first.ask()[0]))


def read_back(recipe: object) -> bool:
    """Whether a recipe survives its file."""
    import yaml

    from vlmerge.config.recipe_blocks import Recipe

    assert isinstance(recipe, Recipe)
    return parse_recipe(yaml.safe_load(dump_recipe(recipe)), "again") == recipe
