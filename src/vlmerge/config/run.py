"""Run files: one evolution, from YAML to a validated value and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, cast

import yaml
from pydantic import AfterValidator, BeforeValidator, ValidationError, model_validator

from vlmerge.config.fields import Block, Text, complaint, misfit, not_empty, problems_of
from vlmerge.config.judge_block import as_complaint, budgets_of
from vlmerge.config.lm_eval_keys import with_lm_eval_keys
from vlmerge.config.model_ref import ModelRef, local_path
from vlmerge.config.path_blocks import WINNER, PathSpec
from vlmerge.config.plain_yaml import dump_plain
from vlmerge.config.problems import LineOf, no_lines, refuse
from vlmerge.config.recipe import plain_recipe
from vlmerge.config.recipe_blocks import Recipe
from vlmerge.config.run_blocks import (
    CHOOSING,
    FIRST_SIGMA,
    DecodingSpec,
    GenomeSpec,
    LoggerSpec,
    MergeSpec,
    RacingSpec,
    RuntimeSpec,
    SearchSpec,
    TaskSpec,
    ValidationSpec,
)
from vlmerge.config.space_blocks import SpaceSpec
from vlmerge.config.yaml_file import read_yaml
from vlmerge.errors import EndpointError
from vlmerge.types import Decoding

__all__ = [
    "DecodingSpec",
    "GenomeSpec",
    "LoggerSpec",
    "MergeSpec",
    "PathSpec",
    "RacingSpec",
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
    "parse_tasks",
]

ABSENT = object()


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _loggers_once(loggers: tuple[LoggerSpec, ...]) -> tuple[LoggerSpec, ...]:
    names = [logger.name for logger in loggers]
    if len(set(names)) < len(names):
        raise misfit("every logger once", ", ".join(names), "take the second one out")
    return loggers


class RunConfig(Block):
    """One evolution.

    Attributes:
        merge: What may be searched, in our form; or
        genome: in mergekit-evolve's; or
        path: a path through the layers of several models. One of the three; or `merge` and `path`: first the one, then the
            other, with what the first has found as the model `winner` (`hybrid.py` makes two runs of it).
        tasks: What the search is scored on.
        validation: What picks the winner.
        holdout: What is reported; empty: no claim.
        search: How the search goes.
        preset: Protocol of a published experiment (decoding, metric, template, …).
        decoding: How answers are generated, over the preset's.
        runtime: Where and how models run.
        task_search_path: Folders with tasks of lm-eval beside those that come with it. Python code in them is run.
        loggers: Where the run can be watched besides; no part of what the run is.
        random_init: Start at random genes instead of equal weights (`genome:` only).
        allow_contaminated_holdout: Go on where a holdout image was searched, and mark every number CONTAMINATED.
    """

    merge: MergeSpec | None = None
    genome: GenomeSpec | None = None
    path: PathSpec | None = None
    tasks: Annotated[tuple[TaskSpec, ...], AfterValidator(not_empty)]
    validation: ValidationSpec = ValidationSpec()
    holdout: tuple[TaskSpec, ...] = ()
    search: SearchSpec = SearchSpec()
    preset: Text | None = None
    decoding: DecodingSpec = DecodingSpec()
    runtime: RuntimeSpec = RuntimeSpec()
    task_search_path: Annotated[tuple[Text, ...], BeforeValidator(_listed)] = ()
    loggers: Annotated[tuple[LoggerSpec, ...], BeforeValidator(_listed), AfterValidator(_loggers_once)] = ()
    random_init: bool = False
    allow_contaminated_holdout: bool = False

    @model_validator(mode="after")
    def _whole(self) -> RunConfig:
        blocks = [name for name in ("merge", "genome", "path") if getattr(self, name) is not None]
        if len(blocks) != 1 and blocks != ["merge", "path"]:
            raise complaint(
                "a run has either `merge`, `genome` or `path`",
                expected="one of them, or `merge` and `path`",
                found=" and ".join(blocks) or "none of them",
                remedy="keep one",
            )
        if self.path is not None:
            self._path_fits(self.path)
        if self.genome is None and self.random_init:
            raise complaint("`random_init` belongs to `genome:` runs", found="random_init: true", remedy="take it out")
        for name, tasks in (("tasks", self.tasks), ("validation", self.validation.tasks), ("holdout", self.holdout)):
            if tasks and not any(task.weight for task in tasks):
                remedy = "give one a weight that is not 0"
                raise complaint(f"every task of `{name}` has weight 0", expected="a task that counts", remedy=remedy)
        self._judges_have_budgets()
        self._objectives_fit()
        self._starts_where_a_constraint_says()
        if self.merge is not None and not self.search.objectives and self.search.max_fevals < self.search.global_fevals:
            found = f"max_fevals {self.search.max_fevals}, global_fevals {self.search.global_fevals}"
            if "global_fevals" in self.search.model_fields_set:
                raise complaint(
                    "the budget is smaller than the share of it that goes to one number per model",
                    expected="`search.global_fevals` of at most `search.max_fevals`",
                    found=found,
                    remedy="a larger `max_fevals`, or a smaller `global_fevals`",
                )
        self._algorithm_fits()
        if self.search.population and self.search.population > self.search.max_fevals:
            found = f"population {self.search.population}, max_fevals {self.search.max_fevals}"
            raise complaint("the budget holds not even one generation", found=found, remedy="a larger `max_fevals`")
        return self

    def _path_fits(self, path: PathSpec) -> None:
        if path.after_merge != (self.merge is not None):
            what = "`path` has `winner`, and nothing is merged before" if self.merge is None else "`path` leaves out `winner`"
            expected = "`winner` among the models of `path` where there is a `merge:` block, and only there"
            raise complaint(what, expected=expected, found=", ".join(map(str, path.models)))
        if self.merge is None and path.max_fevals is not None:
            remedy = "write `search: {max_fevals: …}`"
            raise complaint("`path.max_fevals` is for runs that merge before", found=str(path.max_fevals), remedy=remedy)

    def searching(self, folders: Iterable[str]) -> RunConfig:
        """The run with these folders of lm-eval's tasks beside its own."""
        return self.model_copy(update={"task_search_path": tuple(dict.fromkeys((*self.task_search_path, *folders)))})

    def _judges_have_budgets(self) -> None:
        try:
            budgets = budgets_of(task.judge for task in self.every_task if task.judge is not None)
        except EndpointError as error:
            raise as_complaint(error) from error
        for place, task in enumerate(self.tasks):
            if task.judge is not None and budgets[task.judge.who] is None:
                raise complaint(
                    f"tasks[{place}] asks a judge in the search, and nothing says how often",
                    expected="`judge: {…, budget: N}`, N verdicts in the whole run",
                    remedy="add a budget (`vlmerge check` estimates what the run would ask), or judge in `holdout:` alone",
                )

    def _algorithm_fits(self) -> None:
        name, chooses = self.search.algorithm, self.merge is not None and len(self.merge.methods) > 1
        if chooses and name not in ("auto", "nsga-ii") and name.partition(":")[0] not in CHOOSING:
            raise complaint(
                f"{name} searches numbers alone, and here a method is to be chosen, too",
                expected="auto, catcma, random, or optuna:SAMPLER",
                found=f"algorithm: {name}, method: [{', '.join(self.merge.methods) if self.merge else ''}]",
                remedy="take `algorithm` out, or name one method",
            )
        self._one_score_where_asked_in_parts(name)
        if name == "nsga-ii" and not self.search.objectives:
            raise complaint(
                "nsga-ii searches for a front between several objectives, and this run has one score",
                expected="`objectives: [TASK, TASK]`, or another algorithm: auto, cma-es, catcma, random, optuna:SAMPLER",
                found=name,
                remedy="name the objectives, or take `algorithm` out",
            )
        if self.merge is None and self.search.start != "auto":
            remedy = "take it out; `random_init: true` starts at random genes" if self.genome is not None else "take it out"
            raise complaint("`search.start` belongs to `merge:` runs", expected="auto", found="a start", remedy=remedy)

    def _objectives_fit(self) -> None:
        search = self.search
        if not search.objectives:
            return
        if self.hybrid:
            raise complaint(
                "`objectives` have a front, and a path is searched through one winner",
                expected="one score where `path` follows `merge`",
                found="`objectives` with `merge` and `path`",
                remedy="take `objectives` out (tasks' weights make one score, and `constraints` hold in both parts), or `path`",
            )
        names = [objective.name for objective in search.objectives]
        if len(names) < 2 or len(set(names)) < len(names):
            raise complaint(
                "a front is between different objectives",
                expected="two or more, each with a name of its own",
                found=", ".join(names),
                remedy="name another task, give objectives a `label`, or take `objectives` out: tasks' weights make one score",
            )
        if search.algorithm not in ("auto", "nsga-ii"):
            raise complaint(
                f"{search.algorithm} searches for one score, and this run has {len(names)} objectives",
                expected="algorithm: nsga-ii (or none)",
                found=f"algorithm: {search.algorithm}",
                remedy="take `algorithm` out, or `objectives`: tasks' weights make one score",
            )
        if search.sharing:
            raise complaint(
                "`sharing` divides the credit of one score, and a front has several",
                expected="`sharing: true` or `objectives`",
                found="both",
                remedy="keep one of the two: a front is diverse already",
            )
        if self.merge is not None and len(self.merge.space) > 1:
            raise complaint(
                "a front is searched in one stage: there is no one distribution that a finer stage could begin at",
                expected="one space",
                found=f"{len(self.merge.space)} spaces",
                remedy="keep the one that is to be searched",
            )
        if "global_fevals" in search.model_fields_set and search.global_fevals not in (0, search.max_fevals):
            raise complaint(
                "a front is searched in one stage, and `global_fevals` asks for two",
                expected=f"0 (the space asked for), or {search.max_fevals} (one number per model alone)",
                found=f"global_fevals: {search.global_fevals}",
                remedy="take it out",
            )

    def _starts_where_a_constraint_says(self) -> None:
        search = self.search
        begins = isinstance(search.start, Recipe) or search.start_file is not None
        of_start = any(each.of == "start" for each in search.constraints)
        if of_start and self.hybrid:
            raise complaint(
                "a constraint is a share of the start's score, and the paths begin at no recipe",
                expected="`of: host` where `path` follows `merge`: constraints hold in both parts",
                found="of: start",
                remedy="write `of: host`, or take `path` out",
            )
        if of_start and not begins:
            raise complaint(
                "a constraint is a share of the start's score, and the search begins at no recipe",
                expected="`search.start`: a recipe's file, or a run folder",
                found=f"start: {search.start}",
                remedy="name one, or write `of: host`",
            )

    def _one_score_where_asked_in_parts(self, algorithm: str) -> None:
        adapts = self.search.noise == "adapt"
        asked = {"racing": isinstance(self.search.racing, RacingSpec), "rotate": self.search.rotate != 1, "noise": adapts}
        if adapts and asked["racing"]:
            raise complaint(
                "`racing` asks some candidates of a generation less, and `noise: adapt` all of them more",
                expected="one of the two",
                found="`racing` with `noise: adapt`",
                remedy="take one out; `rotate: auto` goes together with races",
            )
        part = next((key for key, wanted in asked.items() if wanted), None)
        if part is None:
            return
        aims = {
            "objectives": bool(self.search.objectives) or algorithm == "nsga-ii",
            "constraints": bool(self.search.constraints),
            "sharing": self.search.sharing,
        }
        aim = next((key for key, wanted in aims.items() if wanted), None)
        if aim is not None:
            raise complaint(
                f"`{part}` compares candidates by one score, and `{aim}` by more than that",
                expected="one of the two",
                found=f"`{part}` with `{aim}`",
                remedy=f"take `{part}` out",
            )

    def with_layers(self, layers: Mapping[ModelRef, int]) -> RunConfig:
        """The run, of one over paths with the number of layers of each model said.

        Args:
            layers: Decoder layers of every model.
        """
        if self.path is None or self.hybrid:
            return self
        said = {"layers": tuple(layers[ref] for ref in self.path.models)}
        return self.model_copy(update={"path": self.path.model_copy(update=said)})

    @property
    def may_race(self) -> bool:
        """Whether candidates may be asked less than all search questions, in races.

        `auto` may for CMA-ES with one score: measured over merges of weights (docs/search.md), and paths are searched alike.
        """
        search = self.search
        if search.racing != "auto":
            return search.racing is not None
        several = search.constraints or search.objectives or search.sharing
        alone = not several and search.rotate == 1 and search.noise == "ignore"
        return alone and self.genome is None and self.algorithm == "cma-es"

    @property
    def algorithm(self) -> str:
        """Who searches; never `auto`."""
        if self.search.algorithm != "auto":
            return self.search.algorithm
        if self.search.objectives:
            return "nsga-ii"
        return "catcma" if self.merge is not None and len(self.merge.methods) > 1 else "cma-es"

    def completed(self) -> RunConfig:
        """The same run with the defaults that depend on other keys filled in, so that a dump says everything."""
        coarse = min(self.search.global_fevals, self.search.max_fevals)
        if self.search.objectives and coarse < self.search.max_fevals:
            coarse = 0
        search = {"algorithm": self.algorithm, "sigma": self.sigma, "global_fevals": coarse if self.merge else 0}
        validation = {"fraction": 0.0 if self.validation.tasks else self.validation.fraction}
        every = self.every_task
        named = self.preset is not None or any(task.preset for task in every)
        decoding = self.decoding if named else DecodingSpec(**asdict(self.decoding.over(Decoding())))
        return self.model_copy(
            update={
                "search": self.search.model_copy(update=search),
                "validation": self.validation.model_copy(update=validation),
                "decoding": decoding,
            }
        )

    @property
    def sigma(self) -> float:
        """First step size of the last stage."""
        first = "merge" if self.merge else "genome" if self.genome else "path"
        return self.search.sigma or FIRST_SIGMA["front" if self.merge and self.search.objectives else first]

    @property
    def searched(self) -> MergeSpec | GenomeSpec | PathSpec:
        """The block that says what is searched, of a run with two of them the first."""
        block = self.merge or self.genome or self.path
        assert block is not None
        return block

    @property
    def every_task(self) -> tuple[TaskSpec, ...]:
        """The tasks of all sets, in the file's order."""
        return (*self.tasks, *(self.validation.tasks or ()), *self.holdout)

    @property
    def hybrid(self) -> bool:
        """Whether it is two runs, one after the other."""
        return self.merge is not None and self.path is not None

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model of the run, in listed order; then base and host, where they are not listed."""
        block = self.searched
        heads = [ref for ref in (block.base_model, block.vlm) if ref is not None]
        beside = block.beside if isinstance(block, PathSpec) else ()
        return tuple(dict.fromkeys([*block.models, *heads, *beside]))

    @property
    def base_model(self) -> ModelRef | None:
        """The common ancestor, where one is named."""
        return self.searched.base_model

    @property
    def vlm(self) -> ModelRef | None:
        """The host, where one is named."""
        return self.searched.vlm

    @property
    def protect(self) -> tuple[str, ...]:
        """Substrings of tensor names that stay the host's."""
        return self.searched.protect


