"""One generation of a search: every candidate is tried, on all search questions, a share of them, or in a race."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmerge.bench import Candidate
from vlmerge.fitness import told
from vlmerge.noise import try_until_clear
from vlmerge.rotation import difficulty, learn_share
from vlmerge.store import label_of

if TYPE_CHECKING:
    from vlmerge.bench import Bench
    from vlmerge.search import Stage
    from vlmerge.store import Fitness, Store, Trial
    from vlmerge.types import Genome
    from vlmerge.watching import Watch


def try_generation(
    stage: Stage, place: tuple[int, int], genomes: Sequence[Genome], bench: Bench, store: Store, watch: Watch
) -> list[Fitness | None]:
    """Tries the candidates of a generation; what the store holds of them is not asked again.

    Args:
        stage: The search that they are of.
        place: Its number and the generation's, from 0.
        genomes: What the optimizer asked for.
        bench: Merges and asks.
        store: The run's store.
        watch: Who is told.

    Returns:
        What the optimizer is told of each candidate; None: it failed. Of one that a race stopped it is no score: it says where
        it ranks, behind all others.
    """
    number, generation = place
    candidates = [
        Candidate(
            label=label_of(number, generation, position),
            recipe=stage.space.decode(genome),
            genome=genome,
            place=(number, generation, position),
        )
        for position, genome in enumerate(genomes)
    ]
    if stage.racing is not None or stage.rotate != 1 or stage.adapts:
        course, scores = try_until_clear(stage, place, candidates, bench, store, watch)
        learn_share(stage, place, course, scores, store, watch)
        return list(course.race.fitness(scores + difficulty(course, scores, bench.sets.search, store)))
    trials: list[Trial] = []
    for candidate in candidates:
        recipe, genome, where = candidate.recipe, candidate.genome, candidate.place
        trials.append(bench.try_recipe(candidate.label, "searched", recipe, genome=genome, place=where))
        watch.tried(trials[-1], bench.score(trials[-1], "search"))
    return told(store, trials)
