"""Systems that vlmerge does not run, by the same tasks and metrics: answers from a file, or from a server that is asked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vlmerge.config.run import parse_tasks
from vlmerge.endpoints.address import open_endpoint
from vlmerge.endpoints.asking import ask_all
from vlmerge.endpoints.chat import Reply, Request, Turn, served_models
from vlmerge.endpoints.kept import Kept
from vlmerge.errors import EndpointError, TaskError
from vlmerge.evaluations import Evaluation, Keep, evaluation, say_what_it_takes
from vlmerge.tasks.judge import scores_of
from vlmerge.tasks.sets import Asked, ask_tasks
from vlmerge.tasks.task import AskingTask
from vlmerge.types import Decoding, Question

if TYPE_CHECKING:
    from vlmerge.bench import Observer
    from vlmerge.endpoints.address import Endpoint

SHOWN_IDS = 5


def evaluate_answers(
    path: Path,
    specs: Sequence[Mapping[str, Any]],
    *,
    preset: str | None,
    name: str | None,
    observer: Observer,
    keep: Keep | None = None,
) -> list[Evaluation]:
    """Scores given answers, without any model.

    Args:
        path: JSONL with `id` and `answer`.
        specs: One task, as in a run file.
        preset: Protocol of a published experiment (its metric and questions).
        name: What results call the system; None: the file's name without its ending.
        observer: Told what judges would cost.
        keep: Told the results.

    Raises:
        TaskError: Answers that do not fit the questions one to one; a task that asks by itself.
    """
    asked = _loaded(specs, preset, None)
    if len(asked) != 1:
        raise TaskError(
            "answers from a file belong to one task",
            where=str(path),
            found=f"{len(asked)} tasks",
            remedy="evaluate each with its own file",
        )
    (one,) = asked
    texts = read_answers(path, one.questions, one.task.name)
    say_what_it_takes(asked, observer)
    results = [_scored(name or path.stem, one, texts, (f"answers given in {path.name}", one.questions[0].text), observer)]
    if keep is not None:
        keep(results)
    return results


def read_answers(path: Path, questions: Sequence[Question], task: str) -> list[str]:
    """One answer per question, in the questions' order.

    Raises:
        TaskError: No such file; a line that is no {"id", "answer"}; an id twice, missing or unknown.
    """
    if not path.is_file():
        raise TaskError("the file of answers is missing", where=str(path), remedy="correct the path")
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        identity, answer = _entry(line, place)
        if identity in found:
            raise TaskError("an id stands twice among the answers", where=place, found=identity, remedy="take one out")
        found[identity] = answer
    wanted = [question.id for question in questions]
    missing = [identity for identity in wanted if identity not in found]
    if missing:
        raise TaskError(
            f"{len(missing)} of {len(wanted)} questions have no answer",
            where=f"{path}, task {task!r}",
            expected='one line {"id": …, "answer": …} for each question; an answer may be empty ("")',
            found=f"no line for {_some(missing)}",
            remedy="add these lines, or ask for fewer questions (--limit)",
        )
    known = set(wanted)
    unknown = [identity for identity in found if identity not in known]
    if unknown:
        raise TaskError(
            f"{len(unknown)} answers belong to no question",
            where=f"{path}, task {task!r}",
            expected=f"ids of the task, such as {_some(wanted)}",
            found=_some(unknown),
            remedy="take these lines out; or name the task, --split, --limit and --field that they were answers to",
        )
    return [found[identity] for identity in wanted]


def evaluate_endpoint(
    url: str,
    model: str | None,
    specs: Sequence[Mapping[str, Any]],
    *,
    preset: str | None,
    max_new_tokens: int | None,
    key_env: str | None,
    parallel: int,
    fresh: bool,
    name: str | None,
    observer: Observer,
    keep: Keep | None = None,
) -> list[Evaluation]:
    """Asks a server that speaks OpenAI's chat protocol, pictures as data URLs. What it has said is kept, and not asked again.

    A question that it does not answer (it refuses the request, a filter holds the answer back, it calls a tool) counts as one
    with an empty answer, and the result says how many there are; a refusal in words is an answer.

    Args:
        url: Its address, up to where `/chat/completions` begins.
        model: The model's name there; None: the only one it has.
        specs: Tasks, as in a run file.
        preset: Protocol of a published experiment: its metric and questions, and of its decoding what the protocol has.
        max_new_tokens: Longest answer, over the preset's.
        key_env: Name of the environment variable that holds the key.
        parallel: Most requests under way at a time.
        fresh: Ask also what is kept.
        name: What results call the system; None: the model's name.
        observer: Shows how far it is.
        keep: Told the results so far after each task.

    Raises:
        EndpointError: It cannot be asked, or answers no question of a task. What it has said so far is kept.
        TaskError: A task that asks by itself.
    """
    asked = _loaded(specs, preset, max_new_tokens)
    endpoint = open_endpoint(url, model or "", key_env=key_env)
    if model is None:
        endpoint = open_endpoint(url, _only_model(endpoint), key_env=key_env)
    say_what_it_takes(asked, observer)
    results: list[Evaluation] = []
    for one in asked:
        requests = [_request(question, one.decoding, one.task.name) for question in one.questions]
        observer.begin(f"{one.task.name}: {endpoint}", len(requests))
        try:
            replies = ask_all(
                endpoint, requests, parallel=parallel, kept=Kept(), fresh=fresh, progress=lambda count: observer.advance(count)
            )
        finally:
            observer.end()
        without = _without_answer(replies)
        for line in without:
            observer.say(f"note: {one.task.name}: {line}")
        if any(_unfinished(reply) for reply in replies):
            observer.say("a larger --max-new-tokens lets a model that thinks first come to its answer")
        how = "; ".join([f"asked at {endpoint.url}: {_described(one.decoding)}", *without])
        texts, withheld = [reply.text for reply in replies], [reply.withheld for reply in replies]
        results.append(_scored(name or endpoint.model, one, texts, (how, requests[0].turns[0].text), observer, withheld))
        if keep is not None:
            keep(results)
    return results


def _loaded(specs: Sequence[Mapping[str, Any]], preset: str | None, max_new_tokens: int | None) -> tuple[Asked, ...]:
    asked = ask_tasks(parse_tasks(specs, "evaluate"), preset=preset, max_new_tokens=max_new_tokens)
    for one in asked:
        if isinstance(one.task, AskingTask):
            raise TaskError(
                "a task of lm-eval asks by itself, and only a model that runs here",
                where=f"task {one.task.name!r}",
                expected="a built-in task or a file of questions",
                remedy="use lm-eval's own models for it",
            )
    return asked


def _without_answer(replies: Sequence[Reply]) -> list[str]:
    """How many questions have none, and why; a model that thought until its tokens were used up has said nothing either."""
    said: list[str] = []
    reasons = Counter(reply.withheld for reply in replies if reply.withheld)
    if reasons:
        count, reason = sum(reasons.values()), reasons.most_common(1)[0][0]
        said.append(f"{count} of {len(replies)} questions without an answer ({reason})")
    unfinished = sum(map(_unfinished, replies))
    if unfinished:
        said.append(f"{unfinished} of {len(replies)} answers cut off before their first word")
    return said


def _unfinished(reply: Reply) -> bool:
    return reply.cut and not reply.text.strip()


def _scored(
    name: str,
    one: Asked,
    texts: Sequence[str],
    protocol: tuple[str, str],
    observer: Observer,
    withheld: Sequence[str] = (),
) -> Evaluation:
    assert not isinstance(one.task, AskingTask)
    observer.begin(f"{one.task.name}: scores", None)
    try:
        scores = scores_of(one.task, one.questions, texts)
        return evaluation(name, one, texts, scores, protocol, withheld)
    finally:
        observer.end()


def _request(question: Question, decoding: Decoding, task: str) -> Request:
    sampled = decoding.temperature > 0
    return Request(
        turns=(Turn("user", question.text, question.pictures),),
        max_tokens=decoding.max_new_tokens,
        temperature=decoding.temperature,
        top_p=decoding.top_p if sampled else None,
        seed=decoding.seed if sampled else None,
        what=f"task {task!r}, question {question.id!r}",
    )


def _described(decoding: Decoding) -> str:
    """How it is really asked: the protocol knows neither beams nor a repetition penalty."""
    asked = Decoding(decoding.max_new_tokens, 1, decoding.temperature, decoding.top_p, 1.0, decoding.seed)
    parts = {"beams": decoding.num_beams > 1, "repetition penalty": decoding.repetition_penalty != 1}
    without = " and no ".join(part for part, wanted in parts.items() if wanted)
    return asked.describe() + (f" (the protocol has no {without})" if without else "")


def _only_model(endpoint: Endpoint) -> str:
    names = served_models(endpoint.url, endpoint.key)
    if len(names) > 1:
        raise EndpointError(
            "the server has several models",
            where=endpoint.url,
            expected="--model with one of them",
            found=", ".join(names[:20]),
            remedy=f"add for example --model {names[0]}",
        )
    return names[0]


def _entry(line: str, place: str) -> tuple[str, str]:
    try:
        row: object = json.loads(line)
    except ValueError as error:
        raise _no_entry(place, str(error)) from error
    if not isinstance(row, dict):
        raise _no_entry(place, line)
    entry = cast("dict[str, object]", row)
    identity, answer = entry.get("id"), entry.get("answer")
    if isinstance(identity, bool) or not isinstance(identity, int | str) or not isinstance(answer, str):
        raise _no_entry(place, line)
    try:
        answer.encode()
    except UnicodeEncodeError as error:
        raise _no_entry(place, "half of a character pair") from error
    return str(identity), answer


def _no_entry(place: str, found: str) -> TaskError:
    return TaskError(
        "a line is no answer",
        where=place,
        expected='{"id": "…", "answer": "…"}, the answer a text',
        found=found[:200],
        remedy="mend or remove the line",
    )


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_IDS
    return ", ".join(names[:SHOWN_IDS]) + (f" and {more} more" if more > 0 else "")