def parse_run(data: Mapping[str, Any], where: str, folder: Path, line_of: LineOf = no_lines) -> RunConfig:
    """Validates a run. Local paths are relative to `folder` and come out absolute.

    Raises:
        ConfigError: Naming every mistake at once.
    """
    given, problems = with_lm_eval_keys(data)
    try:
        config = RunConfig.model_validate(given)
    except ValidationError as error:
        problems += problems_of(error, RunConfig, given)
        refuse(problems, where, line_of)
        raise
    refuse(problems, where, line_of)
    return _located(config.completed(), folder)


def parse_tasks(specs: Sequence[Mapping[str, Any]], where: str) -> tuple[TaskSpec, ...]:
    """Validates tasks outside a run file. Local paths are relative to the working directory.

    Args:
        specs: Tasks as in a run file.
        where: The verb that they are for, for messages.

    Raises:
        ConfigError: Naming every mistake of the first task that has one.
    """
    tasks: list[TaskSpec] = []
    for spec in specs:
        given = {key: value for key, value in spec.items() if value is not None}
        try:
            tasks.append(TaskSpec.model_validate(given))
        except ValidationError as error:
            refuse(problems_of(error, TaskSpec, given), f"{where}, task {given.get('name')!r}", no_lines)
            raise
    return tuple(tasks)


