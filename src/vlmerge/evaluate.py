"""A live model × tasks → answers and scores. The same function scores a candidate of a run and a finished checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from vlmerge.errors import CandidateFailure
from vlmerge.evaluations import Evaluation, Keep, evaluation, say_what_it_takes
from vlmerge.holdout import count_look
from vlmerge.store import AnswerRecord, Split
from vlmerge.tasks.judge import JudgedTask, scores_of
from vlmerge.tasks.task import AskingTask, Said
from vlmerge.types import Answer, Decoding, Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vlmerge.bench import Observer
    from vlmerge.checkpoint import Progress
    from vlmerge.tasks.sets import Asked


class Answering(Protocol):
    """What evaluation needs of a live model."""

    def answer(
        self, questions: Sequence[Question], decoding: Decoding, progress: Callable[[int], None] | None = None
    ) -> Iterator[Answer]: ...

    def lm_eval(self) -> Any: ...

    def prompt(self, question: Question) -> str: ...


def evaluate(
    live: Answering,
    tasks: Sequence[Asked],
    split: Split,
    progress: Callable[[int], None] | None = None,
    *,
    allow_empty: bool = False,
) -> list[AnswerRecord]:
    """Asks and scores.

    Args:
        live: The model.
        tasks: What to ask.
        split: Name of the set, for the record.
        progress: Told the number of answers after each batch.
        allow_empty: Whether a model that says nothing at all is scored all the same. In a run it is not: a merge that is
            broken should rank below every one that speaks.

    Returns:
        One record per question, tasks and questions in order.

    Raises:
        CandidateFailure: The model failed, or every answer is empty (unless `allow_empty`).
    """
    # Tasks that decode alike are asked together: questions of several tasks about one picture share its reading. What is
    # sampled depends on its batch, so that a task that samples is asked alone.
    alike: dict[tuple[Decoding, str | None], list[Question]] = {}
    for asked in tasks:
        if isinstance(asked.task, AskingTask):
            continue
        alone = asked.task.name if asked.decoding.temperature > 0 else None
        alike.setdefault((asked.decoding, alone), []).extend(asked.questions)
    answers: dict[tuple[str, str], Answer] = {
        (answer.question.task, answer.question.id): answer
        for (decoding, _), questions in alike.items()
        for answer in live.answer(questions, decoding, progress)
    }
    mute = not any(answer.text.strip() for answer in answers.values())
    whole = not any(isinstance(asked.task, AskingTask) for asked in tasks)
    if mute and whole and not allow_empty and any(isinstance(asked.task, JudgedTask) for asked in tasks):
        raise CandidateFailure("every answer is empty")  # No judge need be asked about it.
    records: list[AnswerRecord] = []
    for asked in tasks:
        if isinstance(asked.task, AskingTask):
            said = asked.task.ask(live.lm_eval(), asked.questions, progress)
        else:
            given = [answers[question.task, question.id] for question in asked.questions]
            scores = scores_of(asked.task, asked.questions, [one.text for one in given])
            said = [Said(one.text, one.tokens, score) for one, score in zip(given, scores, strict=True)]
        records += [
            AnswerRecord(split, asked.task.name, question.id, one.text, one.tokens, one.score)
            for question, one in zip(asked.questions, said, strict=True)
        ]
    if records and not allow_empty and not any(record.text.strip() for record in records):
        raise CandidateFailure("every answer is empty")
    return records


def example_prompt(live: Answering, asked: Asked) -> str:
    """A real prompt of a task, as the model gets it."""
    question = asked.questions[0]
    return asked.task.prompt(live.lm_eval(), question) if isinstance(asked.task, AskingTask) else live.prompt(question)


def evaluate_model(
    model: str,
    specs: Sequence[Mapping[str, Any]],
    *,
    preset: str | None,
    max_new_tokens: int | None,
    device: str,
    search_path: Sequence[str] = (),
    name: str | None = None,
    observer: Observer,
    progress: Progress | None = None,
    keep: Keep | None = None,
) -> list[Evaluation]:
    """Scores a checkpoint on tasks: the verb `evaluate`.

    Args:
        model: A folder (a run folder stands for its winner) or a hub id.
        specs: Tasks, as in a run file.
        preset: Protocol of a published experiment.
        max_new_tokens: Longest answer, over the preset's.
        device: auto, cpu or cuda.
        search_path: Folders with tasks of lm-eval.
        name: What results call it; None: as it is named here.
        observer: Shows how far it is.
        progress: Told of bytes downloaded.
        keep: Told the results so far after each task.

    Raises:
        CheckpointError: A model that cannot be opened, or that cannot answer. One that says nothing gets the score of that.
    """
    from vlmerge.ask import failing_as_error, load_model
    from vlmerge.config.run import RuntimeSpec, parse_tasks
    from vlmerge.tasks.sets import ask_tasks, template_of

    tasks = parse_tasks(specs, "evaluate")
    asked = ask_tasks(tasks, preset=preset, max_new_tokens=max_new_tokens, search_path=search_path)
    say_what_it_takes(asked, observer)
    live = load_model(
        model, RuntimeSpec.model_validate({"device": device}), template=template_of(tasks, preset), progress=progress
    )
    results: list[Evaluation] = []
    look: str | None = None
    for one in asked:
        observer.begin(one.task.name, len(one.questions))
        try:
            with failing_as_error(model):
                records = evaluate(live, [one], "holdout", observer.advance, allow_empty=True)
        finally:
            observer.end()
        look = count_look(model, one, observer, look)  # Before anybody is told a score.
        texts, scores = [record.text for record in records], [record.score for record in records]
        protocol = one.protocol, example_prompt(live, one)
        results.append(evaluation(name or model, one, texts, scores, protocol))
        if keep is not None:
            keep(results)
    return results
