"""What a score does not show: whether answers are in the references' writing, how long they are, whether they run in circles.

Overlap metrics can be gamed by length and repetition, so these stand beside every score.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vlmerge.store import QuestionRecord, Split, Store
from vlmerge.writing import script

LOOP = re.compile(r"(.{1,60}?)\1{3,}", flags=re.DOTALL)
"""Something that stands four times or more in a row."""
SHORTEST_LOOP = 12
"""Characters that such a run has at least: people, too, say something four times."""


@dataclass(frozen=True)
class Sanity:
    """Of one candidate's answers on one set, tasks that are no part of the score left out.

    Attributes:
        candidate: Row of the tables.
        trial: Its trial.
        set: The set.
        answers: How many.
        same_script: Share of them in the writing system of a reference, 0 to 1; what has no letters disagrees with nothing.
        length: Mean number of characters, outer white space left out.
        reference_length: Of the shortest reference of each question.
        loops: Share of the answers most of which is one thing repeated.
        empty: Share of the answers without a character.
    """

    candidate: str
    trial: int
    set: Split
    answers: int
    same_script: float
    length: float
    reference_length: float
    loops: float
    empty: float


def sanity(store: Store, places: Mapping[str, int], split: Split) -> list[Sanity]:
    """What there is to say of every candidate that was asked a set.

    Args:
        store: The run's store.
        places: Candidate → trial.
        split: The set.
    """
    counted = {task.task for task in store.tasks(split) if task.weight}
    questions = {(one.task, one.question): one for one in store.questions(split) if one.task in counted}
    known: dict[int, Sanity] = {}
    found: list[Sanity] = []
    for candidate, trial in places.items():
        if trial not in known:
            given = [
                (questions[one.task, one.question], one.text) for one in store.answers(trial, split) if one.task in counted
            ]
            if not given:
                continue
            known[trial] = _of(candidate, trial, split, given)
        one = known[trial]
        found.append(replace(one, candidate=candidate))
    return found


def _of(candidate: str, trial: int, split: Split, given: Sequence[tuple[QuestionRecord, str]]) -> Sanity:
    texts = [text.strip() for _, text in given]
    shortest = [min(len(reference.strip()) for reference in question.references) for question, _ in given]
    alike = [
        any(_agree(script(text), script(reference)) for reference in question.references)
        for (question, _), text in zip(given, texts, strict=True)
    ]
    count = len(given)
    return Sanity(
        candidate=candidate,
        trial=trial,
        set=split,
        answers=count,
        same_script=round(sum(alike) / count, 4),
        length=round(sum(map(len, texts)) / count, 2),
        reference_length=round(sum(shortest) / count, 2),
        loops=round(sum(map(runs_in_circles, texts)) / count, 4),
        empty=round(sum(not text for text in texts) / count, 4),
    )


def runs_in_circles(text: str) -> bool:
    """Whether most of a text is one thing repeated."""
    return any(
        len(match.group()) >= max(SHORTEST_LOOP, len(text) / 2) for match in LOOP.finditer(text) if match.group(1).strip()
    )


def _agree(ours: str | None, theirs: str | None) -> bool:
    return ours is None or theirs is None or ours == theirs
