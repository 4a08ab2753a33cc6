"""What loggers are told, from the store: a generation's figures, and the final table. Scores are points of 100."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from vlmerge.fitness import outside, plain_scores
from vlmerge.report import Row
from vlmerge.store import Generation, Store, Trial
from vlmerge.trial_means import task_means

TABLE_HEAD = ("candidate", "set", "task", "metric", "score", "low", "high", "questions", "winner_minus_row")


def told(store: Store) -> list[Generation]:
    """The generations that were told, in the order of the search: the first is step 1."""
    return [each for each in store.generations() if each.fitness is not None]


class Known:
    """Scores of generations that were told, which nothing can change any more: each is read once, however many steps follow.

    Args:
        store: The run's store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[tuple[int, int], list[float | None]] = {}

    def kept(self, generation: Generation) -> list[float | None]:
        """Scores (0 to 1) of the candidates that keep the constraints; None where one failed, was stopped, or breaks them."""
        place = generation.stage, generation.generation
        if place not in self._kept:
            pairs = zip(plain_scores(self._store, generation), outside(self._store, generation), strict=True)
            self._kept[place] = [None if broken else score for score, broken in pairs]
        return self._kept[place]


def generation_figures(store: Store, generations: Sequence[Generation], step: int, known: Known) -> dict[str, float]:
    """What generation number `step` (from 1) of the run came to.

    Args:
        store: The run's store.
        generations: All that were told.
        step: Which one.
        known: Their scores, as far as they were read.

    Returns:
        Key → figure: `search/best` is the best so far; `max`, `mean`, `deviation` and `min` are the generation's own; of each
        task, its best candidate's score and the mean. Of a generation in which every candidate failed, no scores. Whoever a
        race stopped is counted (`stopped`), and is in no score.
    """
    this = generations[step - 1]
    fitness = [[100 * score for score in known.kept(each) if score is not None] for each in generations[:step]]
    stopped = [len(store.stopped(each.stage, each.generation)) for each in generations[:step]]
    scores, broken = fitness[-1], sum(outside(store, this))
    figures: dict[str, float] = {
        "search/stage": this.stage + 1,
        "search/generation": this.generation + 1,
        "search/candidates": sum(len(each.genomes) for each in generations[:step]),
        "search/failed": sum(each is None for each in this.fitness or ()),
    }
    if broken:
        figures["search/outside_constraints"] = broken
    if any(stopped):
        figures["search/stopped"] = stopped[-1]
    if this.sigma is not None:
        figures["search/step_size"] = this.sigma
    if this.seconds is not None:
        figures["search/seconds"] = this.seconds
    best = max((score for each in fitness for score in each), default=None)
    if best is not None:
        figures["search/best"] = best
    if scores:
        mean = math.fsum(scores) / len(scores)
        figures["search/max"], figures["search/min"], figures["search/mean"] = max(scores), min(scores), mean
        figures["search/deviation"] = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
        figures |= _by_task(store, this, known.kept(this))
    return figures


def _by_task(store: Store, generation: Generation, fitness: Sequence[float | None]) -> dict[str, float]:
    """Mean of every task over the generation's candidates, and what its best candidate scores there."""
    members = [
        trial
        for trial in store.trials()
        if (trial.kind, trial.stage, trial.generation) == ("searched", generation.stage, generation.generation)
        and trial.is_whole
    ]
    scored = [(score, trial) for trial in members if (score := _told_score(fitness, trial)) is not None]
    means = {trial.trial: task_means(store, trial.trial, "search") for _, trial in scored}
    figures: dict[str, float] = {}
    if not scored:
        return figures
    best = max(scored, key=lambda pair: pair[0])[1]
    for task in store.tasks("search"):
        values = [means[trial.trial][task.task] for _, trial in scored if task.task in means[trial.trial]]
        if values:
            figures[f"task/{plain_key(task.task)}/mean"] = 100 * math.fsum(values) / len(values)
        if task.task in means[best.trial]:
            figures[f"task/{plain_key(task.task)}/of_the_best"] = 100 * means[best.trial][task.task]
    return figures


def _told_score(fitness: Sequence[float | None], trial: Trial) -> float | None:
    place = trial.position
    return fitness[place] if place is not None and place < len(fitness) else None


def final_figures(rows: Sequence[Row]) -> dict[str, float]:
    """Every row of the final table as one figure, `final/SET/TASK/CANDIDATE`."""
    return {f"final/{row.set}/{plain_key(row.task)}/{plain_key(row.candidate)}": row.score for row in rows}


def final_table(rows: Sequence[Row]) -> list[list[str | float | None]]:
    """The rows of the final table, one list for each, as `TABLE_HEAD` names their columns."""
    return [
        [
            row.candidate,
            row.set,
            row.task,
            row.metric,
            row.score,
            row.low,
            row.high,
            row.questions,
            None if row.winner_minus_row is None else row.winner_minus_row.mean,
        ]
        for row in rows
    ]


def plain_key(name: str) -> str:
    """A name as every logger takes it: letters, digits, `_`, `-` and `.`; anything else is `_`."""
    return re.sub(r"[^\w.-]", "_", name)


def markdown(head: Sequence[str], table: Sequence[Sequence[str | float | None]]) -> str:
    """The table for what shows Markdown."""

    def cell(value: str | float | None) -> str:
        text = "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        return text.replace("|", "\\|")

    lines = [head, ["---"] * len(head), *([cell(value) for value in row] for row in table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def flat(config: Mapping[str, object], under: str = "") -> dict[str, object]:
    """A run's settings as one level: `search.seed`. Lists are told as text."""
    found: dict[str, object] = {}
    for key, value in config.items():
        name = f"{under}.{key}" if under else str(key)
        if isinstance(value, Mapping):
            found |= flat(value, name)  # pyright: ignore[reportUnknownArgumentType] - plain YAML
        else:
            found[name] = value
    return found
