"""Stages and baselines of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from vlmerge.config import ModelRef, RunConfig, dump_recipe, dump_run, parse_recipe, parse_run
from vlmerge.errors import ConfigError
from vlmerge.plan import plan_of
from vlmerge.search import Distribution, Handed, baselines, decided, notes, stages

HOST, OTHER, BASE = ModelRef("org/vlm"), ModelRef("org/ja"), ModelRef("org/base")
MODELS = [str(HOST), str(OTHER), str(BASE)]


def run(block: dict[str, Any], kind: str = "merge", **more: Any) -> RunConfig:
    """A run with one task."""
    return parse_run({kind: block, "tasks": ["questions"], **more}, "run.yaml", Path("/nowhere"))


def test_the_global_stage_comes_first_and_starts_at_the_best_baseline() -> None:
    first, second = stages(run({"models": MODELS}), 6, HOST, [{HOST: 0.4, OTHER: 0.6}])
    assert (first.name, first.start, first.sigma, first.budget) == ("global", (0.4, 0.6, 0.0), 0.2, 40)
    assert (second.name, second.sigma, second.budget) == ("groups", 0.1, 360)
    handed = Handed(first.space, Distribution((0.5, 0.7, -0.1), 0.07))
    assert second.begin(handed) == Distribution((0.5, 0.7, -0.1) * 4, 0.1)
    assert second.optimizer(handed).mean == (0.5, 0.7, -0.1) * 4


@given(st.integers(1, 300), st.integers(0, 100), st.sampled_from([1, 2, "layer"]))
def test_all_stages_together_stay_within_the_budget(max_fevals: int, global_fevals: int, groups: int | str) -> None:
    assume(global_fevals <= max_fevals)
    config = run(
        {"models": MODELS, "space": {"groups": groups}}, search={"max_fevals": max_fevals, "global_fevals": global_fevals}
    )
    found = stages(config, 6, HOST)
    assert found
    assert 0 < sum(stage.budget for stage in found) <= max_fevals
    if max_fevals == global_fevals:
        assert [stage.name for stage in found] == ["global"]
    if global_fevals == 0:
        assert [stage.name for stage in found] == ["groups"]


def test_a_space_with_one_group_is_searched_once() -> None:
    (only,) = stages(run({"models": MODELS, "space": {"groups": 1, "separate": []}}, search={"max_fevals": 80}), 6, HOST)
    assert (only.name, only.budget) == ("global", 80)


def test_without_a_global_stage_the_groups_start_at_the_baseline() -> None:
    (only,) = stages(run({"models": MODELS}, search={"global_fevals": 0}), 6, HOST, [{HOST: 0.4, OTHER: 0.6}])
    assert only.start == (0.4, 0.6, 0.0) * 4


def test_a_genome_is_searched_as_mergekit_evolve_does() -> None:
    block = {"models": MODELS, "merge_method": "linear", "base_model": str(BASE), "layer_granularity": 4}
    config = run(block, "genome", search={"max_fevals": 104})
    (only,) = stages(config, 32, HOST)
    assert (only.name, len(only.space.names), only.population, only.generations) == ("genome", 24, 13, 8)
    assert only.sigma == 1 / 6
    with pytest.raises(ConfigError, match="must divide"):
        stages(config, 30, HOST)


def test_random_init_is_seeded() -> None:
    block = {"models": MODELS, "merge_method": "linear"}
    starts = [stages(run(block, "genome", random_init=True, search={"seed": seed}), 6, HOST)[0].start for seed in (1, 1, 2)]
    assert starts[0] == starts[1] != starts[2]
    assert all(0 <= gene < 1 for gene in starts[0] or (-1,))


def test_every_baseline_of_the_design_is_there() -> None:
    rows = baselines(run({"models": MODELS, "base_model": str(BASE), "protect": ["layernorm"], "dtype": "float16"}), HOST)
    assert [row.label for row in rows] == [
        "host", "swap:ja", "swap:base",
        *(f"swap_scaled:{name}@{scale}" for name in ("ja", "base") for scale in ("1.06", "1.13", "1.2")),
        "equal", *(f"grid@0.{tenths}" for tenths in range(1, 10)), "chat_vector:ja",
    ]  # fmt: skip
    for row in rows:
        assert row.recipe is not None
        assert (row.recipe.vlm, row.recipe.protect, row.recipe.dtype) == (HOST, ("layernorm",), "float16")
        assert parse_recipe(yaml.safe_load(dump_recipe(row.recipe)), "recipe.yaml") == row.recipe
    by_label = {row.label: row for row in rows}
    assert by_label["grid@0.3"].weights == {HOST: 0.3, OTHER: 0.7}
    assert by_label["swap_scaled:ja@1.06"].row == "swap_scaled:ja"
    assert by_label["grid@0.3"].row == "grid"
    assert sum(by_label["equal"].weights.values()) == pytest.approx(1)
    chat = by_label["chat_vector:ja"].recipe
    assert chat is not None
    assert (chat.merge_method, chat.base_model, chat.model_refs()) == ("task_arithmetic", BASE, (HOST, OTHER, BASE))


def test_what_cannot_be_says_why() -> None:
    rows = {row.label: row for row in baselines(run({"models": MODELS}), HOST)}
    assert rows["chat_vector:ja"].recipe is None
    assert rows["chat_vector:ja"].reason == "no base_model"
    alone = {row.label: row for row in baselines(run({"models": MODELS[:1]}), HOST)}
    assert alone["grid"].reason == "there is no other model"


def test_where_the_base_is_the_only_other_model_the_grid_is_with_it() -> None:
    rows = {row.label: row for row in baselines(run({"models": [MODELS[0], MODELS[2]], "base_model": MODELS[2]}), HOST)}
    assert rows["grid@0.9"].weights == {HOST: 0.9, BASE: 0.1}


def test_models_of_one_name_are_told_apart_by_their_whole_id() -> None:
    rows = baselines(run({"models": ["org/vlm", "one/ja", "two/ja"]}), HOST)
    assert [row.label for row in rows if row.label.startswith("swap:")] == ["swap:one/ja", "swap:two/ja"]


@pytest.mark.parametrize(
    ("questions", "max_fevals", "expected"),
    [
        (192, 400, ["global", "groups"]),
        (491, 400, ["global", "groups"]),
        (492, 400, ["global", "groups", "finer"]),
        (492, 399, ["global", "groups"]),
        (1106, 760, ["global", "groups", "finer", "finest"]),
    ],
)
def test_the_automatic_space_goes_as_far_as_budget_and_questions_carry(
    questions: int, max_fevals: int, expected: list[str]
) -> None:
    config = run({"models": MODELS}, search={"max_fevals": max_fevals})
    used = decided(config, 6, HOST, questions)
    found = stages(used, 6, HOST)
    assert [stage.name for stage in found] == expected
    assert all(stage.budget >= 9 * len(stage.space.genes) for stage in found[1:])
    assert sum(stage.budget for stage in found) <= max_fevals
    assert parse_run(yaml.safe_load(dump_run(used)), "run.yaml", Path("/elsewhere")) == used
    assert [stage.sigma for stage in found] == [0.2, 0.1, 0.05, 0.05][: len(found)]


def test_without_validation_there_is_nobody_to_ask_for_a_finer_stage() -> None:
    config = run({"models": MODELS}, validation={"fraction": 0})
    assert len(stages(decided(config, 6, HOST, 10_000), 6, HOST)) == 2


def test_a_plan_says_what_is_not_carried_and_what_would_be() -> None:
    config = run({"models": MODELS})
    (few,) = notes(config, 6, HOST, 100)
    assert "100 search questions carry about 10 genes, and this stage has 12; 123 questions would" in few
    (ahead,) = notes(config, 6, HOST)
    assert "24 genes follows from 492 search questions and 400 candidates on" in ahead
    assert notes(config, 6, HOST, 192) == []


def test_a_plan_says_what_adapting_to_noise_may_do() -> None:
    def noted(**search: Any) -> str:
        return " ".join(plan_of(run({"models": MODELS}, search=search), HOST, 6).notes)

    assert "noise" not in noted()
    assert "noise: adapt: where all search questions do not tell its candidates apart, the next one is larger" in noted(
        noise="adapt"
    )
    assert "is asked more of the search questions; where all search questions" in noted(noise="adapt", rotate=0.5)


def test_only_what_can_choose_searches_methods() -> None:
    block = {"models": MODELS, "base_model": str(BASE), "method": ["linear", "ties"]}
    assert run(block).algorithm == "catcma"
    assert run(block, search={"algorithm": "optuna:tpe"}).algorithm == "optuna:tpe"
    for algorithm, says in (("cma-es", "a method is to be chosen"), ("nsga-ii", "one score|to be chosen")):
        with pytest.raises(ConfigError, match=says):
            run(block, search={"algorithm": algorithm})


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"space": []}, "auto, a space, or a list of spaces"),
        ({"method": ["linear", "linear"]}, "names one twice"),
        ({"space": {"parameters": ["density"]}}, "no parameter of linear"),
        ({"method": "ties", "parameters": {"density": 0.5}, "space": {"parameters": ["density"]}}, "fixed under"),
        ({"method": "della", "space": {"parameters": ["epsilon"]}}, "nobody knows within what"),
        ({"space": {"parameters": {"weight": {"bounds": [2, 1]}}}}, "the bounds hold no value"),
        ({"space": {"modules": ["attention", "q/k"]}}, "names something twice"),
        ({"method": "ties", "space": [{"parameters": ["density"]}, {"groups": 3}]}, "no longer searches `density`"),
        ({"method": "sce"}, "has no weights to search"),
    ],
)
def test_a_space_that_cannot_be_is_refused_with_the_reason(block: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        run({"models": MODELS, "base_model": str(BASE), **block})


@pytest.mark.parametrize("key", ["sigma0", "force_population_size", "timeout", "vllm"])
def test_an_option_of_mergekit_evolve_says_what_it_is_here(key: str) -> None:
    with pytest.raises(ConfigError, match=f"`{key}` is (called|not)"):
        run({"models": MODELS}, search={key: 1})


def test_a_finer_stage_begins_with_the_method_that_the_last_one_chose() -> None:
    config = run({"models": MODELS, "base_model": str(BASE), "method": ["linear", "ties"]}, search={"population": 40})
    first, second = stages(config, 6, HOST)
    handed = Handed(first.space, Distribution((1.0, 0.4, 0.6, 0.0), 0.1))
    asked = second.optimizer(handed).ask()
    assert sum(genome[0] == 1.0 for genome in asked) > 25
    assert {genome[0] for genome in first.optimizer().ask()} == {0.0, 1.0}