def load_run(path: Path) -> RunConfig:
    """Reads a run file; see `parse_run`."""
    file = read_yaml(path)
    return parse_run(file.data, str(path), path.absolute().parent, file.line_of)


def dump_run(config: RunConfig) -> str:
    """The run as YAML with every default written out; reads back as the same run."""
    return dump_plain(_plain(config))


def diff_runs(ours: RunConfig, theirs: RunConfig) -> list[str]:
    """What differs: `search.seed: 1 → 2`, one line each, in the file's order."""
    return list(_differences("", _plain(ours), _plain(theirs)))


def _located(config: RunConfig, folder: Path) -> RunConfig:
    def model(ref: ModelRef | None) -> ModelRef | None:
        return ref and ref.relative_to(folder)

    def task(spec: TaskSpec) -> TaskSpec:
        name = spec.name if spec.name.startswith(("hf:", "lm-eval:")) else str(local_path(spec.name, folder) or spec.name)
        path = spec.path and str(local_path(spec.path, folder) or Path(folder, spec.path))
        return spec.model_copy(update={"name": name, "path": path})

    def logger(spec: LoggerSpec) -> LoggerSpec:
        place = spec.folder and str(local_path(spec.folder, folder) or Path(folder, spec.folder))
        return spec.model_copy(update={"folder": place})

    def block(part: MergeSpec | GenomeSpec | None) -> MergeSpec | GenomeSpec | None:
        if part is None:
            return None
        models = tuple(ref.relative_to(folder) for ref in part.models)
        return part.model_copy(update={"models": models, "base_model": model(part.base_model), "vlm": model(part.vlm)})

    def path(spec: PathSpec | None) -> PathSpec | None:
        if spec is None:
            return None

        def layered(ref: ModelRef) -> ModelRef:
            return ref if ref == WINNER and config.hybrid else ref.relative_to(folder)

        located = {"models": tuple(map(layered, spec.models)), "beside": tuple(ref.relative_to(folder) for ref in spec.beside)}
        return spec.model_copy(update={**located, "vlm": spec.vlm and layered(spec.vlm)})

    tasks = config.validation.tasks
    validation = config.validation.model_copy(update={"tasks": tasks and tuple(task(spec) for spec in tasks)})
    return config.model_copy(
        update={
            "merge": block(config.merge),
            "genome": block(config.genome),
            "path": path(config.path),
            "search": _with_start(config.search, folder),
            "tasks": tuple(task(spec) for spec in config.tasks),
            "holdout": tuple(task(spec) for spec in config.holdout),
            "validation": validation,
            "loggers": tuple(logger(spec) for spec in config.loggers),
            "task_search_path": tuple(str(local_path(each, folder) or Path(folder, each)) for each in config.task_search_path),
        }
    )


