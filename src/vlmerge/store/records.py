"""What a run's record holds, as values: models, tasks, questions, answers, trials, generations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vlmerge.types import Genome

Split = Literal["search", "validation", "holdout"]
SPLITS: tuple[Split, ...] = ("search", "validation", "holdout")
Kind = Literal["searched", "baseline", "mean", "simple", "ablation"]
Status = Literal["scored", "failed", "racing", "stopped", "sampled"]
"""`racing`: in a race that goes on, not all of its questions asked; `stopped`: that race has ended for it (`raced.py`);
`sampled`: asked the share of the search questions that its generation was asked (`rotation.py`)."""
Fitness = float | tuple[float, ...]
"""What an optimizer is told of a candidate, higher is better: one number, or one for each objective."""


@dataclass(frozen=True)
class ModelRecord:
    """A model that takes part. `label` is its base name where that is unique, else its full id.

    With an adapter `path` is `FOLDER+FOLDER`, and the fingerprint is over both.
    """

    name: str
    label: str
    is_host: bool
    is_base: bool
    path: str
    revision: str | None
    fingerprint: str
    licence: str | None
    family: str
    parameters: int


@dataclass(frozen=True)
class TaskRecord:
    """How one task was asked: `decoding` and `prompt` (one real prompt, as an example) belong to every score.

    `weight` 0 means: scored and shown, but no part of `all`. `label` is a heading for its column (e.g. "English kept").
    """

    split: Split
    task: str
    metric: str
    weight: float
    label: str | None
    decoding: str
    prompt: str
    source: str


@dataclass(frozen=True)
class QuestionRecord:
    """A question as the report shows it; `pictures` are digests into the pictures table."""

    split: Split
    task: str
    question: str
    text: str
    references: tuple[str, ...]
    kind: str | None
    group: str
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class AnswerRecord:
    """One answer with its score (0 to 1)."""

    split: Split
    task: str
    question: str
    text: str
    tokens: int
    score: float


@dataclass(frozen=True)
class Trial:
    """The record of one candidate.

    Attributes:
        trial: Number, from 1, in the order of evaluation.
        label: Unique name: `host`, `swap:NAME`, `grid@0.4`, …; `stage-1/003/05` for searched ones.
        kind: `searched`, `baseline` or `mean`; `simple` and `ablation` are asked validation questions first, and need not have
            been asked any other.
        stage, generation, position: Where a searched candidate stood.
        genome: Its genes, where it has any.
        recipe: YAML of its recipe: `vlmerge merge` understands it.
        status: `scored`: on all search questions; or `failed`, `racing`, `stopped`, `sampled`.
        reason: Why it failed, or where it was stopped.
        seconds: Seconds by part: merge, answer. Empty where nothing was asked: the recipe was tried before.
        finished_at: UTC, ISO 8601.
    """

    trial: int
    label: str
    kind: Kind
    stage: int | None
    generation: int | None
    position: int | None
    genome: Genome | None
    recipe: str
    status: Status
    reason: str | None
    seconds: Mapping[str, float]
    finished_at: str

    @property
    def is_whole(self) -> bool:
        """Whether it has a score on the search questions: what a stopped one answered is no score to compare others with."""
        return self.status == "scored"


@dataclass(frozen=True)
class Generation:
    """One generation: what was asked, and (once told) the fitness of each, the distribution's mean and step size after it."""

    stage: int
    generation: int
    genomes: tuple[Genome, ...]
    fitness: tuple[Fitness | None, ...] | None
    mean: Genome | None
    sigma: float | None
    seconds: float | None


def label_of(stage: int, generation: int, position: int) -> str:
    """The label of a searched candidate, by where it stood (each counted from 0)."""
    return f"stage-{stage + 1}/{generation + 1:03d}/{position + 1:02d}"
