"""Niches: each question's credit is divided among the candidates of a generation that answer it.

Fitness sharing as in M2N2 (Abrantes et al., 2025): a question that everybody answers gives each a little, one that a single
candidate answers gives it all, so that those are kept that can do what others cannot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vlmerge.task_weights import counted

if TYPE_CHECKING:
    from vlmerge.store import Split, Store


def shared_credit(store: Store, trials: Mapping[int, object], split: Split = "search") -> dict[int, float]:
    """Trial → the sum of its parts of all questions' credit, 0 to 1; together at most 1, and less where nobody answers.

    A question's credit is its task's weight (without its sign) over the number of the task's questions; it is divided in
    proportion to the scores. Of a task of negative weight less is better.

    Args:
        store: The run's store.
        trials: The candidates of one generation that have answers on the set.
        split: The set.
    """
    weights = {task.task: task.weight for task in store.tasks(split) if task.weight}
    whole = math.fsum(map(abs, weights.values()))
    scores: dict[int, dict[tuple[str, str], float]] = {}
    for trial in trials:
        scores[trial] = {
            (answer.task, answer.question): counted(answer.score, weights[answer.task])
            for answer in store.answers(trial, split)
            if answer.task in weights
        }
    questions = list(dict.fromkeys(question for own in scores.values() for question in own))
    asked = {task: sum(question[0] == task for question in questions) for task in weights}
    taken = {question: math.fsum(own.get(question, 0.0) for own in scores.values()) for question in questions}
    return {
        trial: math.fsum(
            abs(weights[task]) / whole / asked[task] * score / taken[task, question]
            for (task, question), score in own.items()
            if score > 0
        )
        for trial, own in scores.items()
    }
