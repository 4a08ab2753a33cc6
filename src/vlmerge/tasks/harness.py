"""Tasks of lm-evaluation-harness: its prompts, filters and metrics; one question and one score per document.

A task that is loaded needs no model. Its requests are made once, where a chat template is wanted with the host's, and asked of
whatever is merged at the moment. lm-eval is imported when the first task is loaded.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from vlmerge.errors import CandidateFailure, TaskError
from vlmerge.tasks.generation import decoding_of
from vlmerge.tasks.harness_index import manager_of, quiet, version
from vlmerge.tasks.rouge import mean
from vlmerge.tasks.task import Said
from vlmerge.types import Picture, Question

if TYPE_CHECKING:
    from vlmerge.config.run import TaskSpec

FEWSHOT_SEED = 1234
"""lm-eval's own default: the same examples stand before the same document."""
SHUFFLE_SEED = 1
FOR_OTHERS = ("path", "fields", "kinds", "preset")
"""Keys of a task that mean nothing for one of lm-eval's."""
Requests = Mapping[str, Sequence[Any]]
"""Question id → lm-eval's instances for that document."""


@dataclass
class HarnessTask:
    """One of lm-eval's tasks.

    Attributes:
        name: Unique within its set.
        metric: `name,filter`.
        metric_description: One line for tables.
        source: Version of lm-eval, task, and a digest of all that its questions are made of.
        higher_is_better: Whether more of the metric is better.
        protocol: How it is asked, one phrase for tables.
    """

    name: str
    metric: str
    metric_description: str
    source: str
    higher_is_better: bool
    protocol: str
    _task: Any = field(repr=False)
    _documents: Mapping[str, Any] = field(repr=False)
    _asked: tuple[Question, ...] = field(repr=False)
    _requests: Requests | None = field(repr=False)
    _multiturn: bool = field(repr=False)

    def questions(self) -> tuple[Question, ...]:
        """One per document, in their order; the id is the document's number in its split, from 0."""
        return self._asked

    def aggregate(self, scores: Sequence[float]) -> float:
        """The mean over documents, which is lm-eval's own figure: no other metric is let in."""
        return mean(scores)

    def prompt(self, model: Any, question: Question) -> str:
        """What the model is given for a document: the first of its requests."""
        return str(self._made(model)[question.id][0].args[0])

    def ask(self, model: Any, questions: Sequence[Question], progress: Callable[[int], None] | None = None) -> list[Said]:
        """Asks and scores.

        Args:
            model: The live model as lm-eval's model object.
            questions: Of this task.
            progress: Told the number of questions answered.

        Raises:
            CandidateFailure: The model failed, or a score is not a number.
            TaskError: The metric is not what this run can use, or the task's own code fails.
        """
        made = self._made(model)
        asked = [[replace(one, resps=[], filtered_resps={}) for one in made[question.id]] for question in questions]
        every = [one for each in asked for one in each]
        tokens = _answer(model, every, _scaled(progress, len(questions), len(every)))
        # Filters look at all answers of a task; the task keeps them where it looks.
        self._task._instances = every
        self._task.apply_filters()
        spent = iter(tokens)
        return [
            Said(self._shown(each), sum(next(spent) for _ in each), self._score(question, each))
            for question, each in zip(questions, asked, strict=True)
        ]

    # ── inside ──

    def _made(self, model: Any) -> Requests:
        if self._requests is None:
            self._requests = _requests(self._task, self._documents, model.apply_chat_template, self._multiturn)
        return self._requests

    def _score(self, question: Question, asked: Sequence[Any]) -> float:
        name, _, filtered = self.metric.rpartition(",")
        responses = [one.filtered_resps[filtered] for one in sorted(asked, key=lambda one: one.idx)]
        where = f"task {self.name!r}, document {question.id}"
        try:
            values = cast("Mapping[str, Any]", self._task.process_results(self._documents[question.id], responses))
        except Exception as error:  # The task's own code: whatever it raises, the person can mend it.
            raise TaskError(
                "a task's own code fails",
                where=where,
                found=f"{type(error).__name__}: {error}",
                remedy="mend `process_results` or the metric in the task's folder",
            ) from error
        if name not in values:
            raise TaskError(
                f"a task gives no metric {name!r}",
                where=where,
                expected=f"metric: one of {', '.join(values)}",
                found=name,
                remedy="name one of these, with its filter where it has several: NAME,FILTER",
            )
        return self._checked(values[name], where)

    def _checked(self, value: Any, where: str) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = None
        if number is not None and math.isnan(number):
            raise CandidateFailure(f"{self.metric} is not a number ({where})")
        if number is None or not 0 <= number <= 1:
            raise TaskError(
                f"the metric {self.metric!r} is not between 0 and 1 for each document",
                where=where,
                expected="a number from 0 to 1, whose mean over documents is the task's score",
                found=repr(value)[:80],
                remedy="choose such a metric, or divide it by its highest value in the task's `process_results`",
            )
        return number

    def _shown(self, asked: Sequence[Any]) -> str:
        """What is kept as the answer: the response as it came, or the option that was found likeliest."""
        first = asked[0]
        if first.request_type == "generate_until":
            return str(first.resps[0])
        if first.request_type == "loglikelihood_rolling":
            return f"log-likelihood {float(first.resps[0]):.2f}"
        options = _options(self._task, first.doc)
        if options is None or len(asked) < len(options):
            likelihood, greedy = first.resps[0]
            return f"log-likelihood {likelihood:.2f}, {'as' if greedy else 'not as'} greedy decoding would say"
        likelihoods = [one.resps[0][0] for one in asked[: len(options)]]
        return options[likelihoods.index(max(likelihoods))]


