"""The blocks of a run file: what is merged, what may be searched, what is asked, and how."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import AfterValidator, Field, model_validator

from vlmerge.config.fields import Block, DtypeField, Model, Number, Text, Whole, complaint, misfit, not_empty
from vlmerge.config.judge_block import JUDGE, JudgeSpec
from vlmerge.config.method_table import METHODS
from vlmerge.config.model_ref import ModelRef
from vlmerge.config.problems import NOT_YET
from vlmerge.config.recipe_blocks import ParametersField
from vlmerge.config.recipe_checks import find_method, value_problems
from vlmerge.types import Decoding

FIRST_SIGMA = {"merge": 0.1, "genome": 1 / 6}
"""First step size of the finest stage: the search study's for `merge:`, mergekit-evolve's for `genome:`."""


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


class SearchSpec(Block):
    """How the search goes.

    Attributes:
        algorithm: Only CMA-ES so far.
        max_fevals: Searched candidates, all stages together.
        global_fevals: How many of them go to one number per model (`merge:` only); 0: none.
        seed: From 1.
        global_sigma: First step size of that stage.
        sigma: First step size of the last stage; None until the run is read, then 0.1 (`merge:`) or 1/6 (`genome:`).
        population: Candidates of a generation; None: CMA-ES' 4 + ⌊3 ln genes⌋, enlarged so that generations fill the budget.
    """

    algorithm: Literal["cma-es"] = "cma-es"
    max_fevals: Whole = Field(default=400, ge=1)
    global_fevals: Whole = Field(default=40, ge=0)
    seed: Whole = Field(default=1, ge=1, lt=2**32)
    global_sigma: Number = Field(default=0.2, gt=0)
    sigma: Number | None = Field(default=None, gt=0)
    population: Whole | None = Field(default=None, ge=2)


class SpaceSpec(Block):
    """Which numbers are searched (`space: auto` is this with its defaults): one per model for each group of tensors.

    Attributes:
        groups: Runs of layers, as equal as can be; or `layer`, each layer its own.
        separate: What has numbers of its own: `embed`, the embeddings (else they go with the first layers), and `head`, the
            final norm and lm_head (else with the last layers).
        modules: Of every run of layers, what has numbers of its own: `attention`, `mlp`, `norms`. What is not named shares the
            run's. With all three, what a family's layers hold besides goes with the norms.
    """

    groups: Annotated[Whole, Field(ge=1)] | Literal["layer"] = 2
    separate: tuple[Literal["embed", "head"], ...] = ("embed", "head")
    modules: tuple[Literal["attention", "mlp", "norms"], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _auto(cls, value: object) -> object:
        return {} if value == "auto" else value

    @model_validator(mode="after")
    def _each_once(self) -> SpaceSpec:
        if len(set(self.separate)) < len(self.separate):
            found = ", ".join(self.separate)
            raise complaint("`separate` names something twice", expected="embed and head, each once", found=found)
        if len(set(self.modules)) < len(self.modules):
            found = ", ".join(self.modules)
            raise complaint("`modules` names something twice", expected="attention, mlp, norms, each once", found=found)
        return self


def _unlike(models: tuple[ModelRef, ...]) -> tuple[ModelRef, ...]:
    twice = [str(model) for index, model in enumerate(models) if model in models[:index]]
    if twice:
        raise misfit("every model once", ", ".join(twice), "take the second one out")
    return models


class MergeSpec(Block):
    """vlmerge's own form of what may be searched.

    Attributes:
        models: The models that have numbers of their own (a base that a method subtracts has none).
        base_model: The common ancestor. Methods that need one take it from here; the others only for the baselines.
        vlm: The host; None: the first VLM.
        method: One that gives each model a weight, or slerp (two models, `base_model` one of them).
        space: What is searched.
        parameters: Of the method, the same in every candidate (density, lambda, …); what is searched cannot stand here.
        normalize: Whether the weights are divided by their sum.
        protect: Substrings of tensor names that stay the host's, in candidates and baselines alike.
        dtype: As in a recipe.
        out_dtype: As in a recipe.
    """

    models: Annotated[tuple[Model, ...], AfterValidator(not_empty)]
    base_model: Model | None = None
    vlm: Model | None = None
    method: Text = "linear"
    space: SpaceSpec = SpaceSpec()
    parameters: ParametersField = Field(default_factory=dict)
    normalize: bool = False
    protect: tuple[Text, ...] = ()
    dtype: DtypeField | None = None
    out_dtype: DtypeField | None = None

    @model_validator(mode="after")
    def _fits_the_method(self) -> MergeSpec:
        _unlike(self.models)
        _available(self.method)
        if self.method == "slerp" and (len(self.models) != 2 or self.base_model not in self.models):
            found = f"{len(self.models)} models, base_model {self.base_model or 'not given'}"
            raise complaint("slerp is between two models, one of them `base_model`", expected="two models", found=found)
        spec = METHODS[self.method]
        if not spec.weighs and self.method != "slerp":
            searchable = ", ".join(each.name for each in METHODS.values() if each.weighs or each.name == "slerp")
            remedy = "merge once with `vlmerge merge`, or take another method"
            raise complaint(f"{self.method} has no weights to search", expected=searchable, found=self.method, remedy=remedy)
        if self.normalize and not spec.normalizes:
            what = f"{self.method} does not normalise"
            raise complaint(what, expected="normalize: false", found="true", remedy="take it out")
        for name, value in self.parameters.items():
            fixed = [key for key in spec.parameters if key not in ("weight", "t", "normalize")]
            if name not in fixed:
                what = f"`{name}` is no parameter of {self.method} that a run can fix"
                raise complaint(what, expected=", ".join(fixed) or "none", found=name, remedy="take it out")
            for problem in value_problems(spec.parameters[name], value, ("parameters", name)):
                remedy = problem.remedy or ""
                raise complaint(problem.what, expected=problem.expected or "", found=problem.found or "", remedy=remedy)
        if spec.subtracts:
            if self.base_model is None and spec.base == "required":
                raise complaint(f"{self.method} needs a base", expected="a `base_model`", remedy="name the common ancestor")
            if not self.searched:
                raise complaint("nothing to search: the only model is the base", expected="another model", remedy="add one")
            fewest, most = spec.sources
            if len(self.searched) < fewest or (most is not None and len(self.searched) > most):
                wanted = f"{fewest} models besides the base" if most == fewest else f"at least {fewest} besides the base"
                found = ", ".join(map(str, self.searched))
                raise complaint(f"{self.method} is not for this many models", expected=wanted, found=found)
        return self

    @property
    def searched(self) -> tuple[ModelRef, ...]:
        """The models that have a weight to be searched."""
        subtracts = METHODS[self.method].subtracts
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
        return self
