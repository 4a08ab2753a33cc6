"""Noise in a run: a generation is asked until its ranks are reliable; where all questions are not enough, the next is larger.

What is decided follows from answers that are in the store, and is written there before it is followed: an interrupted search
asks the same again. Without `noise: adapt` a generation is asked its share once, in a race or without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vlmerge.raced import Course
from vlmerge.rotation import ask_share, place_key, questions_of, reliability_of, share_of
from vlmerge.search.noise import asked_on, next_population

if TYPE_CHECKING:
    from vlmerge.bench import Bench, Candidate
    from vlmerge.search import Optimizer, Stage
    from vlmerge.search.racing import Scores
    from vlmerge.store import Store
    from vlmerge.watching import Watch

POPULATIONS = "populations"
"""Key of the store: `stage/generation` → how many candidates that generation has, where that was decided."""


def try_until_clear(
    stage: Stage, place: tuple[int, int], candidates: Sequence[Candidate], bench: Bench, store: Store, watch: Watch
) -> tuple[Course, Scores]:
    """Asks a generation its share of the search questions; where a stage adapts to noise, more while ranks are unclear.

    Args:
        stage: The search.
        place: Its number and the generation's, from 0.
        candidates: The generation.
        bench: Merges and asks.
        store: The run's store.
        watch: Who is told.

    Returns:
        What was asked, and the scores: (candidates, questions of the course).
    """
    tasks, again = bench.sets.search, False
    while True:
        asked = questions_of(stage, place, tasks, store)
        whole = asked == tasks
        course = Course.of(asked, stage.racing, (stage.seed, *place), len(candidates), whole=whole)
        scores = course.run(candidates, bench, store, watch, again=again)
        if not stage.adapts:
            return course, scores
        known = reliability_of(course, scores)
        more = asked_on(share_of(stage, place, store), known, whole=whole)
        if more is None:
            _learn_population(stage, place, len(candidates), known, whole=whole, store=store, watch=watch)
            return course, scores
        ask_share(place, more, store)
        watch.say(f"reliability of the ranks {known:.2f}: this generation is asked {100 * more:.0f} % of the search pictures")
        again = True


def _learn_population(
    stage: Stage, place: tuple[int, int], population: int, known: float | None, *, whole: bool, store: Store, watch: Watch
) -> None:
    following = next_population(population, stage.population, known, whole=whole)
    store.set(POPULATIONS, {**store.get(POPULATIONS, {}), place_key((place[0], place[1] + 1)): following})
    if following != population and known is not None:
        watch.say(f"reliability of the ranks {known:.2f}: the next generation has {following} candidates, after {population}")


def resize(optimizer: Optimizer, stage: Stage, place: tuple[int, int], store: Store) -> None:
    """Gives a generation as many candidates as the one before has shown to be needed; of a stage that does not adapt, nothing.

    Args:
        optimizer: Who searches; a generation that it was asked for already keeps its size, which is this.
        stage: The search.
        place: Its number and the generation's that is asked for next, from 0.
        store: Knows what was decided.
    """
    if stage.adapts:
        decided: Mapping[str, int] = store.get(POPULATIONS, {})
        optimizer.resize(decided.get(place_key(place), stage.population))