def check_spec(spec: TaskSpec, name: str, search_path: Sequence[str], where: str, others: Sequence[str] = ()) -> None:
    """Refuses what can be refused before anything is read.

    Raises:
        TaskError: A key that means nothing for a task of lm-eval, or a name that it does not know.
    """
    for key in FOR_OTHERS:
        if getattr(spec, key):
            raise TaskError(
                f"`{key}` means nothing for a task of lm-eval",
                where=f"{where}, task {name!r}",
                found=f"{key}: {getattr(spec, key)}",
                remedy="take it out; what a task of lm-eval asks and how stands in its own YAML",
            )
    manager_of(name, search_path, where, others)


def load_harness_task(
    spec: TaskSpec, name: str, label: str, search_path: Sequence[str] = (), others: Sequence[str] = ()
) -> HarnessTask:
    """Loads one of lm-eval's tasks.

    Args:
        spec: What the run says of it.
        name: Its name in lm-eval.
        label: What the run calls it.
        search_path: Folders with tasks.
        others: Names of tasks that are not lm-eval's, one of which may have been meant.

    Raises:
        TaskError: It cannot be loaded, is not made of single documents, or has no metric that a run can use.
    """
    where = f"task {name!r}"
    manager = manager_of(name, search_path, where, others)
    with quiet():
        try:
            task = manager.load([name])["tasks"][name]
            if spec.split is not None:
                _choose_split(task, spec.split, where)
            _choose_examples(task, spec.num_fewshot)
            documents = _documents(task, spec.limit, shuffle=bool(spec.shuffle))
            metric, higher_is_better = _metric(task, spec.metric, where)
            _check_code(task, where)
            requests = _requests(task, documents, None, False)
            questions = tuple(_question(label, task, number, requests[number], where) for number in documents)
        except (TaskError, KeyboardInterrupt):
            raise
        except Exception as error:  # lm-eval, `datasets` and the task's own code raise anything.
            raise TaskError(
                "a task of lm-eval cannot be loaded",
                where=f"{where} ({_yaml(manager, name)})",
                found=f"{type(error).__name__}: {str(error).strip()[:500]}",
                remedy="mend its YAML or its code, or get its data set; `lm-eval run --tasks` tells the same",
            ) from error
    chat = bool(spec.apply_chat_template)
    named, _, filtered = metric.rpartition(",")
    return HarnessTask(
        name=label,
        metric=metric,
        metric_description=f"lm-eval's {named}, answers through its filter `{filtered}`, mean over documents",
        source=f"lm-eval {version()}, {name}, {_yaml(manager, name)}, sha256 {_digest(task, requests)[:16]}",
        higher_is_better=higher_is_better,
        protocol=_protocol(task, requests, chat),
        _task=task,
        _documents=documents,
        _asked=questions,
        _requests=None if chat else requests,
        _multiturn=spec.fewshot_as_multiturn is not False,
    )


