"""Search, validation and holdout: cutting by picture, never by row, and finding what stands on both sides.

A question's *units* are its pictures, each known by the digest of its decoded pixels, so that the same picture saved in another
format or with other metadata is the same unit; a question without pictures has its text as its unit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from vlmerge.errors import TaskError
from vlmerge.types import Question


def units(question: Question) -> tuple[str, ...]:
    """What the question is about. Decodes its pictures; raises TaskError for a broken one."""
    if not question.pictures:
        return (f"text:{question.group}",)
    return tuple(f"pixels:{picture.digest}" for picture in question.pictures)


def split_by_image(
    questions: Sequence[Question], fraction: float, seed: int
) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """Cuts questions into search and validation so that no picture is on both sides.

    Pictures that one question shows together stay together. The pictures are ordered by a seeded hash of their pixels and the
    first `fraction` of them is validation: the order of the questions, file names and PYTHONHASHSEED change nothing. Give it
    the questions of all tasks at once: tasks that share pictures are then cut at the same place.

    Args:
        questions: Of one task or of several.
        fraction: Part of the pictures that becomes validation, 0 ≤ fraction < 1. 0 leaves validation empty; otherwise both
            sides get at least one picture.
        seed: Seed of the hash.

    Returns:
        (search, validation), each in the order of `questions`.

    Raises:
        TaskError: a fraction outside its range, or too few pictures to have two sides.
    """
    if not 0 <= fraction < 1:
        raise TaskError(
            "the validation fraction leaves nothing to search on",
            where="validation.fraction",
            expected="0 or more, and less than 1",
            found=f"{fraction:g}",
            remedy="write for example 0.25",
        )
    if fraction == 0:
        return tuple(questions), ()
    leaders = _together([units(question) for question in questions])
    order = sorted(dict.fromkeys(leaders), key=lambda unit: hashlib.sha256(f"{seed}:{unit}".encode()).hexdigest())
    if len(order) < 2:
        raise TaskError(
            "questions cannot be cut into search and validation",
            where="validation.fraction",
            expected="at least 2 pictures (or texts) that no question ties together",
            found=f"{len(order)}, with {len(questions)} questions",
            remedy="add questions about other pictures, or name tasks of their own under `validation:`",
        )
    chosen = set(order[: min(max(round(fraction * len(order)), 1), len(order) - 1)])
    sides = [leader in chosen for leader in leaders]
    return (
        tuple(question for question, away in zip(questions, sides, strict=True) if not away),
        tuple(question for question, away in zip(questions, sides, strict=True) if away),
    )


def _together(groups: Sequence[tuple[str, ...]]) -> list[str]:
    """For each group, the smallest unit that a chain of shared units leads to: equal for all groups that must stay together."""
    parent: dict[str, str] = {}

    def root(unit: str) -> str:
        while parent.setdefault(unit, unit) != unit:
            parent[unit] = parent[parent[unit]]
            unit = parent[unit]
        return unit

    for group in groups:
        for unit in group[1:]:
            # The smaller name leads, so that the leader does not depend on the order of the groups.
            first, second = sorted((root(group[0]), root(unit)))
            parent[second] = first
    return [root(group[0]) for group in groups]


@dataclass(frozen=True)
class Leak:
    """Something that stands in two sets.

    Attributes:
        sets: The two sets, e.g. ("search", "holdout").
        tasks: The task in each.
        units: Number of pictures (or texts, where there is no picture) in both.
        questions: Questions about those, in each.
        same_questions: Questions of the first set that the second asks too: same pictures, same text.
        example: A question of the second set that the first has seen, and its place.
    """

    sets: tuple[str, str]
    tasks: tuple[str, str]
    units: int
    questions: tuple[int, int]
    same_questions: int
    example: str

    def __str__(self) -> str:
        """One line for a person."""
        again = f", {self.same_questions} of them the very same questions" if self.same_questions else ""
        return (
            f"{self.sets[0]} ({self.tasks[0]}) and {self.sets[1]} ({self.tasks[1]}) share {self.units} pictures or texts: "
            f"{self.questions[0]} and {self.questions[1]} questions{again}; for example {self.example}"
        )


def contamination(search: Sequence[Question], validation: Sequence[Question], holdout: Sequence[Question]) -> tuple[Leak, ...]:
    """Everything that stands on two sides: a whole task, a row, a picture in another file, a text without a picture.

    Rows are compared by what they show and ask, so that a copy of a file under another name is found too.

    Returns:
        One Leak for each pair of tasks that touch, in the order search-validation, search-holdout, validation-holdout; empty
        when the sets are clean. What to do about it is the caller's decision.
    """
    sets = {"search": _by_task(search), "validation": _by_task(validation), "holdout": _by_task(holdout)}
    return tuple(
        leak
        for (first, first_tasks), (second, second_tasks) in combinations(sets.items(), 2)
        for first_task, first_questions in first_tasks.items()
        for second_task, second_questions in second_tasks.items()
        if (leak := leak_between((first, second), (first_task, second_task), first_questions, second_questions))
    )


def _by_task(questions: Sequence[Question]) -> dict[str, list[Question]]:
    tasks: dict[str, list[Question]] = {}
    for question in questions:
        tasks.setdefault(question.task, []).append(question)
    return tasks


def leak_between(
    sets: tuple[str, str], tasks: tuple[str, str], first: Sequence[Question], second: Sequence[Question]
) -> Leak | None:
    """What two lists of questions share; None where that is nothing."""
    shared = {unit for question in first for unit in units(question)} & {
        unit for question in second for unit in units(question)
    }
    if not shared:
        return None
    touching = [[question for question in questions if not shared.isdisjoint(units(question))] for questions in (first, second)]
    asked = {(units(question), question.text) for question in touching[1]}
    example = touching[1][0]
    place = f" ({', '.join(picture.origin for picture in example.pictures)})" if example.pictures else ""
    return Leak(
        sets=sets,
        tasks=tasks,
        units=len(shared),
        questions=(len(touching[0]), len(touching[1])),
        same_questions=sum((units(question), question.text) in asked for question in touching[0]),
        example=f"question {example.id!r}{place}",
    )
