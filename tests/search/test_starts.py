"""Where a search begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vlmerge.config import ModelRef, RunConfig, dump_recipe, dump_run, parse_recipe, parse_run
from vlmerge.errors import ConfigError, RunFolderError
from vlmerge.search import read_start, stages

HOST, OTHER, BASE = ModelRef("org/vlm"), ModelRef("org/ja"), ModelRef("org/base")
MODELS = [str(HOST), str(OTHER), str(BASE)]
LAYERS = 6


def run(start: Any, folder: Path = Path("/nowhere"), **merge: Any) -> RunConfig:
    """A run that begins there."""
    block = {"models": MODELS, "base_model": str(BASE), **merge}
    return parse_run({"merge": block, "tasks": ["questions"], "search": {"start": start}}, "run.yaml", folder)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("host", (1.0, 0.0, 0.0)),
        ("equal", (1 / 3, 1 / 3, 1 / 3)),
        ("chat_vector", (1.0, 1.0, -1.0)),
        ("chat_vector:ja", (1.0, 1.0, -1.0)),
    ],
)
def test_a_start_has_its_weights(start: str, expected: tuple[float, ...]) -> None:
    first = stages(run(start), LAYERS, HOST, [{OTHER: 1.0}])[0]
    assert first.start == pytest.approx(expected)
    assert first.optimizer().mean == pytest.approx(expected)


def test_random_is_seeded_and_within_bounds() -> None:
    config = run("random", method="ties", space={"parameters": ["density"]})
    one, again = (stages(config, LAYERS, HOST)[0] for _ in range(2))
    assert one.start == again.start
    assert one.start is not None
    assert len(set(one.start)) == len(one.start)
    assert all(0 <= number <= 1 for number in one.start)


@pytest.mark.parametrize(
    ("start", "merge", "says"),
    [
        ("host", {"method": "ties", "space": {"parameters": {"weight": {"bounds": [0.1, 2]}}}}, "cannot begin there"),
        ("chat_vector:nobody", {}, "chat_vector:ja"),
        ("nowhere.yaml", {}, "no such start"),
    ],
)
def test_what_cannot_be_said_is_refused(start: str, merge: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        stages(read_start(run(start, **merge)), LAYERS, HOST)


def sliced(*weights: tuple[float, float], **top: Any) -> dict[str, Any]:
    """A recipe of two halves with these weights of vlm and ja."""
    slices = [
        {"sources": [{"model": model, "layer_range": [3 * index, 3 * index + 3], "parameters": {"weight": weight}}
                     for model, weight in zip(MODELS, pair, strict=False)]}
        for index, pair in enumerate(weights)
    ]  # fmt: skip
    return {"merge_method": "linear", "slices": slices, "parameters": {"normalize": False}, **top}


def test_a_recipe_is_begun_at_by_the_coarsest_space_that_can_say_it(tmp_path: Path) -> None:
    (tmp_path / "halves.yaml").write_text(yaml.safe_dump(sliced((0.4, 0.6), (0.5, 0.7))))
    config = read_start(run("halves.yaml", tmp_path))
    (only,) = stages(config, LAYERS, HOST)
    assert (only.name, only.budget) == ("groups", 396)  # What one number per model would have had is the groups' now.
    assert only.start == (0.4, 0.6, 0.0, 0.4, 0.6, 0.0, 0.5, 0.7, 0.0, 0.5, 0.7, 0.0)
    (tmp_path / "one.yaml").write_text(yaml.safe_dump({**sliced((0.4, 0.6), (0.4, 0.6))}))
    first, _ = stages(read_start(run("one.yaml", tmp_path)), LAYERS, HOST)
    assert (first.name, first.start) == ("global", (0.4, 0.6, 0.0))


def test_a_start_that_was_read_stands_in_the_run_itself(tmp_path: Path) -> None:
    (tmp_path / "halves.yaml").write_text(yaml.safe_dump(sliced((0.4, 0.6), (0.5, 0.7))))
    config = read_start(run("halves.yaml", tmp_path))
    (tmp_path / "halves.yaml").unlink()
    again = parse_run(yaml.safe_load(dump_run(config)), "run.yaml", Path("/elsewhere"))
    assert again == config
    assert stages(again, LAYERS, HOST) == stages(config, LAYERS, HOST)


def test_every_winner_of_a_space_is_a_start_of_it() -> None:
    merge: dict[str, Any] = {
        "method": ["linear", "ties"],
        "space": {"groups": 3, "modules": ["attention"], "parameters": ["density"]},
    }
    space = stages(run("auto", **merge), LAYERS, HOST)[-1].space
    for method in (0.0, 1.0):
        genome = (method, *(0.1 + index / 100 for index in range(len(space.names) - 1)))
        recipe = parse_recipe(yaml.safe_load(dump_recipe(space.decode(genome))), "recipe.yaml")
        found = space.genome_of_recipe(recipe)
        assert space.decode(found) == space.decode(genome)


def test_task_arithmetic_is_a_start_of_a_linear_search() -> None:
    recipe = {
        "merge_method": "task_arithmetic", "base_model": str(BASE), "parameters": {"lambda": 0.5},
        "models": [{"model": str(HOST), "parameters": {"weight": 1.0}}, {"model": str(OTHER), "parameters": {"weight": 0.8}}],
    }  # fmt: skip
    first = stages(run(recipe), LAYERS, HOST)[0]
    assert first.start == pytest.approx((0.5, 0.4, 0.1))


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({"merge_method": "linear", "models": [{"model": "org/other", "parameters": {"weight": 1}}]}, "models that the run"),
        (
            {"merge_method": "ties", "base_model": str(BASE), "models": [{"model": MODELS[0], "parameters": {"weight": 1}}]},
            "has another method",
        ),
        (
            {"merge_method": "linear", "models": [{"model": MODELS[0], "parameters": {"weight": [0.1, 0.9]}}]}
            | {"parameters": {"normalize": False}},
            "the space cannot say it",
        ),
        ({"merge_method": "linear", "slices": sliced((0.4, 0.6))["slices"]}, "another number of layers"),
    ],
)  # fmt: skip
def test_a_recipe_that_the_space_cannot_say_is_refused_with_the_reason(recipe: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        stages(run(recipe), LAYERS, HOST)


def test_a_folder_that_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    with pytest.raises(RunFolderError, match="finished run"):
        read_start(run("begun", tmp_path))


def test_a_genome_run_begins_where_mergekit_evolve_does() -> None:
    block = {"models": MODELS, "merge_method": "linear"}
    with pytest.raises(ConfigError, match="belongs to `merge:` runs"):
        parse_run({"genome": block, "tasks": ["q"], "search": {"start": "host"}}, "run.yaml", Path("/nowhere"))