# ── loading ──


def _yaml(manager: Any, name: str) -> str:
    path = manager.task_index[name].yaml_path
    if path is None:
        return "in Python"
    inside = str(path).partition("/lm_eval/tasks/")[2]
    return inside or str(path)


def _choose_split(task: Any, split: str, where: str) -> None:
    if split not in task.dataset:
        raise TaskError(
            f"a task's data set has no split {split!r}",
            where=where,
            expected=f"one of {', '.join(task.dataset)}",
            found=split,
            remedy="name one of these, or leave `split` out",
        )
    task.config.test_split = split


def _choose_examples(task: Any, wanted: int | None) -> None:
    """lm-eval's rule: what a task sets to 0 stays 0."""
    own: int | None = task.config.num_fewshot
    if wanted is not None and own != 0:
        task.config.num_fewshot = wanted
    elif own is None:
        task.config.num_fewshot = 0


def _documents(task: Any, limit: int | None, *, shuffle: bool) -> dict[str, Any]:
    """Documents by number, in their order."""
    every = task.eval_docs
    numbers = list(range(len(every)))
    if shuffle:
        Random(SHUFFLE_SEED).shuffle(numbers)
    return {str(number): every[number] for number in sorted(numbers[:limit])}


def _check_code(task: Any, where: str) -> None:
    if getattr(task, "UNSAFE_CODE", False):
        raise TaskError(
            "a task runs code that the model writes",
            where=where,
            expected="a task that scores texts or likelihoods",
            found="unsafe_code: true in its YAML",
            remedy="score it with lm-eval itself, in a container, on the exported model",
        )


def _metric(task: Any, wanted: str | None, where: str) -> tuple[str, bool]:
    """The metric as `name,filter`, and whether more is better."""
    aggregations: Mapping[str, Any] = task.aggregation()
    filters = [each.name for each in task._filters]
    usable = [name for name, aggregation in aggregations.items() if _is_mean(aggregation)]
    if not wanted:
        if not usable:
            raise _no_metric(where, "a metric that is a mean over documents", ", ".join(aggregations) or "none", usable)
        return f"{usable[0]},{filters[0]}", bool(task.higher_is_better().get(usable[0], True))
    name, _, filtered = wanted.partition(",")
    filtered = filtered or filters[0]
    if filtered not in filters:
        raise _no_metric(where, f"a filter among {', '.join(filters)}", wanted, [f"{one},{filters[0]}" for one in usable])
    custom = callable(task.config.process_results)
    if name not in aggregations and not custom:
        raise _no_metric(where, "a metric of this task", wanted, usable)
    if name in aggregations and name not in usable:
        raise _no_metric(where, "a metric whose figure is the mean over documents, each from 0 to 1", wanted, usable)
    return f"{name},{filtered}", bool(task.higher_is_better().get(name, True))


def _no_metric(where: str, expected: str, found: str, usable: Sequence[str]) -> TaskError:
    remedy = f"name one of {', '.join(usable)}" if usable else "give the task such a metric in its YAML (`aggregation: mean`)"
    return TaskError("a task has no such metric to search on", where=where, expected=expected, found=found, remedy=remedy)


def _is_mean(aggregation: Any) -> bool:
    """Whether an aggregation is the mean, whatever it is called: tried on numbers."""
    try:
        return all(abs(float(aggregation(list(each))) - mean(each)) < 1e-9 for each in ((0.0, 1.0, 1.0, 0.25), (0.5,)))
    except Exception:  # Others want pairs, or texts.
        return False


