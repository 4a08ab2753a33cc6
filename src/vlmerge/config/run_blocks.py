"""The blocks of a run file: what is merged, what may be searched, what is asked, and how."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, PlainValidator, Tag, model_validator

from vlmerge.config.aim_blocks import ConstraintSpec, ObjectiveSpec
from vlmerge.config.fields import Block, DtypeField, Model, Number, Text, Whole, complaint, misfit, not_empty
from vlmerge.config.judge_block import JUDGE, JudgeSpec
from vlmerge.config.method_table import METHODS
from vlmerge.config.model_ref import ModelRef
from vlmerge.config.problems import NOT_YET
from vlmerge.config.recipe import parse_recipe
from vlmerge.config.recipe_blocks import ParametersField, Recipe
from vlmerge.config.recipe_checks import find_method, value_problems
from vlmerge.config.space_blocks import AUTO, SEARCHED, SpaceSpec
from vlmerge.errors import ConfigError
from vlmerge.types import Decoding

FIRST_SIGMA = {"merge": 0.1, "genome": 1 / 6, "front": 0.2, "path": 1.0}
"""First step size of the finest stage: the search study's for `merge:`, mergekit-evolve's for `genome:`; a front's only stage
has that of a first one; genes of `path:` have scales of their own."""


class TaskSpec(Block):
    """Questions to ask.

    Attributes:
        name: A built-in task, a .jsonl or .parquet file, a folder, `hf:org/name`, or a task of lm-eval (`lm-eval:name` where
            the name alone would mean something else).
        path: A copy of a built-in or hub data set on this machine.
        split: Split of the data set.
        limit: Only the first so many questions.
        weight: In the mean over tasks; 0: shown, no part of the score; below 0: less is better, and 1 − score counts.
        label: Heading of its column.
        metric: None: the task's own; of a task of lm-eval also `name,filter`.
        fields: Our field names → the data's.
        kinds: Only questions of these kinds.
        preset: Protocol of this task alone.
        num_fewshot: Of a task of lm-eval: solved examples before each question; None: as the task says.
        apply_chat_template: Of a task of lm-eval: whether the host's chat template is put around its prompts; None: no.
        fewshot_as_multiturn: Of a task of lm-eval: whether examples are turns of the chat; None: yes.
        shuffle: Of a task of lm-eval: whether `limit` takes documents by chance (the same in every run), not the first.
        judge: A chat endpoint that scores its answers; the metric is then `judge`.
    """

    name: Text = Field(min_length=1)
    path: Text | None = None
    split: Text | None = None
    limit: Whole | None = Field(default=None, ge=1)
    weight: Number = 1.0
    label: Text | None = None
    metric: Text | None = None
    fields: dict[Text, Text] = Field(default_factory=dict)
    kinds: tuple[Text, ...] | None = None
    preset: Text | None = None
    num_fewshot: Whole | None = Field(default=None, ge=0)
    apply_chat_template: bool | None = None
    fewshot_as_multiturn: bool | None = None
    shuffle: bool | None = None
    judge: JudgeSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _judged_or_not(self) -> TaskSpec:
        if self.judge is not None and self.metric not in (None, JUDGE):
            remedy = "keep one of the two"
            raise complaint(
                "a task has a judge and another metric", expected=f"`metric: {JUDGE}`", found=self.metric or "", remedy=remedy
            )
        if self.judge is None and self.metric == JUDGE:
            remedy = "add `judge: {endpoint: …, model: …}`"
            raise complaint("the metric `judge` needs to know who judges", expected="a block `judge:`", remedy=remedy)
        return self


class ValidationSpec(Block):
    """What picks the winner: a share of the tasks' images, or tasks of its own (then `fraction` plays no part)."""

    fraction: Number = Field(default=0.25, ge=0, lt=1)
    tasks: tuple[TaskSpec, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _list_of_tasks(cls, value: object) -> object:
        return {"tasks": cast("object", value)} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _one_or_the_other(self) -> ValidationSpec:
        if self.tasks is not None and not self.tasks:
            raise complaint("`validation` lists no task", expected="a list of tasks, or {fraction: 0.25}", remedy="add a task")
        if self.tasks is not None and "fraction" in self.model_fields_set and self.fraction:
            remedy = "keep one of the two"
            raise complaint("`validation` has both tasks and a fraction", expected="either", found="both", remedy=remedy)
        return self


ALGORITHMS = ("auto", "cma-es", "catcma", "random", "nsga-ii")
"""Beside `optuna:SAMPLER`."""
CHOOSING = ("catcma", "random", "optuna")
"""Algorithms that can choose among methods."""
STARTS = ("auto", "host", "equal", "chat_vector", "random")
"""Beside `chat_vector:NAME`, a recipe and a run folder."""


def _algorithm(value: str) -> str:
    if value in ALGORITHMS or (value.startswith("optuna:") and len(value) > len("optuna:")):
        return value
    raise misfit(f"{', '.join(ALGORITHMS)}, or optuna:SAMPLER (e.g. optuna:tpe)", value, "choose one of these")


def _start(value: object) -> object:
    if isinstance(value, Recipe):
        return value
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        raise misfit(f"{', '.join(STARTS)}, a recipe's file, or a run folder", value, "name one of these")
    try:
        return parse_recipe(cast("Mapping[str, Any]", value), "search.start")
    except ConfigError as error:
        detail = {"expected": error.expected or "", "found": error.found or "", "remedy": error.remedy or ""}
        raise complaint(error.what, **detail) from error


class RacingSpec(Block):
    """How a generation is asked in a race (docs/search.md).

    Attributes:
        blocks: Into how many blocks the questions are dealt; fewer where a block would have too few pictures.
        error_rate: Share of the survivors that may be stopped by mistake.
        survivors: Which part of a generation, its best, is to be known for certain. With a quarter races saved 43 % of the
            questions without a loss that five seeds could tell, with a half 27 % (docs/search.md).
    """

    blocks: Whole = Field(default=4, ge=2, le=50)
    error_rate: Number = Field(default=0.2, gt=0, lt=1)
    survivors: Number = Field(default=0.25, gt=0, lt=1)


def _racing(value: object) -> object:
    if value is True:
        return RacingSpec()
    if value is False:
        return None
    if value is None or value == "auto" or isinstance(value, Mapping | RacingSpec):
        return cast("object", value)
    wanted = "auto, true, false, or {blocks: 4, error_rate: 0.2, survivors: 0.25}"
    raise misfit(wanted, value, "write `racing: true` for the defaults")


def _kind_of_racing(value: object) -> str:
    """Which of the three it is meant to be, so that a mistake in a block is told as that alone."""
    return "block" if isinstance(value, Mapping | RacingSpec) else "none" if value is None else "auto"


Racing = Annotated[
    Annotated[RacingSpec, Tag("block")] | Annotated[Literal["auto"], Tag("auto")] | Annotated[None, Tag("none")],
    Discriminator(_kind_of_racing),
]


def _rotate(value: object) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise misfit("a share above 0 and up to 1, or auto", value, "rotate: 0.5")
    return float(value)


def _noise(value: object) -> object:
    if value in ("ignore", "adapt"):
        return value
    raise misfit("adapt or ignore", value, "write `noise: adapt`, or leave it out")


class SearchSpec(Block):
    """How the search goes.

    Attributes:
        algorithm: `auto` is cma-es, and catcma where a method is to be chosen.
        options: Of the algorithm.
        max_fevals: Searched candidates, all stages together.
        global_fevals: How many of them go to one number per model (`merge:` only); 0: none.
        seed: From 1.
        start: Where the first stage of a `merge:` run begins: `auto`, at the best hand-set merge; `host`, as it is; `equal`
            weights; `chat_vector` (`chat_vector:NAME` where there are several), host + model − base; `random`; a recipe's file;
            or a run folder, at its winner. When the run has begun, a recipe stands here itself.
        global_sigma: First step size of the stage of one number per model.
        sigma: First step size of the stage after it; None until the run is read, then 0.1 (`merge:`) or 1/6 (`genome:`). Stages
            after that begin with half of it.
        population: Candidates of a generation; None: CMA-ES' 4 + ⌊3 ln genes⌋, enlarged so that generations fill the budget.
        agreement: A stage is followed by a finer one if, on the validation questions, its mean is better than the mean of
            the stage before in at least this share of the resamples; 0: whatever they say. What other shares let through, and
            what that is worth, stands in docs/search.md.
        simplify: Whether a simpler recipe is looked for that is not worse than the winner on the validation questions.
        margin: How many points of 100 a simpler recipe may lie behind the winner, by the lower end of the paired interval.
        constraints: What a candidate has to keep; those that do not rank behind all that do, and cannot win on validation.
        objectives: Scores that stand side by side: the search is for a front (NSGA-II), in one stage.
        sharing: Whether each question's credit is divided among the candidates of a generation that answer it (fitness sharing
            as in M2N2), so that those are kept that can do what others cannot. Scores stay what they are everywhere else.
        finalists: How many searched candidates, the best on the search questions, stand for election on the validation
            questions, beside means and hand-set merges.
        racing: Whether a candidate that will not be among the best of its generation is asked no further; None: all are
            asked everything; `auto`: where that saves time (`raced.with_races`).
        rotate: Share of the search questions' pictures that a generation is asked, other ones each time; 1: all of them;
            `auto`: as many as its ranks need.
        noise: `adapt`: a generation whose ranks are unreliable is asked further questions before it teaches anything, and
            where all search questions do not tell its candidates apart, the next one is larger; `ignore`: neither.
    """

    not_here: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "sigma0": "called `sigma` here",
            "force_population_size": "called `population` here",
            "timeout": "not offered: which candidates are late differs from run to run. `decoding: max_new_tokens` bounds them",
            "strategy": "not needed: candidates are merged in place, one after the other",
            "in_memory": "always so here",
            "vllm": "not needed: models are merged in place and asked by vlmerge itself",
        }
    )

    algorithm: Annotated[Text, AfterValidator(_algorithm)] = "auto"
    options: dict[Text, Any] = Field(default_factory=dict)
    max_fevals: Whole = Field(default=400, ge=1)
    global_fevals: Whole = Field(default=40, ge=0)
    seed: Whole = Field(default=1, ge=1, lt=2**32)
    start: Annotated[Recipe | Text, PlainValidator(_start)] = "auto"
    global_sigma: Number = Field(default=0.2, gt=0)
    sigma: Number | None = Field(default=None, gt=0)
    population: Whole | None = Field(default=None, ge=2)
    agreement: Number = Field(default=0.9, ge=0, le=1)
    simplify: bool = True
    margin: Number = Field(default=1.0, ge=0, le=100)
    constraints: tuple[ConstraintSpec, ...] = ()
    objectives: tuple[ObjectiveSpec, ...] = ()
    sharing: bool = False
    finalists: Whole = Field(default=5, ge=1)
    racing: Annotated[Racing, BeforeValidator(_racing)] = "auto"
    rotate: Annotated[float | Literal["auto"], PlainValidator(_rotate)] = 1.0
    noise: Annotated[Literal["ignore", "adapt"], BeforeValidator(_noise)] = "ignore"

    @property
    def start_file(self) -> str | None:
        """The file or folder that the start is in, where it is one."""
        if not isinstance(self.start, str) or self.start in STARTS or self.start.startswith("chat_vector:"):
            return None
        return self.start


