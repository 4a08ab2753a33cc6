"""A race, held: a generation is asked block by block, and what the store holds says who is still asked (`search/racing.py`).

Every answer of a block is written before anything is decided by it, and everything that is decided follows from what is
written: a race that was interrupted goes on to the same end. A candidate is merged anew for each block that it is asked, since
only one of them is in memory; docs/search.md says what that costs.

Only tasks that count can decide a race. Questions of tasks of weight 0 are asked with the last block, of those that come to it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from vlmerge.config import RacingSpec
from vlmerge.search.racing import PICTURES, Race, Scores
from vlmerge.task_weights import counted
from vlmerge.tasks.sets import narrowed

if TYPE_CHECKING:
    from vlmerge.bench import Bench, Candidate
    from vlmerge.config import RunConfig
    from vlmerge.store import Status, Store, Trial
    from vlmerge.tasks.sets import Asked, Sets
    from vlmerge.watching import Watch


@dataclass(frozen=True)
class Course:
    """How one generation is asked.

    Attributes:
        race: The statistics, over the questions of tasks that count, in their order.
        parts: What is asked in each block.
        questions: Task and id of each of the race's questions.
        weights: Task → weight, of the tasks that count.
        ends: What becomes of a candidate that is asked all this: `scored`, or `sampled` where there are other questions.
    """

    race: Race
    parts: tuple[tuple[Asked, ...], ...]
    questions: tuple[tuple[str, str], ...]
    weights: Mapping[str, float]
    ends: Status

    @classmethod
    def of(
        cls,
        tasks: Sequence[Asked],
        spec: RacingSpec | None,
        place: tuple[int, int, int],
        candidates: int,
        *,
        whole: bool = True,
    ) -> Course:
        """Deals the questions of a generation into blocks.

        Args:
            tasks: What it is asked.
            spec: How the run races; None: everybody is asked everything, in one block.
            place: Seed, stage and generation: every generation has an order of its own.
            candidates: How many take part.
            whole: Whether these are all search questions.
        """
        counting = [asked for asked in tasks if asked.weight]
        questions = [question for asked in counting for question in asked.questions]
        race = Race.deal(
            [question.group for question in questions],
            survivors=candidates if spec is None else max(1, int(spec.survivors * candidates)),
            error_rate=0.5 if spec is None else spec.error_rate,
            blocks=1 if spec is None else spec.blocks,
            # A task's questions have its weight together, as in `standing.set_score`.
            weights=[abs(asked.weight) / len(asked.questions) for asked in counting for _ in asked.questions],
            seed=zlib.crc32("/".join(map(str, place)).encode()),
        )
        keys = tuple((question.task, question.id) for question in questions)
        blocks = [{keys[at] for at in block} for block in race.blocks]
        blocks[-1] |= {(each.task, each.id) for asked in tasks if not asked.weight for each in asked.questions}
        parts = tuple(_part(tasks, block) for block in blocks)
        weights = {asked.task.name: asked.weight for asked in tasks if asked.weight}
        return cls(race, parts, keys, weights, "scored" if whole else "sampled")

    def run(self, candidates: Sequence[Candidate], bench: Bench, store: Store, watch: Watch, *, again: bool = False) -> Scores:
        """Holds the race, or goes on with it.

        Args:
            candidates: The generation.
            bench: Merges and asks.
            store: The run's store.
            watch: Told of each candidate whose race is over.
            again: Whether it was told of these candidates already, which are now asked more.

        Returns:
            (candidates, questions): `race.fitness` makes of them what the optimizer is told.
        """
        asked = list(accumulate(sum(len(each.questions) for each in part) for part in self.parts))
        trials = [store.trial(candidate.label) for candidate in candidates]
        scores = np.stack([self.scores_of(store, trial) for trial in trials])
        for at, trial in enumerate(trials):
            if not again and trial is not None and self._is_over(trial, scores[at]):
                watch.tried(trial, self._mean(trial, scores[at]))
        for block, places in enumerate(self.race.blocks):
            for at in self.race.running(scores, block):
                trial = trials[at]
                if (trial is None or trial.status != "failed") and np.isnan(scores[at, list(places)]).any():
                    then: Status = self.ends if block == len(self.parts) - 1 else "racing"
                    trial = bench.try_part(candidates[at], self.parts[block], then)
                    trials[at], scores[at] = trial, self.scores_of(store, trial)
                    watch.asked_a_part()
                    if not again and trial.status != "racing":
                        watch.tried(trial, self._mean(trial, scores[at]))
            for at in self.race.to_stop(scores, block):
                stopped = bench.stop(candidates[at].label, f"stopped after {asked[block]} of {asked[-1]} questions")
                if trials[at] != stopped:
                    trials[at] = stopped
                    watch.tried(stopped, None)
        failed = [at for at, trial in enumerate(trials) if trial is not None and trial.status == "failed"]
        scores[failed] = np.nan
        return scores

    def _is_over(self, trial: Trial, scores: Scores) -> bool:
        """Whether it is asked no more. One that was asked a smaller share, before a kill, is not yet."""
        return trial.status in ("stopped", "failed") or (trial.status != "racing" and not np.isnan(scores).any())

    def _mean(self, trial: Trial, scores: Scores) -> float | None:
        """Of whoever was asked everything."""
        return float(np.average(scores, weights=self.race.weights)) if trial.status in ("scored", "sampled") else None

    def scores_of(self, store: Store, trial: Trial | None) -> Scores:
        """Of each of the race's questions; NaN where it was not asked.

        One that failed keeps what it had answered before: others were compared with it then.
        """
        found: dict[tuple[str, str], float] = {}
        for answer in [] if trial is None else store.answers(trial.trial, "search"):
            if answer.task in self.weights:
                found[answer.task, answer.question] = counted(answer.score, self.weights[answer.task])
        return np.array([found.get(key, np.nan) for key in self.questions])


def with_races(run: RunConfig, sets: Sets) -> RunConfig:
    """The run with `racing: auto` decided: there are races where they save time.

    A GPU answers a batch in hardly more time than one question, so that a block has to fill a batch there; a CPU's time grows
    with the questions.

    Args:
        run: The run, its device and batch size decided.
        sets: Its questions.
    """
    if run.search.racing != "auto":
        return run
    counting = [question for asked in sets.search if asked.weight for question in asked.questions]
    spec = RacingSpec()
    blocks = min(spec.blocks, _pictures(sets) // PICTURES)
    fills = blocks > 1 and (run.runtime.device == "cpu" or len(counting) // blocks >= int(run.runtime.batch_size))
    search = run.search.model_copy(update={"racing": spec if run.may_race and fills else None})
    return run.model_copy(update={"search": search})


def race_note(sets: Sets, asked: RacingSpec | str | None, used: RacingSpec | str | None) -> str | None:
    """What is to be said of races: where a run wants them and has too few pictures, or was not asked and has them.

    Args:
        sets: The run's questions.
        asked: What its file says.
        used: What was decided.
    """
    if isinstance(used, RacingSpec) and _pictures(sets) < 2 * PICTURES:
        few = f"they take {2 * PICTURES} pictures, and the search has {_pictures(sets)}"
        return f"no races: {few}; every candidate is asked everything"
    if isinstance(used, RacingSpec) and asked == "auto":
        return "races: who will not be among the best of its generation is asked no further (`racing: false` asks everybody)"
    return None


def _pictures(sets: Sets) -> int:
    return len({question.group for asked in sets.search if asked.weight for question in asked.questions})


def _part(tasks: Sequence[Asked], chosen: set[tuple[str, str]]) -> tuple[Asked, ...]:
    return narrowed(tasks, lambda _, question: (question.task, question.id) in chosen)