def _requests(task: Any, documents: Mapping[str, Any], chat_template: Callable[..., str] | None, multiturn: bool) -> Requests:
    """What is asked for each document; the same, document by document, as lm-eval itself makes."""
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    made: dict[str, Sequence[Any]] = {}
    chat = chat_template is not None
    for number, document in documents.items():
        context = task.fewshot_context(
            document,
            num_fewshot=task.config.num_fewshot,
            system_instruction=None,
            apply_chat_template=chat,
            fewshot_as_multiturn=multiturn,
            chat_template=chat_template,
            gen_prefix=task.doc_to_prefix(document),
        )
        several: Any = task.construct_requests(
            doc=document,
            ctx=context,
            metadata=(task.config.task, int(number), task.config.repeats),
            apply_chat_template=chat,
            chat_template=chat_template,
        )
        listed = cast("list[Any]", several) if isinstance(several, list) else [several]
        made[number] = [replace(one, arguments=_with_pictures(one.args, task, number)) for one in listed]
    return made


def _with_pictures(arguments: tuple[Any, ...], task: Any, number: str) -> tuple[Any, ...]:
    last = arguments[-1]
    given = cast("dict[str, Any]", last) if isinstance(last, dict) else dict[str, Any]()
    if not {"visual", "audio"} & set(given):
        return arguments
    where = f"{task.config.task}, document {number}"
    if "audio" in given:
        raise TaskError("a task has sounds", where=where, expected="texts and pictures", remedy="choose another task")
    shown = cast("list[object] | object | None", given["visual"])
    cells = [] if shown is None else cast("list[object]", shown) if isinstance(shown, list) else [shown]
    pictures = tuple(_picture(cell, f"{where}, picture {place}") for place, cell in enumerate(cells, start=1))
    return (*arguments[:-1], {"visual": pictures})


def _picture(given: object, origin: str) -> Picture:
    """A picture as pixels: what `datasets` decoded, or what is left encoded."""
    cell: Any = given
    if isinstance(given, dict):
        stored = cast("dict[str, Any]", given)
        cell = stored.get("bytes") or stored.get("path")
    if isinstance(cell, bytes):
        return Picture(data=cell, origin=origin)
    if isinstance(cell, str) and Path(cell).is_file():
        return Picture(path=Path(cell), origin=cell)
    convert: Any = getattr(cast("object", cell), "convert", None)
    if convert is None:
        raise TaskError(
            "a task's `doc_to_image` gives something that is no picture",
            where=origin,
            expected="a list of PIL pictures, encoded bytes, or paths",
            found=repr(cell)[:80],
            remedy="mend `doc_to_image` in the task's YAML",
        )
    pixels: Any = convert("RGB")
    pixels.info.clear()  # No orientation: what lm-eval shows is what is there.
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG", compress_level=1)
    return Picture(data=buffer.getvalue(), origin=origin)


def _question(label: str, task: Any, number: str, requests: Sequence[Any], where: str) -> Question:
    first = requests[0]
    text = task.doc_to_text(first.doc)
    options = _options(task, first.doc)
    target = text if isinstance(text, int) else task.doc_to_target(first.doc)
    lines = [text] if isinstance(text, str) and text.strip() else []
    lines += [f"- {option}" for option in options or ()]
    if not lines:
        lines = [str(argument) for argument in first.args if isinstance(argument, str) and argument.strip()]
    if first.request_type not in ("generate_until", "loglikelihood", "loglikelihood_rolling"):
        raise TaskError(
            "a task asks in a way that is not known here",
            where=f"{where}, document {number}",
            expected="generate_until, loglikelihood, loglikelihood_rolling",
            found=str(first.request_type),
            remedy="choose another task",
        )
    if first.request_type == "generate_until":
        decoding_of(first.args[1])
    pictures = cast("tuple[Picture, ...]", first.args[-1]["visual"]) if _sees(first.args) else ()
    return Question(number, label, "\n".join(lines) or f"document {number}", pictures, _references(target, options))


def _sees(arguments: Sequence[Any]) -> bool:
    return isinstance(arguments[-1], dict) and "visual" in arguments[-1]


def _options(task: Any, document: Any) -> list[str] | None:
    """The options of a document, where it has some."""
    config = getattr(task, "config", None)
    if getattr(config, "output_type", None) != "multiple_choice" or getattr(config, "doc_to_choice", None) is None:
        return None
    return [str(option) for option in task.doc_to_choice(document)]


def _references(target: Any, options: Sequence[str] | None) -> tuple[str, ...]:
    several = cast("list[Any]", target) if isinstance(target, list) else [target]
    found = [
        options[each] if options is not None and isinstance(each, int) and 0 <= each < len(options) else str(each)
        for each in several
    ]
    return tuple(found) or ("",)