def _unlike(models: tuple[ModelRef, ...]) -> tuple[ModelRef, ...]:
    twice = [str(model) for index, model in enumerate(models) if model in models[:index]]
    if twice:
        raise misfit("every model once", ", ".join(twice), "take the second one out")
    return models


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _spaces(value: object) -> object:
    if value == "auto":
        return ()
    if value == []:
        raise misfit("auto, a space, or a list of spaces", value, "leave it out for auto")
    return (cast("object", value),) if isinstance(value, Mapping | SpaceSpec) else value


class MergeSpec(Block):
    """vlmerge's own form of what may be searched.

    Attributes:
        models: The models that have numbers of their own (a base that a method subtracts has none).
        base_model: The common ancestor. Methods that need one take it from here; the others only for the baselines.
        vlm: The host; None: the first VLM.
        method: One with numbers to search: a weight for each model, slerp's t (two models, `base_model` one of them), or what
            `space: parameters` names. Several of them: which one is searched, too, and their parameters with it.
        space: What is searched; several spaces, coarse to fine; none: `auto`.
        parameters: Of the method, the same in every candidate (density, lambda, …); what is searched cannot stand here.
        normalize: Whether the weights are divided by their sum.
        protect: Substrings of tensor names that stay the host's, in candidates and baselines alike.
        dtype: As in a recipe.
        out_dtype: As in a recipe.
    """

    models: Annotated[tuple[Model, ...], AfterValidator(not_empty)]
    base_model: Model | None = None
    vlm: Model | None = None
    method: Annotated[tuple[Text, ...], BeforeValidator(_listed)] = ("linear",)
    space: Annotated[tuple[SpaceSpec, ...], BeforeValidator(_spaces)] = ()
    parameters: ParametersField = Field(default_factory=dict)
    normalize: bool = False
    protect: tuple[Text, ...] = ()
    dtype: DtypeField | None = None
    out_dtype: DtypeField | None = None

    @model_validator(mode="after")
    def _fits_the_method(self) -> MergeSpec:
        _unlike(self.models)
        if not self.methods:
            raise complaint("`method` lists no method", expected="at least one", remedy="name one, or leave it out")
        if len(set(self.methods)) < len(self.methods):
            raise complaint("`method` names one twice", expected="each method once", found=", ".join(self.methods))
        for method in self.methods:
            self._fits(method)
        if self.normalize and not any(METHODS[method].normalizes for method in self.methods):
            what = f"{' or '.join(self.methods)} does not normalise"
            raise complaint(what, expected="normalize: false", found="true", remedy="take it out")
        self._fixed_parameters()
        self._searched_parameters()
        return self

    def _fits(self, method: str) -> None:
        _available(method)
        if method == "slerp" and (len(self.models) != 2 or self.base_model not in self.models):
            found = f"{len(self.models)} models, base_model {self.base_model or 'not given'}"
            raise complaint("slerp is between two models, one of them `base_model`", expected="two models", found=found)
        spec = METHODS[method]
        searched = {name for space in self.spaces for name in space.parameters if name in spec.parameters}
        if not spec.weighs and method != "slerp" and not searched:
            numbers = [name for name in searchable(method) if name != "t"]
            if numbers:
                remedy = f"name what is searched: `space: {{parameters: {{{numbers[0]}: {{bounds: […], start: …}}}}}}`"
            else:
                remedy = "merge once with `vlmerge merge`, or take another method"
            weighing = ", ".join(each.name for each in METHODS.values() if each.weighs or each.name == "slerp")
            raise complaint(f"{method} has no weights to search", expected=weighing, found=method, remedy=remedy)
        if spec.subtracts:
            if self.base_model is None and spec.base == "required":
                raise complaint(f"{method} needs a base", expected="a `base_model`", remedy="name the common ancestor")
            searched_models = self.searched_by(method)
            if not searched_models:
                raise complaint("nothing to search: the only model is the base", expected="another model", remedy="add one")
            fewest, most = spec.sources
            if len(searched_models) < fewest or (most is not None and len(searched_models) > most):
                wanted = f"{fewest} models besides the base" if most == fewest else f"at least {fewest} besides the base"
                found = ", ".join(map(str, searched_models))
                raise complaint(f"{method} is not for this many models", expected=wanted, found=found)

    def _fixed_parameters(self) -> None:
        known = {name: spec for method in self.methods for name, spec in METHODS[method].parameters.items()}
        of = " or ".join(self.methods)
        for name, value in self.parameters.items():
            fixed = [key for key in known if key not in ("weight", "t", "normalize")]
            if name not in fixed:
                what = f"`{name}` is no parameter of {of} that a run can fix"
                raise complaint(what, expected=", ".join(fixed) or "none", found=name, remedy="take it out")
            if any(name in space.parameters for space in self.spaces):
                what = f"`{name}` is fixed under `parameters`, and searched under `space: parameters`"
                raise complaint(what, expected="one of the two", found="both", remedy="take one out")
            for problem in value_problems(known[name], value, ("parameters", name)):
                remedy = problem.remedy or ""
                raise complaint(problem.what, expected=problem.expected or "", found=problem.found or "", remedy=remedy)

    def _searched_parameters(self) -> None:
        known = list(dict.fromkeys(name for method in self.methods for name in searchable(method)))
        of = " or ".join(self.methods)
        names: list[str] = []
        for space in self.spaces:
            lost = [name for name in names if name not in space.parameters and name not in ("weight", "t")]
            if lost:
                what = f"a finer space no longer searches `{lost[0]}`"
                raise complaint(what, expected="all that the space before it searches, and more", remedy=f"add {lost[0]} to it")
            names = list(space.parameters)
            for name, spec in space.parameters.items():
                if name not in known:
                    what = f"`{name}` is no parameter of {of} that can be searched"
                    raise complaint(what, expected=", ".join(known), found=name, remedy="take it out")
                how = spec.searched(name)
                if name not in SEARCHED and (spec.bounds is None or how.start is None):
                    what = f"nobody knows within what `{name}` is to be searched"
                    expected = f"`{name}: {{bounds: [low, high], start: …}}`"
                    raise complaint(what, expected=expected, found=name, remedy="give its bounds and start")
                own = next(METHODS[method].parameters[name] for method in self.methods if name in METHODS[method].parameters)
                for number in (how.low, how.high):
                    for problem in [] if number is None else value_problems(own, number, ("space", "parameters", name)):
                        what = f"the bounds of `{name}` hold values that it cannot have"
                        raise complaint(what, expected=problem.expected or "", found=problem.found or "")

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods to choose from; mostly one."""
        return self.method

    @property
    def spaces(self) -> tuple[SpaceSpec, ...]:
        """The spaces, coarse to fine. Of `auto` all that a run may come to."""
        return self.space or AUTO

    @property
    def searched(self) -> tuple[ModelRef, ...]:
        """The models that have a number to be searched, by one method or another."""
        found = [model for method in self.methods for model in self.searched_by(method)]
        return tuple(model for model in self.models if model in found)

    def searched_by(self, method: str) -> tuple[ModelRef, ...]:
        """The models that have a number of their own in a method."""
        subtracts = METHODS[method].subtracts
        return tuple(model for model in self.models if not (subtracts and model == self.base_model))


EVOLVED = ("linear", "slerp", "task_arithmetic", "ties", "dare_ties")
"""Methods that mergekit-evolve has genes for."""


class GenomeSpec(Block):
    """mergekit-evolve's `genome:`, to the letter, and `vlm` and `protect` of ours.

    Attributes:
        models: Every one has genes, a base among them too.
        merge_method: linear, slerp, task_arithmetic, ties, dare_ties.
        base_model: As there: added to every slice where it is not among the models.
        layer_granularity: Layers in a group of genes; 0: one group for all.
        normalize: None: true for linear, ties and dare_ties.
        allow_negative_weights: False: the absolute value counts.
        filters: Substrings of tensor names, each with a set of genes, and one for the rest.
        smooth: Interpolate between the groups.
        vlm: The host; None: the first VLM.
        protect: Substrings of tensor names that stay the host's.
    """

    not_here: ClassVar[Mapping[str, str]] = MappingProxyType({"tokenizer_source": NOT_YET})

    models: Annotated[tuple[Model, ...], AfterValidator(not_empty)]
    merge_method: Text
    base_model: Model | None = None
    layer_granularity: Whole = 0
    normalize: bool | None = None
    allow_negative_weights: bool = False
    filters: tuple[Text, ...] | None = None
    smooth: bool = False
    vlm: Model | None = None
    protect: tuple[Text, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _empty_keys(cls, value: object) -> object:
        if isinstance(value, Mapping):
            mapping = cast("Mapping[Any, Any]", value)
            return {key: each for key, each in mapping.items() if not (key in cls.not_here and each is None)}
        return value

    @model_validator(mode="after")
    def _fits_the_method(self) -> GenomeSpec:
        _unlike(self.models)
        _available(self.merge_method)
        if self.merge_method not in EVOLVED:
            raise complaint(
                f"mergekit-evolve knows no genes for {self.merge_method}",
                expected=", ".join(EVOLVED),
                found=self.merge_method,
                remedy="use vlmerge's own `merge:`",
            )
        if METHODS[self.merge_method].subtracts and self.base_model is None:
            raise complaint(f"{self.merge_method} needs a base", expected="a `base_model`", remedy="name the common ancestor")
        if self.merge_method == "slerp":
            self._fits_slerp()
        elif self.base_model is not None and self.merge_method == "linear" and self.base_model not in self.models:
            remedy = "add the base to `models`, or take `base_model` out"
            what = "linear needs a weight for its base, which has no genes here"
            raise complaint(what, found=str(self.base_model), remedy=remedy)
        return self

    def _fits_slerp(self) -> None:
        for key, value in (("smooth", self.smooth), ("filters", self.filters), ("normalize", self.normalize)):
            if value:
                raise complaint(f"slerp knows no `{key}`", found=f"{key}: {value}", remedy="take it out")
        if len(self.models) < 2:
            raise complaint("slerp is between two models", expected="at least two models", found=str(len(self.models)))
        if self.base_model is not None and self.base_model not in self.models:
            remedy = "add the base to `models`, or take `base_model` out"
            raise complaint("slerp takes two models: a base that is not one of them has no place", remedy=remedy)


def searchable(method: str) -> list[str]:
    """Parameters of a method that are numbers and change the result."""
    return [name for name, spec in METHODS[method].parameters.items() if spec.kind == "number" and not spec.ignored]


def _available(method: str) -> None:
    _, problem = find_method(method, ())
    if problem is not None:
        remedy = problem.remedy or "choose one of these"
        raise complaint(problem.what, expected=problem.expected or "", found=problem.found or "", remedy=remedy)


class DecodingSpec(Block):
    """How answers are generated. None: the preset's, where the run has one; without a preset every field has its default."""

    max_new_tokens: Whole | None = Field(default=None, ge=1)
    num_beams: Whole | None = Field(default=None, ge=1)
    temperature: Number | None = Field(default=None, ge=0)
    top_p: Number | None = Field(default=None, gt=0, le=1)
    repetition_penalty: Number | None = Field(default=None, gt=0)
    seed: Whole | None = Field(default=None, ge=1)

    def over(self, other: Decoding) -> Decoding:
        """`other` with what is set here in its place."""
        return Decoding(**{name: getattr(other, name) if value is None else value for name, value in self})


