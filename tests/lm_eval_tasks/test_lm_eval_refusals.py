"""What a run says of a task of lm-eval before a model is loaded: what it cannot search on, and what was meant instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vlmerge.config.run import parse_run
from vlmerge.errors import TaskError
from vlmerge.tasks.sets import Sets, load_sets

MERGE = {"models": ["org/a", "org/b"]}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a group": ({"name": "small_group"}, r"(?s)is a group of tasks.*small_text, small_options.*\{name: small_text\}"),
    "a name that is nearly one": ({"name": "small_tekst"}, r"(?s)unknown task 'small_tekst'.*write 'small_text'"),
    "a metric of the whole": (
        {"name": "small_options", "metric": "mcc"}, r"(?s)mean over documents.*name one of acc, acc_norm",
    ),
    "a metric that it has not": ({"name": "small_text", "metric": "acc,none"}, r"(?s)a metric of this task.*exact_match"),
    "a filter that it has not": (
        {"name": "small_text", "metric": "exact_match,last"}, r"(?s)a filter among none, first-words.*found: exact_match,last",
    ),
    "less is better": ({"name": "small_pictures", "metric": "missed"}, r"(?s)less of the metric 'missed,none'.*`weight: -1`"),
    "a split": ({"name": "small_text", "split": "dev"}, r"(?s)no split 'dev'.*one of test, train"),
    "a key of other tasks": ({"name": "small_text", "kinds": ["count"]}, "`kinds` means nothing for a task of lm-eval"),
}  # fmt: skip


def sets_of(folder: Path, *tasks: dict[str, Any], **keys: Any) -> Sets:
    data = {"merge": MERGE, "tasks": list(tasks), "validation": {"fraction": 0}, "task_search_path": str(folder), **keys}
    return load_sets(parse_run(data, "run.yaml", folder))


@pytest.mark.parametrize("case", [case for case in REFUSED if case != "a name that is nearly one"])
def test_what_cannot_be_searched_is_told_before_a_model_is_loaded(case: str, tasks_folder: Path) -> None:
    task, words = REFUSED[case]
    with pytest.raises(TaskError, match=words):
        sets_of(tasks_folder, task)


@pytest.mark.slow
def test_a_name_that_is_nearly_one_is_told(tasks_folder: Path) -> None:
    """All that lm-eval has are looked through for it, which takes ten seconds."""
    task, words = REFUSED["a name that is nearly one"]
    with pytest.raises(TaskError, match=words):
        sets_of(tasks_folder, task)


def test_a_weight_below_zero_says_that_less_is_better(tasks_folder: Path) -> None:
    (asked,) = sets_of(tasks_folder, {"name": "small_pictures", "metric": "missed", "weight": -0.5}).search
    assert (asked.weight, asked.task.metric) == (-0.5, "missed,none")


def test_a_limit_takes_the_first_documents_or_the_same_ones_by_chance(tasks_folder: Path) -> None:
    def numbers(**keys: Any) -> list[int]:
        (asked,) = sets_of(tasks_folder, {"name": "small_options", "limit": 4, **keys}).search
        return [int(question.id) for question in asked.questions]

    assert numbers() == [0, 1, 2, 3]
    by_chance = numbers(shuffle=True)
    assert by_chance == sorted(by_chance) == numbers(shuffle=True) != [0, 1, 2, 3]
    assert len(set(by_chance)) == 4


def test_keys_of_a_genome_file_go_to_its_tasks(tasks_folder: Path) -> None:
    """As mergekit-evolve has them: `limit` and the way of asking stand beside `tasks:`."""
    data: dict[str, Any] = {
        "genome": {"models": ["org/a", "org/b"], "merge_method": "linear"},
        "tasks": [{"name": "small_text", "metric": "exact_match,none"}, {"name": "small_options", "weight": 0.5}],
        "limit": 3,
        "num_fewshot": 1,
        "apply_chat_template": False,
        "validation": {"fraction": 0},
        "task_search_path": str(tasks_folder),
    }
    text, options = load_sets(parse_run(data, "config.yml", tasks_folder)).search
    assert [len(asked.questions) for asked in (text, options)] == [3, 3]
    assert text.protocol.endswith("1-shot, no chat template")
    assert (options.weight, options.task.metric) == (0.5, "acc,none")
    data["apply_chat_template"] = None
    (text, _) = load_sets(parse_run(data, "config.yml", tasks_folder)).search
    assert text.protocol.endswith("1-shot, chat template"), "mergekit-evolve's default"


def test_pictures_on_both_sides_are_found_in_tasks_of_lm_eval(tasks_folder: Path) -> None:
    task = {"name": "small_pictures", "metric": "overlap"}
    with pytest.raises(TaskError, match=r"(?s)picture|both"):
        sets_of(tasks_folder, {**task, "limit": 4}, holdout=[{**task, "label": "again"}])
    apart = sets_of(tasks_folder, task, validation={"fraction": 0.5})
    searched, chosen = ({q.group for a in part for q in a.questions} for part in (apart.search, apart.validation))
    assert searched
    assert chosen
    assert not searched & chosen
