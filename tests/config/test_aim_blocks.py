"""What a run file says of constraints and objectives: read, written out, and refused with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vlmerge.config.run import RunConfig, dump_run, parse_run
from vlmerge.errors import ConfigError, TaskError
from vlmerge.fitness import FRONT_LIMIT
from vlmerge.plan import plan_of
from vlmerge.search import MOST_STEPS, stages
from vlmerge.tasks.sets import aims_without_holdout, check_aims

MODELS = ["vlm", "ja", "base"]


def run(merge: dict[str, Any] | None = None, holdout: str = "English", validation: str = "English", **search: Any) -> RunConfig:
    def both(second: str) -> list[dict[str, Any]]:
        return [{"name": "q.jsonl", "label": "Japanese"}, {"name": "q.jsonl", "label": second, "weight": 0}]

    data = {
        "merge": {"models": MODELS, "base_model": "base", **(merge or {})},
        "tasks": both("English"),
        "validation": both(validation),
        "holdout": both(holdout),
        "search": search,
    }
    return parse_run(data, "run.yaml", Path("/somewhere"))


def test_aims_survive_their_file() -> None:
    config = run(
        objectives=["Japanese", {"label": "kept", "tasks": ["English", "Japanese"]}],
        constraints=[{"task": "English", "at_least": 0.95, "of": "host"}, {"language": "ja", "at_least": 0.9}],
    )
    assert config.algorithm == "nsga-ii"
    assert [objective.name for objective in config.search.objectives] == ["Japanese", "kept"]
    assert config.search.objectives[1].tasks == {"English": 1.0, "Japanese": 1.0}
    assert parse_run(yaml.safe_load(dump_run(config)), "again", Path("/")) == config


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ({"constraints": [{"task": "English"}]}, "a constraint has one bound"),
        ({"constraints": [{"task": "English", "at_least": 0.5, "at_most": 0.6}]}, "one bound"),
        ({"constraints": [{"task": "English", "at_least": 95}]}, "95 points of 100 are 0.95"),
        ({"constraints": [{"at_least": 0.5}]}, "names its task"),
        ({"constraints": [{"language": "jp", "at_least": 0.5}]}, "Japanese is `ja`"),
        ({"constraints": [{"language": "ja", "at_least": 0.5, "of": "host"}]}, "take `of` out"),
        ({"constraints": [{"task": "English", "at_least": 0.9, "of": "start"}]}, "begins at no recipe"),
        ({"objectives": ["Japanese"]}, "two or more"),
        ({"objectives": ["Japanese", "Japanese"]}, "a name of its own"),
        ({"objectives": ["Japanese", {"tasks": {"English": 0}}]}, "a weight that is not 0"),
        ({"objectives": ["Japanese", "English"], "algorithm": "cma-es"}, "searches for one score"),
        ({"objectives": ["Japanese", "English"], "sharing": True}, "`sharing` divides"),
        ({"objectives": ["Japanese", "English"], "global_fevals": 30}, "in one stage"),
        ({"algorithm": "nsga-ii"}, "name the objectives"),
        ({"noise": "adapt", "racing": True}, "`rotate: auto` goes together with races"),
        ({"noise": "adapt", "constraints": [{"task": "English", "at_least": 0.9}]}, "`noise` compares candidates by one score"),
        ({"noise": "adapt", "objectives": ["Japanese", "English"]}, "take `noise` out"),
        ({"noise": "on"}, "adapt or ignore"),
    ],
)
def test_what_cannot_be_meant_is_refused(search: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        run(**search)


def test_a_front_has_one_space() -> None:
    with pytest.raises(ConfigError, match="2 spaces"):
        run({"space": [{"groups": 1}, {"groups": 2}]}, objectives=["Japanese", "English"])


def test_a_front_is_one_stage_over_what_its_budget_carries() -> None:
    def plan(merge: dict[str, Any] | None = None, **search: Any) -> list[tuple[str, int, int]]:
        config = run(merge, objectives=["Japanese", "English"], **search)
        return [(s.name, len(s.space.genes), s.population) for s in stages(config, 6, config.models[0])]

    assert plan(max_fevals=60) == [("global", 3, 12)]
    assert plan(max_fevals=400) == [("groups", 12, 20)]
    assert plan({"space": {"groups": 1}}, max_fevals=60) == [("groups", 9, 12)]
    assert plan({"space": {"groups": 1}}, max_fevals=60, global_fevals=60, population=6) == [("global", 3, 6)]


def test_a_plan_counts_a_front_and_no_simpler_recipes_for_it() -> None:
    one, several = (plan_of(config, config.models[0], 6) for config in (run(), run(objectives=["Japanese", "English"])))
    assert (one.simpler, one.front) == (MOST_STEPS, 0)
    assert (several.simpler, several.front) == (0, FRONT_LIMIT)


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ({"constraints": [{"task": "Englsh", "at_least": 0.9}]}, r"constraints\[0\].*did you mean `English`"),
        ({"objectives": ["Japanese", "Arithmetic"]}, r"objectives\[1\].*add it to `tasks`"),
        ({"constraints": [{"task": "English", "at_least": 0.9}], "validation": "Kept"}, "label: English"),
    ],
)
def test_tasks_that_are_not_asked_are_refused_by_their_key(search: dict[str, Any], says: str) -> None:
    with pytest.raises(TaskError, match=f"(?s){says}"):
        check_aims(run(**search))


def test_a_holdout_that_does_not_ask_is_noted() -> None:
    constraint = {"constraints": [{"task": "English", "at_least": 0.9}]}
    (note,) = aims_without_holdout(run(holdout="Kept", **constraint))
    assert "the holdout does not ask English" in note
    assert not aims_without_holdout(run(**constraint))
