"""Run files: one evolution, from YAML to a validated value and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import Field, ValidationError, model_validator

from vlmerge.config.fields import Block, Text, complaint, problems_of
from vlmerge.config.model_ref import ModelRef, local_path
from vlmerge.config.problems import LineOf, Problem, no_lines, refuse
from vlmerge.config.run_blocks import (
    FIRST_SIGMA,
    DecodingSpec,
    GenomeSpec,
    MergeSpec,
    RuntimeSpec,
    SearchSpec,
    SpaceSpec,
    TaskSpec,
    ValidationSpec,
)
from vlmerge.config.yaml_file import read_yaml
from vlmerge.types import Decoding

__all__ = [
    "DecodingSpec",
    "GenomeSpec",
    "MergeSpec",
    "RunConfig",
    "RuntimeSpec",
    "SearchSpec",
    "SpaceSpec",
    "TaskSpec",
    "ValidationSpec",
    "diff_runs",
    "dump_run",
    "load_run",
    "parse_run",
]

NO_FEWSHOT: Mapping[str, tuple[object, ...]] = {
    "num_fewshot": (None, 0),
    "shuffle": (None, False),
    "apply_chat_template": (None, True),
    # How examples would be laid out says nothing where there are none.
    "fewshot_as_multiturn": (None, True, False),
}
"""mergekit-evolve's keys about lm-eval → the values that ask for what vlmerge does anyway."""


class RunConfig(Block):
    """One evolution.

    Attributes:
        merge: What may be searched, in our form; or
        genome: in mergekit-evolve's. Exactly one of the two.
        tasks: What the search is scored on.
        validation: What picks the winner.
        holdout: What is reported; empty: no claim.
        search: How the search goes.
        preset: Protocol of a published experiment (decoding, metric, template, …).
        decoding: How answers are generated, over the preset's.
        runtime: Where and how models run.
        random_init: Start at random genes instead of equal weights (`genome:` only).
        allow_contaminated_holdout: Go on where a holdout image was searched, and mark every number CONTAMINATED.
    """

    merge: MergeSpec | None = None
    genome: GenomeSpec | None = None
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    validation: ValidationSpec = ValidationSpec()
    holdout: tuple[TaskSpec, ...] = ()
    search: SearchSpec = SearchSpec()
    preset: Text | None = None
    decoding: DecodingSpec = DecodingSpec()
    runtime: RuntimeSpec = RuntimeSpec()
    random_init: bool = False
    allow_contaminated_holdout: bool = False

    @model_validator(mode="after")
    def _whole(self) -> RunConfig:
        if (self.merge is None) == (self.genome is None):
            found = "neither" if self.merge is None else "both"
            raise complaint(
                "a run has either `merge` or `genome`", expected="exactly one of them", found=found, remedy="keep one"
            )
        if self.merge is not None and self.random_init:
            raise complaint("`random_init` belongs to `genome:` runs", found="random_init: true", remedy="take it out")
        if not any(task.weight for task in self.tasks):
            raise complaint("every task has weight 0", expected="a task that counts", remedy="give one a weight above 0")
        if self.search.population and self.search.population > self.search.max_fevals:
            found = f"population {self.search.population}, max_fevals {self.search.max_fevals}"
            raise complaint("the budget holds not even one generation", found=found, remedy="a larger `max_fevals`")
        # Written out, so that a dumped run says everything.
        sigma = self.search.sigma or FIRST_SIGMA["genome" if self.merge is None else "merge"]
        global_fevals = 0 if self.merge is None else self.search.global_fevals
        search = self.search.model_copy(update={"sigma": sigma, "global_fevals": global_fevals})
        decoding = self.decoding
        if self.preset is None and not any(
            task.preset for task in (*self.tasks, *(self.validation.tasks or ()), *self.holdout)
        ):
            decoding = DecodingSpec(**asdict(decoding.over(Decoding())))
        return self.model_copy(update={"search": search, "decoding": decoding})

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model of the run, in listed order; then base and host, where they are not listed."""
        block = self.merge or self.genome
        assert block is not None
        heads = [ref for ref in (block.base_model, block.vlm) if ref is not None]
        return tuple(dict.fromkeys([*block.models, *heads]))

    @property
    def base_model(self) -> ModelRef | None:
        """The common ancestor, where one is named."""
        block = self.merge or self.genome
        return block and block.base_model

    @property
    def vlm(self) -> ModelRef | None:
        """The host, where one is named."""
        block = self.merge or self.genome
        return block and block.vlm

    @property
    def protect(self) -> tuple[str, ...]:
        """Substrings of tensor names that stay the host's."""
        block = self.merge or self.genome
        return block.protect if block else ()


