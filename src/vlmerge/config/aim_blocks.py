"""What a run wants beside a high score: constraints that candidates have to keep, and objectives that stand side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, model_validator

from vlmerge.config.fields import Block, Number, Text, complaint, misfit, not_empty
from vlmerge.config.problems import nearest
from vlmerge.writing import LANGUAGES


def _language(value: str) -> str:
    if value not in LANGUAGES:
        close = nearest(value.lower(), LANGUAGES)
        remedy = (
            f"did you mean `{close}`?" if close else "write the language's code (Japanese is `ja`), or bound a task's score"
        )
        raise misfit(f"a code of two letters: {', '.join(LANGUAGES)}", value, remedy)
    return value


class ConstraintSpec(Block):
    """Something that a candidate has to keep. Figures are shares, between 0 and 1; the page's scores are 100 times that.

    Attributes:
        task: Whose questions count, by the name or label that it has in tables; None: the tasks that count in the score.
        language: The share of answers in its writing system (`ja`, `en`) is bounded; None: the mean score is.
        at_least: The bound from below; or
        at_most: from above. Exactly one of the two.
        of: `host`: the bound is that share of what the host itself has on the same questions; `start`: of what the recipe has
            that the search begins at; None: it stands by itself.
    """

    task: Text | None = None
    language: Annotated[Text, AfterValidator(_language)] | None = None
    at_least: Number | None = Field(default=None, ge=0)
    at_most: Number | None = Field(default=None, ge=0)
    of: Literal["host", "start"] | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> ConstraintSpec:
        if (self.at_least is None) == (self.at_most is None):
            found = "neither" if self.at_least is None else "both"
            raise complaint(
                "a constraint has one bound", expected="`at_least` or `at_most`", found=found, remedy="write one of them"
            )
        if self.language is None and self.task is None:
            raise complaint(
                "a constraint on a score names its task",
                expected="`task: NAME` (or `language: ja`, for the share of answers in a language)",
                remedy="name the task",
            )
        if self.language is not None and self.of is not None:
            raise complaint(
                f"a share of answers in a language is bounded by itself, not by that of the {self.of}",
                expected="`language: ja, at_least: 0.9`",
                found=f"of: {self.of}",
                remedy="take `of` out",
            )
        if self.of is None and self.bound > 1:
            raise complaint(
                "a bound stands between 0 and 1",
                expected=f"a share; {self.bound:g} points of 100 are {self.bound / 100:g}",
                found=f"{self.bound:g}",
                remedy=f"write {self.bound / 100:g}, or `of: host` for a share of the host's score",
            )
        return self

    @property
    def bound(self) -> float:
        """The figure that bounds, whichever side."""
        given = self.at_least if self.at_most is None else self.at_most
        assert given is not None
        return given


def _counting(value: dict[str, float]) -> dict[str, float]:
    if not any(value.values()):
        raise misfit("a weight that is not 0", value, "give one task a weight")
    return value


class ObjectiveSpec(Block):
    """One axis of a front: a task, or several by weight.

    Attributes:
        tasks: Task → its weight, by the names that tasks have in tables; below 0: less is better, and 1 − score counts.
        label: What the axis is called; None: its tasks.
    """

    tasks: Annotated[dict[Text, Number], AfterValidator(not_empty), AfterValidator(_counting)]
    label: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: object) -> object:
        if isinstance(value, str):
            return {"tasks": {value: 1.0}}
        if isinstance(value, Mapping):
            given = cast("Mapping[str, Any]", value)
            if isinstance(given.get("tasks"), list):
                return {**given, "tasks": dict.fromkeys(given["tasks"], 1.0)}
        return cast("object", value)

    @property
    def name(self) -> str:
        """What the axis is called."""
        return self.label or " + ".join(self.tasks)
