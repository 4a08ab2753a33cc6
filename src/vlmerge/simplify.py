"""After the election: the simplest recipe that is not worse than the winner, beside it.

Steps of `search/simpler.py` are tried one after the other, each on what the ones before have left, and each result is compared
with the winner itself on the validation questions: paired, whole picture groups drawn with replacement. A step is taken where
the lower end of the one-sided interval lies above minus the margin (an interval that merely holds zero proves nothing), and
where it keeps the run's constraints as well as the winner does. Every decision is written down before anything follows from
it. The holdout is not looked at, and the winner stays the winner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from vlmerge.aims import bounds, objectives, violation
from vlmerge.config.recipe import dump_recipe
from vlmerge.election import Standing
from vlmerge.paired import paired
from vlmerge.search import Point, Stage, steps, understood
from vlmerge.standing import set_score

if TYPE_CHECKING:
    from vlmerge.bench import Bench
    from vlmerge.config.run_blocks import SearchSpec
    from vlmerge.store import Store, Trial
    from vlmerge.watching import Watch

ROW = "simple"
KEY = "simplified"
"""Of the store."""
LEVEL = 0.95
"""Of the one-sided interval of each comparison."""


@dataclass(frozen=True)
class Tried:
    """One step.

    Attributes:
        step: Its name.
        trial: The trial of its recipe.
        difference: To the winner on the validation questions, in points of 100; None where it failed.
        low: Lower end of the one-sided interval; None where a single picture group says nothing of spread.
        taken: Whether it is not worse.
    """

    step: str
    trial: int
    difference: float | None
    low: float | None
    taken: bool


@dataclass(frozen=True)
class Simplified:
    """What was tried.

    Attributes:
        winner: The winner's trial.
        margin: In points of 100.
        level: Of the one-sided intervals.
        numbers: Different numbers of the winner's recipe, and of the simplest one.
        tried: The steps.
        trial: The simplest recipe's trial; None: there is none.
        reason: Why there is none.
    """

    winner: int
    margin: float
    level: float
    numbers: tuple[int, int]
    tried: tuple[Tried, ...]
    trial: int | None
    reason: str | None


def simplify(
    standing: Standing, planned: Sequence[Stage], search: SearchSpec, store: Store, bench: Bench, watch: Watch
) -> Standing:
    """The standing with the row `simple`, where a simpler recipe than the winner's is not worse.

    Args:
        standing: After the election.
        planned: The stages of the search.
        search: Whether to look, and the margin.
        store: The run's store; decisions that it holds are kept.
        bench: Asks the validation questions: at most `MOST_STEPS` times.
        watch: Who is told.
    """
    if not search.simplify:
        return standing
    known = cast("Mapping[str, Any] | None", store.get(KEY))
    if known is not None and known["done"]:
        return standing if known["trial"] is None else Standing({**standing.rows, ROW: known["trial"]})
    winner = store.trial(standing.winner)
    assert winner is not None
    point = point_of(winner, planned)
    if point is None:
        return _closed(
            _nothing(winner, search, "the winner was not searched by genes: there is nothing to simplify"), standing, store
        )
    if objectives(store):
        return _closed(
            _nothing(winner, search, "several objectives have a front, and no one score to compare by"), standing, store
        )
    if set_score(store, winner, "validation") is None:
        return _closed(_nothing(winner, search, "there are no validation questions to compare on"), standing, store)
    found = _try(winner, point, search, store, bench, watch)
    watch.say(_line(found))
    return _closed(found, standing, store)


def point_of(trial: Trial, planned: Sequence[Stage]) -> Point | None:
    """A trial as a point of the space that found it; None for what has no genes, or genes that nobody here can interpret."""
    if trial.kind == "searched" and trial.stage is not None and trial.stage < len(planned):
        space = planned[trial.stage].space
    elif trial.kind == "mean":
        space = next((stage.space for stage in planned if stage.row == trial.label), None)
    else:
        space = None
    point = None if space is None else understood(space, trial.genome)
    return point if point is not None and dump_recipe(point.space.decode(point.genome)) == trial.recipe else None


def _try(winner: Trial, point: Point, search: SearchSpec, store: Store, bench: Bench, watch: Watch) -> Simplified:
    stored = cast("Mapping[str, Any]", store.get(KEY) or {})
    decided = {each["step"]: Tried(**each) for each in stored.get("tried", ())}
    found = replace(_nothing(winner, search, None), numbers=(point.numbers, point.numbers))
    store.set(KEY, {**asdict(found), "done": False, "tried": list(stored.get("tried", ()))})
    first, now, listed = point, point, steps(point)
    with watch.step("simpler recipes", len(listed)):
        for step in listed:
            taken = {each.step for each in found.tried if each.taken}
            simpler = None if step.instead_of in taken else step.apply(now)
            if simpler is None:
                continue
            known = decided.get(step.name)
            if known is not None:
                one = known
            else:
                trial = bench.enter(f"{ROW}/{step.name}", "simple", simpler.space.decode(simpler.genome), simpler.genome)
                score = bench.score(trial, "validation")
                watch.tried(trial, score)
                one = _compared(step.name, winner, trial, search.margin, store, failed=score is None)
            if one.taken:
                now = simpler
            found = replace(
                found,
                tried=(*found.tried, one),
                trial=one.trial if one.taken else found.trial,
                numbers=(first.numbers, now.numbers),
            )
            if known is None:
                store.set(KEY, {**asdict(found), "done": False})
    if found.trial is not None:
        return found
    why = f"none of {len(found.tried)} simpler recipes was shown to be at most {search.margin:g} points worse"
    return replace(found, reason=why if found.tried else "the winner's recipe is as simple as it can be")


def _compared(step: str, winner: Trial, trial: Trial, margin: float, store: Store, *, failed: bool) -> Tried:
    if failed:
        return Tried(step, trial.trial, None, None, taken=False)
    # The lower end of a two-sided interval that leaves 5 % out at either side.
    span = paired(store, "validation", winner.trial, trial.trial).points(1 - 2 * (1 - LEVEL))
    low = None if span.low is None else round(span.low, 4)
    held_to = bounds(store, "validation")
    keeps = violation(store, trial.trial, held_to) <= violation(store, winner.trial, held_to)
    return Tried(step, trial.trial, round(span.mean, 4), low, taken=keeps and low is not None and low > -margin)


def _nothing(winner: Trial, search: SearchSpec, reason: str | None) -> Simplified:
    return Simplified(winner.trial, search.margin, LEVEL, (0, 0), (), None, reason)


def _closed(found: Simplified, standing: Standing, store: Store) -> Standing:
    """Writes down how it ended; the row takes part in every table from here on."""
    rows = standing.rows if found.trial is None else {**standing.rows, ROW: found.trial}
    with store.transaction():
        store.set(KEY, {**asdict(found), "done": True})
        if found.reason is not None:
            store.set("left_out", {**store.get("left_out", {}), ROW: found.reason})
        store.set("standing", dict(rows))
    return Standing(rows)


def _line(found: Simplified) -> str:
    if found.trial is None:
        return f"simpler recipes: {found.reason}"
    last = next(each for each in found.tried if each.trial == found.trial)
    taken = ", ".join(each.step for each in found.tried if each.taken)
    return (
        f"a simpler recipe ({taken}): {found.numbers[1]} numbers for {found.numbers[0]}, {last.difference:+.1f} points on the "
        f"validation questions, at worst {last.low:+.1f}"
    )