def parse_run(data: Mapping[str, Any], where: str, folder: Path, line_of: LineOf = no_lines) -> RunConfig:
    """Validates a run. Local paths are relative to `folder` and come out absolute.

    Raises:
        ConfigError: Naming every mistake at once.
    """
    given, problems = _without_lm_eval(data)
    try:
        config = RunConfig.model_validate(given)
    except ValidationError as error:
        problems += problems_of(error, RunConfig, given)
        refuse(problems, where, line_of)
        raise
    refuse(problems, where, line_of)
    return _located(config, folder)


def load_run(path: Path) -> RunConfig:
    """Reads a run file; see `parse_run`."""
    file = read_yaml(path)
    return parse_run(file.data, str(path), path.absolute().parent, file.line_of)


def dump_run(config: RunConfig) -> str:
    """The run as YAML with every default written out; reads back as the same run."""
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True, width=120)


def diff_runs(ours: RunConfig, theirs: RunConfig) -> list[str]:
    """What differs: `search.seed: 1 → 2`, one line each, in the file's order."""
    before, after = dict(_leaves(_plain(ours))), dict(_leaves(_plain(theirs)))
    return [
        f"{key}: {_word(before, key)} → {_word(after, key)}"
        for key in dict.fromkeys([*before, *after])
        if key not in before or key not in after or before[key] != after[key]
    ]


def _without_lm_eval(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Takes mergekit-evolve's top-level keys out: `limit` goes to the tasks, the rest must ask for what is done anyway."""
    given = dict(data)
    problems: list[Problem] = []
    if "genome" not in given:
        return given, problems
    for key, harmless in NO_FEWSHOT.items():
        value = given.pop(key, None)
        if not any(value is each or (isinstance(value, int) and value == each) for each in harmless):
            expected = f"{key}: {yaml.safe_dump(harmless[-1]).splitlines()[0]}"
            problems.append(
                Problem(f"this value of `{key}` is valid in mergekit, not supported yet", (key,), expected, str(value))
            )
    limit, tasks = given.pop("limit", None), given.get("tasks")
    if limit is None:
        return given, problems
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        problems.append(Problem("`limit` cannot have this value", ("limit",), "a whole number from 1", repr(limit), "mend it"))
    elif isinstance(tasks, list):
        given["tasks"] = [_limited(task, limit) for task in cast("list[object]", tasks)]
    return given, problems


def _limited(task: object, limit: int) -> object:
    if isinstance(task, str):
        return {"name": task, "limit": limit}
    return {"limit": limit, **cast("Mapping[str, Any]", task)} if isinstance(task, Mapping) else task


def _located(config: RunConfig, folder: Path) -> RunConfig:
    def model(ref: ModelRef | None) -> ModelRef | None:
        return ref and ref.relative_to(folder)

    def task(spec: TaskSpec) -> TaskSpec:
        name = spec.name if spec.name.startswith("hf:") else str(local_path(spec.name, folder) or spec.name)
        path = spec.path and str(local_path(spec.path, folder) or Path(folder, spec.path))
        return spec.model_copy(update={"name": name, "path": path})

    def block[B: (MergeSpec, GenomeSpec)](part: B | None) -> B | None:
        if part is None:
            return None
        models = tuple(ref.relative_to(folder) for ref in part.models)
        return part.model_copy(update={"models": models, "base_model": model(part.base_model), "vlm": model(part.vlm)})

    tasks = config.validation.tasks
    validation = config.validation.model_copy(update={"tasks": tasks and tuple(task(spec) for spec in tasks)})
    return config.model_copy(
        update={
            "merge": block(config.merge),
            "genome": block(config.genome),
            "tasks": tuple(task(spec) for spec in config.tasks),
            "holdout": tuple(task(spec) for spec in config.holdout),
            "validation": validation,
        }
    )


def _plain(value: object) -> Any:
    if isinstance(value, ModelRef):
        return value.plain()
    if isinstance(value, Block):
        absent = [key for key in ("merge", "genome") if getattr(value, key, 0) is None]
        return {key: _plain(each) for key, each in value if key not in absent}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in cast("dict[str, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in cast("tuple[object, ...]", value)]
    return value


def _leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for name, each in cast("dict[str, object]", value).items():
            yield from _leaves(each, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in cast("list[object]", value)):
        for index, each in enumerate(cast("list[object]", value)):
            yield from _leaves(each, f"{key}[{index}]")
    else:
        yield key, value


def _word(leaves: Mapping[str, object], key: str) -> str:
    if key not in leaves:
        return "(not there)"
    return yaml.safe_dump(leaves[key], default_flow_style=True, allow_unicode=True, width=10_000).splitlines()[0]
