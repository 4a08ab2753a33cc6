"""Rotation in a run: which questions a generation is asked, what its scores say of all questions, and who is asked the rest.

A candidate that was asked a share has an estimate, not a score: its mean there, corrected by what hand-set merges, which are
asked everything, score more on all questions than on that share.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from vlmerge.search.racing import PICTURES
from vlmerge.search.rotating import FIRST_SHARE, NOISY, chosen, lengthened, next_share, reliability
from vlmerge.standing import estimates, set_score
from vlmerge.tasks.sets import narrowed

if TYPE_CHECKING:
    from vlmerge.bench import Bench
    from vlmerge.raced import Course
    from vlmerge.search import Stage
    from vlmerge.search.racing import Scores
    from vlmerge.store import Store, Trial
    from vlmerge.tasks.sets import Asked
    from vlmerge.watching import Watch

FINALISTS = "asked_the_rest"
"""Key of the store: the trials that are chosen to be asked the other search questions."""


def questions_of(stage: Stage, place: tuple[int, int], tasks: Sequence[Asked], store: Store) -> tuple[Asked, ...]:
    """What a generation is asked of the search questions; all of them, those that do not count too, where its share is 1.

    Args:
        stage: The search.
        place: Its number and the generation's, from 0.
        tasks: The search questions.
        store: Knows the share, where answers decide it.
    """
    decided: Mapping[str, float] = store.get("shares", {})
    if _share(stage, place, decided) == 1:
        return tuple(tasks)
    shares = [_share(stage, (place[0], at), decided) for at in range(place[1] + 1)]
    seed = zlib.crc32(f"{stage.seed}/{place[0]}".encode())
    pictures = {one.task.name: [question.group for question in one.questions] for one in tasks if one.weight}
    count = len(set(chain.from_iterable(pictures.values())))
    # Within each task, since whatever is drawn of a task has its whole weight; of `PICTURES` in all it gets its part.
    asked = {
        name: chosen(own, shares, seed, math.ceil(PICTURES * len(set(own)) / count)) for name, own in pictures.items() if own
    }
    # What does not count is asked beside, where it is about the same pictures.
    anywhere = frozenset[str]().union(*asked.values())
    return narrowed(tasks, lambda one, question: question.group in asked.get(one.task.name, anywhere))


def share_of(stage: Stage, place: tuple[int, int], store: Store) -> float:
    """The share of the search pictures that a generation is asked.

    Args:
        stage: The search.
        place: Its number and the generation's, from 0.
        store: Knows what answers have decided.
    """
    return _share(stage, place, store.get("shares", {}))


def _share(stage: Stage, place: tuple[int, int], decided: Mapping[str, float]) -> float:
    return decided.get(place_key(place), FIRST_SHARE if stage.rotate == "auto" else float(stage.rotate))


def ask_share(place: tuple[int, int], share: float, store: Store) -> None:
    """Writes down which share of the search pictures a generation is asked."""
    store.set("shares", {**store.get("shares", {}), place_key(place): share})


def place_key(place: tuple[int, int]) -> str:
    """Stage and generation as a key of the store's."""
    return f"{place[0]}/{place[1]}"


def learn_share(stage: Stage, place: tuple[int, int], course: Course, scores: Scores, store: Store, watch: Watch) -> None:
    """Writes down which share the next generation is asked, where the answers of this one decide it; and says so.

    Args:
        stage: The search.
        place: Its number and this generation's.
        course: What was asked.
        scores: (candidates, questions of the course).
        store: The run's store.
        watch: Who is told.
    """
    if stage.rotate != "auto":
        return
    known = reliability_of(course, scores)
    share = next_share(share_of(stage, place, store), known)
    ask_share((place[0], place[1] + 1), share, store)
    if known is not None:
        noisy = known < NOISY and share == 1 and not stage.adapts  # One that adapts says what it does about it.
        more = "all, and more search questions would tell more than more candidates" if noisy else f"{100 * share:.0f} %"
        watch.say(f"reliability of the ranks {known:.2f}: of the search pictures the next generation is asked {more}")


def reliability_of(course: Course, scores: Scores) -> float | None:
    """How reliable the ranks of a generation are, by the whole share that it was asked; None where there is too little to tell.

    Args:
        course: What was asked.
        scores: (candidates, questions of the course).
    """
    rows = scores[~np.isnan(scores).all(axis=1)]
    places = np.flatnonzero(~np.isnan(rows).any(axis=0))
    if not len(places):
        return None
    race = course.race
    pictures = [race.pictures[at] for at in places]
    known = reliability(rows[:, places], pictures, [race.weights[at] for at in places])
    # In a race all have answered a part of the share alone.
    return None if known is None else lengthened(known, len(set(race.pictures)) / len(set(pictures)))


def difficulty(course: Course, scores: Scores, tasks: Sequence[Asked], store: Store) -> float:
    """What a generation would score more on all search questions than on its own, as the better half of hand-set merges tells.

    A regression estimator (Cochran, "Sampling Techniques", 1977, chapter 7), with one slope for the whole generation: its ranks
    are those of its means.

    Args:
        course: What was asked.
        scores: (candidates, questions of the course).
        tasks: All search questions.
        store: The run's store.
    """
    by_hand = [(score, trial) for trial in store.trials() if trial.kind == "baseline"
               if (score := set_score(store, trial, "search")) is not None]  # fmt: skip
    by_hand.sort(key=lambda pair: -pair[0])
    better = by_hand[: math.ceil(len(by_hand) / 2)]
    rows = scores[~np.isnan(scores).any(axis=1)]
    if not better or not len(rows) or len(course.questions) == sum(len(one.questions) for one in tasks if one.weight):
        return 0.0
    weights = np.array(course.race.weights)
    known = np.mean([course.scores_of(store, trial) for _, trial in better], axis=0)
    own = rows.mean(axis=0)
    apart = known - np.average(known, weights=weights)
    spread = float(np.average(apart**2, weights=weights))
    slope = float(np.average(apart * own, weights=weights)) / spread if spread else 0.0
    return slope * (math.fsum(score for score, _ in better) / len(better) - float(np.average(known, weights=weights)))


def ask_finalists_the_rest(store: Store, bench: Bench, watch: Watch, count: int) -> None:
    """Asks the best candidates by their estimates what they were not asked of the search questions: then they have scores.

    Args:
        store: The run's store.
        bench: Asks.
        watch: Who is told.
        count: How many stand for election.
    """
    if store.get("standing") is not None:
        return
    picked: list[int] | None = store.get(FINALISTS)
    if picked is None:
        known = estimates(store)
        alone: dict[str, Trial] = {}
        for trial in sorted((trial for trial in store.trials() if trial.trial in known), key=lambda each: -known[each.trial]):
            alone.setdefault(trial.recipe, trial)
        best = list(alone.values())[:count]
        picked = [trial.trial for trial in best]
        # Before they are asked: one that fails on the rest has no estimate any more, and nobody moves up for it.
        if any(trial.status == "sampled" for trial in best):
            store.set(FINALISTS, picked)
    trials = {trial.trial: trial for trial in store.trials()}
    lacking = [trials[number] for number in picked if trials[number].status == "sampled"]
    if lacking:
        with watch.step("finalists, the other search questions", len(lacking)):
            for trial in lacking:
                whole = bench.ask_the_rest(trial)
                watch.tried(whole, bench.score(whole, "search"))
