"""A task whose answers a judge scores: a chat endpoint that gives points by a prompt on a scale.

A verdict is asked for once: it is kept by the judge (address and model) and by all that it was told: prompt, question,
reference, answer, and the pictures where it sees them. A candidate that was interrupted goes on with the verdicts that it has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from vlmerge.config.judge_block import JUDGE, PLACE, JudgeSpec, is_template
from vlmerge.config.problems import nearest
from vlmerge.endpoints.address import Endpoint, open_endpoint
from vlmerge.endpoints.asking import ask_all
from vlmerge.endpoints.chat import Reply, Request, Turn
from vlmerge.endpoints.kept import Kept
from vlmerge.errors import TaskError
from vlmerge.tasks.judge_prompts import JUDGE_PROMPTS, REFERENCE, JudgePrompt
from vlmerge.tasks.purse import Purse
from vlmerge.tasks.rouge import mean
from vlmerge.tasks.task import Task
from vlmerge.tasks.verdicts import Verdict, read_verdict
from vlmerge.types import Question

DESCRIPTION = "a chat endpoint gives points by a prompt on a scale (a task's block `judge:`); (points − low) / (high − low)"
"""One line for tables."""

PICTURE_TOKENS = 1000
"""Rough, for estimates: what a picture costs a judge that sees it."""

NOT_ASKED = "(no answer: not asked)"
NO_POINTS = "(no points given, twice)"
NO_VERDICT = "(no verdict)"
UNREADABLE = 10
"""One verdict in so many may give no points before a judge is no judge."""


@dataclass(frozen=True)
class JudgedTask:
    """A task with a judge. It is a `Task`; `scores` asks for many verdicts at a time."""

    name: str
    source: str
    asked: tuple[Question, ...] = field(repr=False)
    judge: JudgeSpec
    prompt: JudgePrompt = field(repr=False)
    kept: Kept = field(repr=False)
    purse: Purse = field(repr=False)
    metric: str = JUDGE

    @property
    def metric_description(self) -> str:
        """Who judges, by which prompt, on which scale."""
        return (
            f"judge {self.judge.model} at {self.judge.endpoint}, prompt {self.prompt.name} ({_digest(self._told)}), "
            f"{self.prompt.low:g} to {self.prompt.high:g} points{', sees the pictures' if self.judge.pictures else ''}; "
            f"score (points − {self.prompt.low:g}) / {self.prompt.high - self.prompt.low:g}"
        )

    @cached_property
    def digest(self) -> str:
        """Of all that the judge is told besides answers: a text that has changed gives other scores."""
        return _digest([*self._told, *(question.context or "" for question in self.asked)])

    @property
    def _told(self) -> list[str]:
        return [self.prompt.system or "", self.prompt.template]

    @cached_property
    def endpoint(self) -> Endpoint:
        """The server, with its key; raises EndpointError where the key is not there."""
        return open_endpoint(self.judge.endpoint, self.judge.model, key_env=self.judge.api_key_env, timeout=self.judge.timeout)

    def questions(self) -> tuple[Question, ...]:
        """All questions, in the order of the source."""
        return self.asked

    def aggregate(self, scores: Sequence[float]) -> float:
        """The mean over questions."""
        return mean(scores)

    def score(self, question: Question, answer: str) -> float:
        """Score of one answer, 0..1."""
        return self.scores([question], [answer])[0]

    def scores(self, questions: Sequence[Question], answers: Sequence[str]) -> list[float]:
        """Scores of answers, 0..1; see `verdicts`."""
        span = self.prompt.high - self.prompt.low
        return [(verdict.points - self.prompt.low) / span for verdict in self.verdicts(questions, answers)]

    def verdicts(self, questions: Sequence[Question], answers: Sequence[str]) -> list[Verdict]:
        """What the judge says. Empty answers get the lowest points without asking, where it does not compare.

        So does an answer about which a judge that judges others refuses to speak (a filter, a prompt that is too long).

        Raises:
            EndpointError: The judge cannot be asked, refuses every request and always has, or its budget is used up. What it
                has said is kept.
            TaskError: A judge that gives no number, twice, of more answers than a tenth of the task's questions. Where it is
                fewer, these have the lowest points: what no judge can read is no good answer. The whole task counts, since a
                race may ask a few questions at a time.
        """
        read: dict[int, Verdict] = {}
        if self.prompt.reading == "number":
            empty = [place for place, answer in enumerate(answers) if not answer.strip()]
            read = {place: Verdict(self.prompt.low, None, NOT_ASKED) for place in empty}
        asked = {
            place: self.request(question, answer)
            for place, (question, answer) in enumerate(zip(questions, answers, strict=True))
            if place not in read
        }
        again: dict[int, Request] = {}
        for place, reply in zip(asked, self._ask(list(asked.values())), strict=True):
            verdict = self._read(reply)
            if verdict is None:
                again[place] = self._once_more(asked[place], reply)
            else:
                read[place] = verdict
        unread = 0
        for place, reply in zip(again, self._ask(list(again.values()), proven=True), strict=True):
            verdict = self._read(reply)
            unread += verdict is None
            if verdict is None and unread * UNREADABLE <= max(len(asked), len(self.asked)):
                verdict = Verdict(self.prompt.low, None, f"{NO_POINTS} {reply.text}")
            if verdict is None:
                first = again[place].turns[-2].text
                raise TaskError(
                    "the judge gives no points",
                    where=f"task {self.name!r}, question {questions[place].id!r}, {self.endpoint}",
                    expected=f"{'two numbers' if self.prompt.reading == 'pair' else 'a number'} from {self.prompt.low:g} to "
                    f"{self.prompt.high:g}",
                    found=f"{first.strip()[:500]!r}; asked again: {reply.text.strip()[:500]!r}"
                    + (f" (cut off at {again[place].max_tokens} tokens)" if reply.cut else ""),
                    remedy="take a stronger judge, a larger `judge.max_tokens`, or a prompt that asks for the number alone; "
                    "a run that has begun keeps its judge: start anew in another folder",
                )
            read[place] = verdict
        return [read[place] for place in range(len(answers))]

    def request(self, question: Question, answer: str) -> Request:
        """What the judge is asked about one answer."""
        told: Mapping[str, str] = {
            "question": question.text,
            "answer": answer,
            "reference": "\n\n".join(question.references),
            "context": question.context or "",
            "low": f"{self.prompt.low:g}",
            "high": f"{self.prompt.high:g}",
        }
        # In one pass: what an answer has in braces stays as it is.
        text = PLACE.sub(lambda found: told.get(found[1], found[0]), self.prompt.template)
        system = [Turn("system", self.prompt.system)] if self.prompt.system else []
        user = Turn("user", text, question.pictures if self.judge.pictures else ())
        what = f"task {self.name!r}, question {question.id!r}"
        return Request((*system, user), self.judge.max_tokens or self.prompt.max_tokens, self.judge.temperature, what=what)

    def summary(self, questions: Sequence[Question], verdicts: Sequence[Verdict]) -> str:
        """The figure as publications give it: mean points; where the judge compares, points relative to the reference's.

        The relative one is 100 × the sum of points / the sum of the reference's, for each kind of question; then their mean.
        """
        points = f"{mean([verdict.points for verdict in verdicts]):.2f} of {self.prompt.high:g} points"
        if self.prompt.reading != "pair":
            return points
        kinds: dict[str, tuple[float, float]] = {}
        for question, verdict in zip(questions, verdicts, strict=True):
            ours, theirs = kinds.get(question.kind or "", (0.0, 0.0))
            kinds[question.kind or ""] = (ours + verdict.points, theirs + (verdict.reference or 0.0))
        relative = {kind: 100 * ours / theirs for kind, (ours, theirs) in kinds.items() if theirs > 0}
        if not relative:
            return points
        each = ", ".join(f"{kind} {value:.1f}" for kind, value in relative.items() if kind)
        return f"{points}; {mean(list(relative.values())):.1f} % of the reference's{f' ({each})' if each else ''}"

    def _ask(self, requests: Sequence[Request], *, proven: bool = False) -> list[Reply]:
        if not requests:
            return []
        return ask_all(
            self.endpoint,
            requests,
            parallel=self.judge.parallel,
            kept=self.kept,
            allow=self.purse.take,
            unasked=self.purse.give_back,
            proven=proven or self.purse.spent > 0,  # Counted in a run's store: a run that goes on knows it as well.
        )

    def _read(self, reply: Reply) -> Verdict | None:
        if reply.withheld:
            return Verdict(self.prompt.low, None, f"{NO_VERDICT} {reply.withheld}")
        return read_verdict(reply.text, self.prompt.low, self.prompt.high, self.prompt.reading, cut=reply.cut)

    def _once_more(self, request: Request, reply: Reply) -> Request:
        """The same conversation, with a word about what is wanted."""
        low, high = f"{self.prompt.low:g}", f"{self.prompt.high:g}"
        wanted = (
            f"Write two numbers from {low} to {high} and nothing else: the score of Assistant 1, a space, that of Assistant 2."
            if self.prompt.reading == "pair"
            else f"Write the score as one number from {low} to {high} and nothing else."
        )
        return replace(request, turns=(*request.turns, Turn("assistant", reply.text), Turn("user", wanted)))


def judge_prompt(spec: JudgeSpec, task: str, where: str) -> JudgePrompt:
    """How a judge is asked: a text of the run's own, a preset, the built-in task's own one, or `reference`.

    Args:
        spec: The block.
        task: The task's `name:`.
        where: For the message.

    Raises:
        TaskError: No preset of that name.
    """
    if spec.prompt is None:
        prompt = JUDGE_PROMPTS.get(task, REFERENCE)
    elif is_template(spec.prompt):
        prompt = replace(REFERENCE, name="its own", template=spec.prompt, source="the run file")
    elif spec.prompt in JUDGE_PROMPTS:
        prompt = JUDGE_PROMPTS[spec.prompt]
    else:
        near = nearest(spec.prompt, JUDGE_PROMPTS)
        raise TaskError(
            f"unknown prompt {spec.prompt!r} of a judge",
            where=where,
            expected=f"one of {', '.join(JUDGE_PROMPTS)}, or a text with {{answer}}",
            found=spec.prompt,
            remedy=f"write {near!r}" if near else "choose one from the list, or write the prompt itself",
        )
    return prompt if spec.scale is None else replace(prompt, low=spec.scale[0], high=spec.scale[1])


def judged_task(name: str, source: str, asked: tuple[Question, ...], spec: JudgeSpec, prompt: JudgePrompt) -> JudgedTask:
    """The task; raises TaskError where the prompt needs a context and no question has one."""
    if "{context}" in prompt.template and all(question.context is None for question in asked):
        raise TaskError(
            f"the judge's prompt {prompt.name!r} tells of each question what it is about, and no row says it",
            where=f"task {name!r}",
            expected="a column `context`",
            remedy="map the column that holds it: `fields: {context: …}`, or take another prompt",
        )
    task = JudgedTask(name, source, asked, spec, prompt, Kept(), Purse(spec.budget))
    # Stored with a run's tasks: one whose prompt or contexts have changed is not gone on with.
    by = f"judged by {spec.model} at {spec.endpoint} (prompt {prompt.name}, {task.digest[:8]})"
    return replace(task, source=f"{source}, {by}")


def _digest(told: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(told).encode("utf-8", "surrogatepass")).hexdigest()[:8]


def scores_of(task: Task, questions: Sequence[Question], answers: Sequence[str]) -> list[float]:
    """Scores of answers, 0..1: a judge's all at once, others one by one."""
    if isinstance(task, JudgedTask):
        return task.scores(questions, answers)
    return [task.score(question, answer) for question, answer in zip(questions, answers, strict=True)]