def _protocol(task: Any, requests: Requests, chat: bool) -> str:
    first = next(iter(requests.values()))[0]
    if first.request_type == "generate_until":
        decoding, stops = decoding_of(first.args[1])
        ends = f", stopped by {' or '.join(map(repr, stops))}" if stops else ""
        how = decoding.describe() + ends
    else:
        how = "log-likelihoods, nothing is generated"
    return f"{how}; {task.config.num_fewshot}-shot, {'chat template' if chat else 'no chat template'}"


def _digest(task: Any, requests: Requests) -> str:
    """sha256 of everything that the questions and their scores are made of, the code of the task included."""
    digest = hashlib.sha256()
    files: dict[str, str] = {}

    def plain(value: Any) -> Any:
        if callable(value):
            file = inspect.getsourcefile(inspect.unwrap(value)) if inspect.isroutine(value) or inspect.isclass(value) else None
            if file is not None and file not in files:
                files[file] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
            return [getattr(value, "__qualname__", type(value).__name__), files.get(file or "")]
        if isinstance(value, Picture):
            return value.digest
        if isinstance(value, Mapping):
            return {str(key): plain(each) for key, each in cast("Mapping[Any, Any]", value).items()}
        if isinstance(value, list | tuple):
            return [plain(each) for each in cast("Sequence[Any]", value)]
        return value if isinstance(value, str | int | float | bool) or value is None else repr(value)

    left_out = ("metadata", "fewshot_config")
    config = {key: value for key, value in cast("dict[str, Any]", vars(task.config)).items() if key not in left_out}
    parts: list[Any] = [config, *([one.args for one in each] for each in requests.values())]
    for part in parts:
        digest.update(json.dumps(plain(part), sort_keys=True, ensure_ascii=False).encode())
    for each in requests.values():
        digest.update(json.dumps(plain(_target(task, each[0].doc)), ensure_ascii=False).encode())
    return digest.hexdigest()


def _target(task: Any, document: Any) -> Any:
    return [task.doc_to_target(document), task.doc_to_text(document)]


# ── asking ──


def _answer(model: Any, requests: Sequence[Any], progress: Callable[[int], None] | None) -> list[int]:
    """Puts the model's responses into requests; gives tokens written for each."""
    kinds: dict[str, list[int]] = {}
    for place, request in enumerate(requests):
        kinds.setdefault(request.request_type, []).append(place)
    tokens = [0] * len(requests)
    for kind, places in kinds.items():
        asked = [requests[place] for place in places]
        if kind == "generate_until":
            for place, said in zip(places, _written(model, asked, progress), strict=True):
                requests[place].resps.extend(text for text, _ in said)
                tokens[place] = sum(count for _, count in said)
            continue
        found = model.loglikelihood(asked, progress=progress) if kind == "loglikelihood" else model.loglikelihood_rolling(asked)
        for place, one in zip(places, found, strict=True):
            requests[place].resps.extend([one] * (requests[place].repeats or 1))
    return tokens


def _written(model: Any, requests: Sequence[Any], progress: Callable[[int], None] | None) -> list[list[tuple[str, int]]]:
    """Texts with their tokens; of a request that is repeated several, which are the same where nothing is drawn."""
    drawn = [decoding_of(request.args[1])[0].temperature > 0 for request in requests]
    times = [int(request.repeats or 1) for request in requests]
    several = [
        request for request, again, draws in zip(requests, times, drawn, strict=True) for _ in range(again if draws else 1)
    ]
    answers = iter(model.answers(several, progress))
    return [
        [next(answers) for _ in range(again)] if draws else [next(answers)] * again
        for again, draws in zip(times, drawn, strict=True)
    ]


def _scaled(progress: Callable[[int], None] | None, questions: int, requests: int) -> Callable[[int], None] | None:
    """Progress in requests as progress in questions."""
    if progress is None:
        return None
    done = told = 0

    def count(more: int) -> None:
        nonlocal done, told
        done = min(done + more, requests)
        now = questions * done // requests
        progress(now - told)
        told = now

    return count
