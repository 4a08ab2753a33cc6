"""Run files: what is understood, what is refused and how, and that a dump says everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.config import ModelRef, RunConfig, diff_runs, dump_run, load_run, parse_run
from vlmerge.errors import ConfigError
from vlmerge.types import Decoding

MERGE: dict[str, Any] = {"merge": {"models": ["org/vlm", "org/ja"]}, "tasks": ["ja-vg-vqa-500"]}
GENOME: dict[str, Any] = {"genome": {"models": ["org/vlm", "org/ja"], "merge_method": "linear"}, "tasks": ["ja-vg-vqa-500"]}


def parse(data: dict[str, Any], folder: Path = Path("/nowhere")) -> RunConfig:
    """As a file gives it."""
    return parse_run(data, "run.yaml", folder)


tasks = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["ja-vg-vqa-500", "hf:org/data", "./mine.jsonl", "no"])},
        optional={
            "split": st.text(min_size=1, max_size=5, alphabet="abc"),
            "limit": st.integers(1, 99),
            "weight": st.floats(0.1, 5),
            "label": st.sampled_from(["English kept", "on", "日本語"]),
            "fields": st.just({"question": "question_ja"}),
            "kinds": st.lists(st.sampled_from(["count", "at"])),
            "preset": st.just("sakana"),
        },
    ),
    min_size=1,
    max_size=3,
)
runs = st.fixed_dictionaries(
    {"tasks": tasks},
    optional={
        "holdout": tasks,
        "validation": st.one_of(tasks, st.fixed_dictionaries({"fraction": st.floats(0, 0.9)})),
        "search": st.fixed_dictionaries({}, optional={"seed": st.integers(1, 9), "sigma": st.floats(0.01, 1),
                                                      "max_fevals": st.integers(60, 400), "global_fevals": st.integers(0, 60)}),
        "decoding": st.fixed_dictionaries({}, optional={"num_beams": st.integers(1, 5), "temperature": st.floats(0, 1)}),
        "preset": st.just("colab-2024"),
        "runtime": st.fixed_dictionaries({}, optional={"batch_size": st.integers(1, 64), "dtype": st.just("float16")}),
        "allow_contaminated_holdout": st.booleans(),
    },
)  # fmt: skip
blocks = st.sampled_from(
    [
        {"merge": MERGE["merge"]},
        {"merge": {"models": ["./vlm", "org/ja@v1", "a"], "base_model": "a", "method": "task_arithmetic", "protect": ["norm"]}},
        {"merge": {"models": ["b", "a"], "base_model": "a", "method": "slerp", "space": {"groups": "layer", "separate": []}}},
        {"genome": GENOME["genome"]},
        {"genome": {"models": ["a", "b"], "merge_method": "slerp", "layer_granularity": 4, "vlm": "a", "protect": ["norm"]}},
    ]
)


@given(blocks, runs)
def test_a_dumped_run_reads_back_as_the_same_run(block: dict[str, Any], rest: dict[str, Any]) -> None:
    config = parse({**block, **rest})
    again = parse(yaml.safe_load(dump_run(config)), Path("/elsewhere"))
    assert again == config
    assert dump_run(again) == dump_run(config)
    assert diff_runs(config, again) == []


def test_every_default_is_written_out() -> None:
    plain = yaml.safe_load(dump_run(parse(MERGE)))
    assert plain["search"] == {
        "algorithm": "cma-es", "max_fevals": 400, "global_fevals": 40, "seed": 1, "global_sigma": 0.2, "sigma": 0.1,
        "population": None, "options": {}, "start": "auto", "agreement": 0.9, "simplify": True, "margin": 1.0,
        "constraints": [], "objectives": [], "sharing": False, "finalists": 5, "racing": "auto", "rotate": 1.0,
        "noise": "ignore",
    }  # fmt: skip
    assert plain["merge"]["space"] == "auto"
    assert plain["decoding"] == {"max_new_tokens": 128, "num_beams": 1, "temperature": 0.0, "top_p": 1.0,
                                 "repetition_penalty": 1.0, "seed": 1}  # fmt: skip
    assert plain["validation"] == {"fraction": 0.25, "tasks": None}
    assert yaml.safe_load(dump_run(parse(GENOME)))["search"]["sigma"] == 1 / 6


def test_the_automatic_space_is_the_default() -> None:
    assert parse(MERGE) == parse({**MERGE, "merge": {**MERGE["merge"], "space": "auto"}})


def test_a_preset_leaves_decoding_to_itself_and_what_is_said_goes_before_it() -> None:
    config = parse({**MERGE, "preset": "sakana", "decoding": {"num_beams": 3}})
    assert config.decoding.over(Decoding(max_new_tokens=512, num_beams=5)) == Decoding(max_new_tokens=512, num_beams=3)


def test_local_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "models" / "vlm").mkdir(parents=True)
    (tmp_path / "mine.jsonl").write_text("")
    (tmp_path / "run.yaml").write_text(
        "merge: {models: [models/vlm, org/ja], vlm: models/vlm, base_model: ../base}\n"
        "tasks: [mine.jsonl, ja-vg-vqa-500, 'hf:org/data', {name: ja-vg-vqa-500, path: copy, label: x}]\n"
        "validation: [./v.jsonl]\nholdout: [../h.jsonl]\n"
    )
    config = load_run(tmp_path / "run.yaml")
    vlm, base = ModelRef(str(tmp_path / "models/vlm")), ModelRef(str(tmp_path.parent / "base"))
    assert config.models == (vlm, ModelRef("org/ja"), base)
    assert (config.vlm, config.base_model) == (vlm, base)
    assert [task.name for task in config.tasks] == [
        str(tmp_path / "mine.jsonl"),
        "ja-vg-vqa-500",
        "hf:org/data",
        "ja-vg-vqa-500",
    ]
    assert config.tasks[3].path == str(tmp_path / "copy")
    assert [task.name for task in config.validation.tasks or ()] == [str(tmp_path / "v.jsonl")]
    assert config.holdout[0].name == str(tmp_path.parent / "h.jsonl")


def test_a_difference_is_shown_with_both_values() -> None:
    one = parse(MERGE)
    two = parse({**MERGE, "search": {"seed": 2}, "tasks": [{"name": "ja-vg-vqa-500", "limit": 5}], "holdout": ["x"]})
    assert [line for line in diff_runs(one, two) if not line.startswith("holdout")] == [
        "tasks[0].limit: null → 5",
        "search.seed: 1 → 2",
    ]
    assert any(line.startswith("holdout") and "name: x" in line for line in diff_runs(one, two))
    blocks_of = {line.split(":")[0]: line for line in diff_runs(one, parse(GENOME))}
    assert blocks_of["merge"].endswith("→ (not there)")
    assert blocks_of["genome"].startswith("genome: (not there) → ")


def test_mergekit_evolves_own_keys() -> None:
    config = parse(
        {**GENOME, "limit": 50, "num_fewshot": 0, "shuffle": False, "random_init": True, "apply_chat_template": True,
         "fewshot_as_multiturn": True, "tasks": ["a", {"name": "b", "limit": 7}]}
    )  # fmt: skip
    assert [task.limit for task in config.tasks] == [50, 7]
    assert config.random_init


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "both blocks": ({**MERGE, **GENOME}, "either `merge`, `genome` or `path`(.|\n)*merge and genome"),
    "neither block": ({"tasks": ["a"]}, "either `merge`, `genome` or `path`(.|\n)*none of them"),
    "no tasks": ({**MERGE, "tasks": []}, "at least one entry"),
    "tasks missing": ({"merge": MERGE["merge"]}, "`tasks` is missing"),
    "weights all zero": ({**MERGE, "tasks": [{"name": "a", "weight": 0}]}, "every task of `tasks` has weight 0"),
    "weight no number": ({**MERGE, "tasks": [{"name": "a", "weight": "much"}]}, "number"),
    "fraction of one": ({**MERGE, "validation": {"fraction": 1}}, "less than 1"),
    "fraction and tasks": ({**MERGE, "validation": {"fraction": 0.5, "tasks": ["a"]}}, "both tasks and a fraction"),
    "validation without a task": ({**MERGE, "validation": []}, "lists no task"),
    "seed 0": ({**MERGE, "search": {"seed": 0}}, "seed(.|\n)*greater than or equal to 1"),
    "no budget": ({**MERGE, "search": {"max_fevals": 0}}, "max_fevals"),
    "population above the budget": ({**MERGE, "search": {"max_fevals": 5, "population": 6}}, "not even one generation"),
    "sigma 0": ({**MERGE, "search": {"sigma": 0}}, "sigma"),
    "limit 0": ({**MERGE, "tasks": [{"name": "a", "limit": 0}]}, "limit"),
    "unknown key": ({**MERGE, "search": {"max_feval": 9}}, "did you mean `max_fevals`"),
    "unknown top key": ({**MERGE, "hold_out": ["a"]}, "did you mean `holdout`"),
    "unknown key in a task": ({**MERGE, "tasks": [{"name": "a", "lmit": 3}]}, r"tasks\[0\].lmit(.|\n)*did you mean `limit`"),
    "unknown key in the space": (
        {**MERGE, "merge": {**MERGE["merge"], "space": {"group": 2}}},
        r"merge.space.group(.|\n)*did you mean `groups`",
    ),
    "no groups": ({**MERGE, "merge": {**MERGE["merge"], "space": {"groups": 0}}}, "groups"),
    "a separate thing twice": (
        {**MERGE, "merge": {**MERGE["merge"], "space": {"separate": ["head", "head"]}}}, "names something twice",
    ),
    "algorithm": ({**MERGE, "search": {"algorithm": "tpe"}}, "optuna:SAMPLER"),
    "model twice": ({**MERGE, "merge": {"models": ["a", "a"]}}, "every model once"),
    "no models": ({**MERGE, "merge": {"models": []}}, "at least one entry"),
    "a model that YAML read as a flag": ({**MERGE, "merge": {"models": ["a", False]}}, "in quotes"),
    "a task that YAML read as a flag": ({**MERGE, "tasks": [{"name": False}]}, "in quotes"),
    "method without weights": ({**MERGE, "merge": {"models": ["a", "b"], "method": "karcher"}}, "has no weights to search"),
    "method of two": ({**MERGE, "merge": {"models": ["a", "b", "c"], "method": "nuslerp"}}, "not for this many models"),
    "method that does not normalise": (
        {**MERGE, "merge": {"models": ["a", "b"], "method": "nuslerp", "normalize": True}}, "nuslerp does not normalise",
    ),
    "method unknown": ({**MERGE, "merge": {"models": ["a", "b"], "method": "slurp"}}, "did you mean `slerp`"),
    "slerp of three": ({**MERGE, "merge": {"models": ["a", "b", "c"], "method": "slerp", "base_model": "a"}}, "two models"),
    "slerp without base": ({**MERGE, "merge": {"models": ["a", "b"], "method": "slerp"}}, "one of them `base_model`"),
    "task arithmetic without base": ({**MERGE, "merge": {"models": ["a"], "method": "task_arithmetic"}}, "needs a base"),
    "nothing but the base": (
        {**MERGE, "merge": {"models": ["a"], "base_model": "a", "method": "task_arithmetic"}}, "nothing to search",
    ),
    "random_init in merge": ({**MERGE, "random_init": True}, "belongs to `genome:`"),
    "limit in merge": ({**MERGE, "limit": 5}, "unknown key `limit`"),
    "genome method of later": ({**GENOME, "genome": {"models": ["a", "b"], "merge_method": "della"}}, "knows no genes"),
    "genome method without genes": (
        {**GENOME, "genome": {"models": ["a", "b"], "merge_method": "dare_linear", "base_model": "a"}}, "knows no genes",
    ),
    "fixed parameter of another method": (
        {**MERGE, "merge": {**MERGE["merge"], "parameters": {"density": 0.5}}}, "no parameter of linear",
    ),
    "genome base without genes": (
        {**GENOME, "genome": {**GENOME["genome"], "base_model": "c"}}, "linear needs a weight for its base",
    ),
    "genome tokenizer": ({**GENOME, "genome": {**GENOME["genome"], "tokenizer_source": "union"}}, "not supported yet"),
    "smooth slerp": (
        {**GENOME, "genome": {"models": ["a", "b"], "merge_method": "slerp", "smooth": True}}, "knows no `smooth`",
    ),
    "few-shot of another kind": ({**GENOME, "num_fewshot": "some"}, "`num_fewshot` cannot have this value"),
    "a shuffle of another kind": ({**GENOME, "shuffle": 3}, "`shuffle` cannot have this value"),
    "a limit that is none": ({**GENOME, "limit": 0.5}, "`limit` cannot have this value"),
    "decoding": ({**MERGE, "decoding": {"temperature": -1}}, "temperature"),
    "device": ({**MERGE, "runtime": {"device": "tpu"}}, "device"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_named_with_its_place_and_remedy(name: str) -> None:
    data, says = BAD[name]
    with pytest.raises(ConfigError, match=says) as caught:
        parse(data)
    assert "run.yaml" in str(caught.value)


def test_keys_of_mergekit_evolve_about_lm_eval_go_to_every_task_that_has_none_of_its_own() -> None:
    told = {"num_fewshot": 5, "shuffle": True, "apply_chat_template": False, "limit": 7}
    tasks = ["hellaswag", {"name": "a", "metric": "acc,none", "num_fewshot": 0, "weight": -1}]
    config = parse({**GENOME, **told, "tasks": tasks, "holdout": ["b"]})
    first, second = config.tasks
    assert (first.name, first.num_fewshot, first.shuffle, first.apply_chat_template, first.limit) == (
        "hellaswag",
        5,
        True,
        False,
        7,
    )
    assert (second.metric, second.num_fewshot, second.weight, second.limit) == ("acc,none", 0, -1, 7)
    assert (config.holdout[0].num_fewshot, config.holdout[0].limit) == (5, None)
    plain = parse({**GENOME, "tasks": ["hellaswag"]}).tasks[0]
    assert (plain.num_fewshot, plain.shuffle, plain.apply_chat_template, plain.fewshot_as_multiturn) == (
        None,
        False,
        True,
        True,
    )


def test_a_mistake_in_races_is_one_mistake() -> None:
    for racing, says in (
        ({"survivors": 2}, "`survivors` cannot have this value"),
        ({"survivers": 0.3}, "did you mean `survivors`"),
        ("sometimes", "auto, true, false"),
        (3, "auto, true, false"),
    ):
        with pytest.raises(ConfigError, match=says) as caught:
            parse({**MERGE, "search": {"racing": racing}})
        assert "things" not in str(caught.value)
    for racing, kept in ((True, {"blocks": 4, "error_rate": 0.2, "survivors": 0.25}), (False, False), ("auto", "auto")):
        config = parse({**MERGE, "search": {"racing": racing}})
        assert yaml.safe_load(dump_run(config))["search"]["racing"] == kept
        assert parse(yaml.safe_load(dump_run(config))) == config


def test_every_mistake_is_named_at_once_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("merge: {models: [a, b], spcae: auto}\ntasks:\n- {name: a, limit: 0}\nsearch:\n  seed: 0\n")
    with pytest.raises(ConfigError) as caught:
        load_run(path)
    for part in ("3 things", "line 1", "did you mean `space`", "line 3", "line 5"):
        assert part in str(caught.value)


def test_a_budget_smaller_than_its_global_share_is_refused_unless_the_share_is_the_default() -> None:
    with pytest.raises(ConfigError, match="max_fevals 30, global_fevals 40"):
        parse({**MERGE, "search": {"max_fevals": 30, "global_fevals": 40}})
    config = parse({**MERGE, "search": {"max_fevals": 30}})
    assert config.search.global_fevals == 30
    assert parse(yaml.safe_load(dump_run(config))) == config
