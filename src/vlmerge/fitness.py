"""What the optimizer is told of a generation: scores, objectives or shared credit; who breaks a constraint, behind all others.

A candidate that breaks constraints is told as minus its violation (one number, or one for each objective). Scores are 0 to 1,
so it ranks behind every candidate that keeps them, the worse the further; every optimizer understands that. A failure is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from vlmerge.aims import (
    Bounds,
    bounds,
    constraints,
    objective_scores,
    objectives,
    references_needed,
    shared_credit,
    spread_out,
    undominated,
    violation,
)
from vlmerge.aims.wanted import wanted
from vlmerge.errors import RunFolderError
from vlmerge.standing import rank, set_score
from vlmerge.store import Fitness, Generation, Split, Store, Trial, label_of

Whatever = TypeVar("Whatever")
FRONT_LIMIT = 12
"""Most trials of a front that are asked the validation questions and the holdout's."""


def told(store: Store, trials: Sequence[Trial]) -> list[Fitness | None]:
    """The fitness of a whole generation, higher is better; the trials' answers are in the store.

    Args:
        store: The run's store.
        trials: The generation's candidates.
    """
    axes, held_to = len(objectives(store)), bounds(store, "search")
    if axes:
        return [aimed(store, trial, axes, held_to) for trial in trials]
    ranks = [rank(store, trial, held_to) for trial in trials]
    if not wanted(store, "sharing"):
        return list(ranks)
    feasible = {trial.trial: trial for trial, own in zip(trials, ranks, strict=True) if own is not None and own >= 0}
    credit = shared_credit(store, feasible)
    return [credit.get(trial.trial, own) for trial, own in zip(trials, ranks, strict=True)]


def aimed(store: Store, trial: Trial, axes: int, held_to: Bounds) -> tuple[float, ...] | None:
    """A trial's objectives on the search questions, of an infeasible one minus its violation in each; None where it failed."""
    scores = None if trial.status == "failed" else objective_scores(store, trial.trial, held_to.split)
    broken = 0.0 if scores is None else violation(store, trial.trial, held_to)
    return (-broken,) * axes if broken else scores


def outside(store: Store, generation: Generation) -> list[bool]:
    """Of each candidate of a generation that was told, whether it breaks a constraint."""
    if not constraints(store):
        return [False for _ in generation.fitness or ()]
    numbers = [each if isinstance(each, tuple) else (each,) for each in generation.fitness or ()]
    return [all(number is not None and number < 0 for number in each) for each in numbers]


def plain_scores(store: Store, generation: Generation) -> list[float | None]:
    """The score of each candidate of a generation that was told, 0 to 1, whatever the optimizer was told in its place.

    None for those that failed, and for those that a race stopped: they answered a part alone.
    """
    aimed_at = any(wanted(store, key) for key in ("constraints", "objectives", "sharing"))
    stopped = store.stopped(generation.stage, generation.generation)
    found: list[float | None] = []
    for place, fitness in enumerate(generation.fitness or ()):
        if place in stopped:
            found.append(None)
            continue
        if fitness is None or (not aimed_at and not isinstance(fitness, tuple)):
            found.append(fitness)
            continue
        trial = store.trial(label_of(generation.stage, generation.generation, place))
        found.append(None if trial is None else set_score(store, trial, "search"))
    return found


def require_references(store: Store, split: Split) -> None:
    """Refuses to go on where a bound is a share of the host's score on a set, or the start's, and that has none.

    Raises:
        RunFolderError: With the reason for which it failed.
    """
    for of in references_needed(store):
        reference = store.trial(of)
        if reference is not None and set_score(store, reference, split) is not None:
            continue
        failures: Mapping[str, str] = store.get("failures", {})
        reason = reference and (reference.reason or failures.get(f"{of} on {split}"))
        raise RunFolderError(
            f"a constraint is a share of the {of}'s own score, and the {of} has none",
            where=f"{store.path.parent}, {split} questions",
            expected=f"a {of} that answers",
            found=reason or "no answers",
            remedy=f"ask it with `vlmerge ask`; or bound the score itself (a constraint without `of: {of}`)",
        )


def front(store: Store) -> list[int]:
    """The trials, searched or set by hand, that no other one dominates on the search questions; at most FRONT_LIMIT, far apart.

    They stand in the order of the first objective. Those that break a constraint are in it only where every one does.
    """
    return front_of(aims_of(store))


def aims_of(store: Store) -> dict[int, tuple[float, ...]]:
    """Trial → its objectives, as the optimizer is told them, of every trial that did not fail."""
    axes, held_to = len(objectives(store)), bounds(store, "search")
    return {trial.trial: own for trial in store.trials() if (own := aimed(store, trial, axes, held_to)) is not None}


def front_of(aims: Mapping[int, tuple[float, ...]]) -> list[int]:
    """The same as `front`, of objectives that are known already."""
    return spread_out({number: aims[number] for number in undominated(aims)}, FRONT_LIMIT)


def best_first(store: Store, tried: Mapping[int, Whatever]) -> list[Whatever]:
    """What belongs to scored trials, the best on the search questions first; of a run with objectives its front alone.

    Args:
        store: The run's store.
        tried: Trial → whatever belongs to it.
    """
    trials = {number: trial for number in tried if (trial := store.trial(number)) is not None}
    held_to = bounds(store, "search")
    ranks = {number: own for number, trial in trials.items() if (own := rank(store, trial, held_to)) is not None}
    axes = len(objectives(store))
    if axes:
        aims = {number: aim for number in ranks if (aim := aimed(store, trials[number], axes, held_to)) is not None}
        ranks = {number: ranks[number] for number in undominated(aims)}
    return [tried[number] for number in sorted(ranks, key=lambda number: (-ranks[number], number))]
