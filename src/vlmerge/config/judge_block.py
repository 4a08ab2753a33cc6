"""The block `judge:` of a task: which chat endpoint scores its answers, by which prompt, on which scale, for how much."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from vlmerge.config.fields import Block, Number, Text, Whole, complaint, misfit
from vlmerge.endpoints.address import check_address
from vlmerge.errors import EndpointError, UserError

JUDGE = "judge"
"""The metric of a task that has one."""

PLACES = ("question", "answer", "reference", "context", "low", "high")
"""What a prompt may name in braces."""

PLACE = re.compile(r"\{([a-z_]+)\}")
"""Braces around a word; all other braces of a prompt are text, such as JSON's."""

MAY_CHANGE = ("budget", "price", "api_key_env", "parallel", "timeout")
"""Keys that change no verdict: a run that goes on may have others."""


def _address(url: str) -> str:
    try:
        return check_address(url)
    except EndpointError as error:
        raise as_complaint(error) from error


def as_complaint(error: UserError) -> PydanticCustomError:
    """The same for validators of a block."""
    return complaint(error.what, expected=error.expected or "", found=error.found or "", remedy=error.remedy or "")


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        # What stands there may be the key itself: it is not repeated.
        raise misfit("the name of an environment variable, not the key itself", "something else", "write e.g. OPENAI_API_KEY")
    return name


def _prompt(text: str) -> str:
    if not is_template(text):
        return text
    named = PLACE.findall(text)
    unknown = [name for name in named if name not in PLACES]
    if unknown or "answer" not in named:
        found = ", ".join(f"{{{name}}}" for name in unknown or named) or "none"
        places = ", ".join(f"{{{name}}}" for name in PLACES)
        raise misfit(f"a text with {{answer}}, and where wanted others of {places}", found, "mend the text")
    return text


def is_template(prompt: str) -> bool:
    """Whether it is a text of one's own, not a preset's name."""
    return "{" in prompt or any(sign.isspace() for sign in prompt)


class PriceSpec(Block):
    """What a million tokens cost, in any currency."""

    input: Number = Field(ge=0)
    output: Number = Field(ge=0)


class JudgeSpec(Block):
    """A chat endpoint that scores answers.

    Attributes:
        endpoint: Its address, up to where `/chat/completions` begins.
        model: The model's name there.
        prompt: A preset's name, or a text with {question}, {answer}, {reference}, {context}, {low}, {high}; None: the preset of
            the built-in task, else `reference`.
        scale: Points of the worst and of the best answer; None: the preset's, for a text 1 to 5.
        api_key_env: Name of the environment variable that holds the key; None: none is sent.
        temperature: None: the server's own.
        max_tokens: Longest verdict; None: the preset's.
        pictures: Whether the judge sees the question's pictures.
        budget: Verdicts that this judge may be asked for, by all tasks that it judges, over the whole run.
        price: For the estimate.
        parallel: Most requests under way at a time.
        timeout: Seconds of silence after which a request has failed.
    """

    endpoint: Annotated[Text, AfterValidator(_address)]
    model: Text = Field(min_length=1)
    prompt: Annotated[Text, AfterValidator(_prompt)] | None = None
    scale: tuple[Number, Number] | None = None
    api_key_env: Annotated[Text, AfterValidator(_variable)] | None = None
    temperature: Annotated[Number, Field(ge=0)] | None = 0.0
    max_tokens: Whole | None = Field(default=None, ge=1)
    pictures: bool = False
    budget: Whole | None = Field(default=None, ge=1)
    price: PriceSpec | None = None
    parallel: Whole = Field(default=8, ge=1, le=256)
    timeout: Number = Field(default=120, gt=0)

    @model_validator(mode="after")
    def _scale_goes_up(self) -> JudgeSpec:
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            found = f"[{self.scale[0]:g}, {self.scale[1]:g}]"
            raise complaint("a judge's scale has to go up", expected="[points of the worst, points of the best]", found=found)
        return self

    @property
    def who(self) -> str:
        """Who judges, whatever the prompt: whose verdicts are counted together."""
        return f"{self.model} at {self.endpoint}"


def budgets_of(judges: Iterable[JudgeSpec]) -> Mapping[str, int | None]:
    """Judge → its budget, said in one of its blocks or in several alike; None: any number.

    Raises:
        EndpointError: Two budgets for one judge.
    """
    budgets: dict[str, int | None] = {}
    for judge in judges:
        known = budgets.get(judge.who)
        if known is not None and judge.budget is not None and known != judge.budget:
            raise EndpointError(
                f"the judge {judge.who} has two budgets",
                expected="one number of verdicts for all tasks that it judges",
                found=f"`budget: {known}` and `budget: {judge.budget}`",
                remedy="say it once, or the same everywhere",
            )
        budgets[judge.who] = judge.budget if known is None else known
    return budgets
