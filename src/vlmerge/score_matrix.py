"""The scores of trials on a set's questions as a matrix: what every interval and comparison is drawn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlmerge.statistics import Floats, Integers
from vlmerge.store import Split, Store, TaskRecord


def score_matrix(
    store: Store, split: Split, tasks: Sequence[TaskRecord], trials: Sequence[int]
) -> tuple[Floats, Integers, Integers]:
    """Trials × questions of these tasks, with task and picture group of each question; NaN where a trial was not asked."""
    task_index = {task.task: index for index, task in enumerate(tasks)}
    questions = [question for question in store.questions(split) if question.task in task_index]
    place = {(question.task, question.question): index for index, question in enumerate(questions)}
    scores = np.full((len(trials), len(questions)), np.nan)
    for at, trial in enumerate(trials):
        for answer in store.answers(trial, split):
            if answer.task in task_index:
                scores[at, place[answer.task, answer.question]] = answer.score
    groups = {group: index for index, group in enumerate(dict.fromkeys(question.group for question in questions))}
    task_of = np.array([task_index[question.task] for question in questions], dtype=np.int64)
    return scores, task_of, np.array([groups[question.group] for question in questions], dtype=np.int64)