def _with_start(search: SearchSpec, folder: Path) -> SearchSpec:
    named = search.start_file
    if named is not None:
        return search.model_copy(update={"start": str(local_path(named, folder) or Path(folder, named))})
    if isinstance(search.start, Recipe):
        return search.model_copy(update={"start": search.start.rewritten(ref=lambda ref: ref.relative_to(folder))})
    return search


def _plain(value: object) -> Any:
    if isinstance(value, ModelRef):
        return value.plain()
    if isinstance(value, Recipe):
        return plain_recipe(value)
    if isinstance(value, Block):
        absent = [key for key in ("merge", "genome", "path") if isinstance(value, RunConfig) and getattr(value, key) is None]
        plain = {key: _plain(each) for key, each in value if key not in absent}
        if isinstance(value, SearchSpec) and value.racing is None:
            plain["racing"] = False
        if isinstance(value, PathSpec) and value.scale is None:
            plain["scale"] = False
        return plain | _short(value) if isinstance(value, MergeSpec) else plain
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in cast("dict[str, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in cast("tuple[object, ...]", value)]
    return value


def _short(merge: MergeSpec) -> dict[str, Any]:
    """One method and one space as files have them: without a list."""
    space = [_plain(space) for space in merge.space]
    method = list(merge.method)
    spaces = "auto" if not space else space[0] if len(space) == 1 else space
    return {"method": method[0] if len(method) == 1 else method, "space": spaces}


def _differences(key: str, ours: Any, theirs: Any) -> Iterator[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        before, after = cast("dict[str, object]", ours), cast("dict[str, object]", theirs)
        for name in dict.fromkeys([*before, *after]):
            yield from _differences(f"{key}.{name}" if key else name, before.get(name, ABSENT), after.get(name, ABSENT))
    elif _is_list_of_blocks(ours) and _is_list_of_blocks(theirs):
        pairs = zip_longest(cast("list[object]", ours), cast("list[object]", theirs), fillvalue=ABSENT)
        for index, (before, after) in enumerate(pairs):
            yield from _differences(f"{key}[{index}]", before, after)
    elif ours != theirs:
        yield f"{key}: {_word(ours)} → {_word(theirs)}"


def _is_list_of_blocks(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, dict) for each in cast("list[object]", value))


def _word(value: Any) -> str:
    if value is ABSENT:
        return "(not there)"
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).splitlines()[0]