@dataclass(frozen=True)
class Estimate:
    """What judging would take, roughly: characters are counted, not tokens.

    Attributes:
        judge: Who, and where.
        requests: Verdicts.
        prompt_tokens: Read by the judge, in all.
        tokens: Written by it, in all.
        cost: In the currency of the price; None without one.
        budget: Verdicts that it may be asked for, by all tasks together.
    """

    judge: str
    requests: int
    prompt_tokens: int
    tokens: int
    cost: float | None
    budget: int | None

    def line(self) -> str:
        """For people."""
        cost = "" if self.cost is None else f", about {self.cost:,.2f} at the given price"
        budget = "" if self.budget is None else f"; budget {self.budget:,} verdicts"
        short = " (less than that: the run would stop and could go on with a larger one)"
        short = short if self.budget is not None and self.budget < self.requests else ""
        return (
            f"judge {self.judge}: about {self.requests:,} verdicts, about {self.prompt_tokens:,} tokens to read and "
            f"{self.tokens:,} to write{cost}{budget}{short}"
        )


def estimate(task: JudgedTask, questions: Sequence[Question], times: int) -> Estimate:
    """What judging a set's questions takes.

    Args:
        task: The task.
        questions: Its questions in the set.
        times: How many models answer them.
    """
    read = sum(_tokens(task.request(question, question.references[0])) for question in questions) * times
    requests = len(questions) * times
    written = requests * task.prompt.usual_tokens
    price = task.judge.price
    cost = None if price is None else (read * price.input + written * price.output) / 1e6
    return Estimate(task.judge.who, requests, read, written, cost, task.purse.limit)


def together(estimates: Iterable[Estimate]) -> list[Estimate]:
    """One for each judge: its budget is for all that it is asked. A cost that is known in part is not known."""
    judges: dict[str, Estimate] = {}
    for one in estimates:
        known = judges.get(one.judge)
        if known is None:
            judges[one.judge] = one
            continue
        judges[one.judge] = Estimate(
            judge=one.judge,
            requests=known.requests + one.requests,
            prompt_tokens=known.prompt_tokens + one.prompt_tokens,
            tokens=known.tokens + one.tokens,
            cost=None if known.cost is None or one.cost is None else known.cost + one.cost,
            budget=one.budget if known.budget is None else known.budget,
        )
    return list(judges.values())


def _tokens(request: Request) -> int:
    """A token is about four letters, or one sign of Chinese, Japanese or Korean."""
    text = "".join(turn.text for turn in request.turns)
    wide = sum(sign >= "\u2e80" for sign in text)
    pictures = sum(len(turn.pictures) for turn in request.turns)
    return wide + (len(text) - wide) // 4 + PICTURE_TOKENS * pictures
