"""One generation of a search: every candidate is tried, on all search questions or in a race."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmerge.bench import Candidate
from vlmerge.raced import Course
from vlmerge.rotation import difficulty, learn_share, questions_of

if TYPE_CHECKING:
    from vlmerge.bench import Bench
    from vlmerge.search import Stage
    from vlmerge.store import Store, Trial
    from vlmerge.types import Genome
    from vlmerge.watching import Watch


@dataclass(frozen=True)
class Tried:
    """What came of a generation.

    Attributes:
        fitness: What the optimizer is told of each candidate; None: it failed.
        stopped: Places of those that a race stopped. Their fitness is no score: it says where they rank, behind all others.
    """

    fitness: list[float | None]
    stopped: frozenset[int] = frozenset()


def try_generation(
    stage: Stage, place: tuple[int, int], genomes: Sequence[Genome], bench: Bench, store: Store, watch: Watch
) -> Tried:
    """Tries the candidates of a generation; what the store holds of them is not asked again.

    Args:
        stage: The search that they are of.
        place: Its number and the generation's, from 0.
        genomes: What the optimizer asked for.
        bench: Merges and asks.
        store: The run's store.
        watch: Who is told.
    """
    number, generation = place
    candidates = [
        Candidate(
            label=f"stage-{number + 1}/{generation + 1:03d}/{position + 1:02d}",
            recipe=stage.space.decode(genome),
            genome=genome,
            place=(number, generation, position),
        )
        for position, genome in enumerate(genomes)
    ]
    tasks = bench.sets.search
    asked = questions_of(stage, place, tasks, store)
    if stage.racing is not None or stage.rotate != 1:
        course = Course.of(asked, stage.racing, (stage.seed, *place), len(genomes), whole=asked == tasks)
        scores = course.run(candidates, bench, store, watch)
        learn_share(stage, place, course, scores, store, watch)
        known = [store.trial(candidate.label) for candidate in candidates]
        stopped = frozenset(at for at, trial in enumerate(known) if trial is not None and trial.status == "stopped")
        return Tried(course.race.fitness(scores + difficulty(course, scores, tasks, store)), stopped)
    trials: list[Trial] = []
    for candidate in candidates:
        recipe, genome, where = candidate.recipe, candidate.genome, candidate.place
        trials.append(bench.try_recipe(candidate.label, "searched", recipe, genome=genome, place=where))
        watch.tried(trials[-1], bench.score(trials[-1], "search"))
    return Tried([bench.score(trial, "search") for trial in trials])