class RuntimeSpec(Block):
    """Where and how models run; all of it can change answers, so all of it is recorded."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto"] | DtypeField = "auto"
    batch_size: Annotated[Whole, Field(ge=1)] | Literal["auto"] = "auto"
    threads: Annotated[Whole, Field(ge=1)] | None = None


LoggerName = Literal["wandb", "tensorboard", "mlflow"]
LOGGER_KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"wandb": ("project", "entity"), "tensorboard": ("folder",), "mlflow": ("project", "uri")}
)
"""Logger → the keys that it has beside its name."""


class LoggerSpec(Block):
    """Where the run is to be watched besides; it changes nothing of the run.

    Attributes:
        name: `wandb`, `tensorboard` or `mlflow`.
        project: Of W&B, or the experiment of MLflow; None: vlmerge.
        entity: Of W&B: user or team; None: the person's own.
        folder: Of TensorBoard: where event files go; None: `tensorboard/` in the run folder.
        uri: Of MLflow: its tracking server; None: MLFLOW_TRACKING_URI, else `mlruns/` in the run folder.
    """

    name: LoggerName
    project: Text | None = None
    entity: Text | None = None
    folder: Text | None = None
    uri: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _own_keys(self) -> LoggerSpec:
        own = LOGGER_KEYS[self.name]
        for key in ("project", "entity", "folder", "uri"):
            if getattr(self, key) is not None and key not in own:
                raise complaint(f"{self.name} has no `{key}`", expected=", ".join(own), found=key, remedy="take it out")
        if self.uri is not None and "@" in urlsplit(self.uri).netloc:
            remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
            raise complaint("an address in a run file may not hold a name or a password: it is written down", remedy=remedy)
        return self
