"""What was not asked of a search's questions, where races stop candidates, questions rotate, or a run adapts to noise.

What a candidate takes over from one of the same recipe was not asked either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import yaml

from vlmerge.search.rotating import FIRST_SHARE
from vlmerge.store import Store, Trial


@dataclass(frozen=True)
class Saved:
    """Of the searched candidates so far.

    Attributes:
        races: Whether the run has races.
        rotates: Whether its questions rotate: then search scores are estimates, but for those of the finalists.
        stopped: How many candidates a race stopped.
        questions: Share of the search questions that was not asked of candidates that did not fail, 0 to 1.
        adapts: Whether the run adapts to noise.
        shares: Least and greatest share of the search pictures that a generation was asked.
        candidates: Fewest and most candidates of a generation.
    """

    races: bool
    rotates: bool
    stopped: int
    questions: float
    adapts: bool
    shares: tuple[float, float]
    candidates: tuple[int, int]

    @property
    def percent(self) -> tuple[int, int]:
        """The shares, per cent."""
        return round(100 * self.shares[0]), round(100 * self.shares[1])


def saved(store: Store) -> Saved | None:
    """Reads it; None for a run in which every candidate is asked everything."""
    config = cast("Mapping[str, Any]", yaml.safe_load(store.get("config") or "{}"))
    search = cast("Mapping[str, Any]", config.get("search") or {})
    races, rotates = bool(search.get("racing")), search.get("rotate", 1) != 1
    adapts = search.get("noise") == "adapt"
    if not (races or rotates or adapts):
        return None
    searched = [trial for trial in store.trials() if trial.kind == "searched"]
    known = [trial for trial in searched if trial.status in ("scored", "stopped", "sampled")]
    possible = len(known) * len(store.questions("search"))
    share = 1 - _asked(store, known) / possible if possible else 0.0
    stopped = sum(trial.status == "stopped" for trial in searched)
    told = [one for one in store.generations() if one.fitness is not None]
    decided = cast("Mapping[str, float]", store.get("shares", {}))
    first = FIRST_SHARE if search.get("rotate") == "auto" else float(search.get("rotate", 1))
    shares = [decided.get(f"{one.stage}/{one.generation}", first) for one in told] or [first]
    sizes = [len(one.genomes) for one in told] or [0]
    span = (min(sizes), max(sizes))
    return Saved(races, rotates, stopped, round(share, 4) + 0.0, adapts, (min(shares), max(shares)), span)


def _asked(store: Store, trials: Sequence[Trial]) -> int:
    """How many questions were asked of them: of trials with one recipe each question once."""
    given = store.answers_by_trial("search")
    recipes: dict[str, list[int]] = {}
    for trial in trials:
        recipes.setdefault(trial.recipe, []).append(trial.trial)
    return sum(given.get(alike[0], 0) if len(alike) == 1 else _together(store, alike) for alike in recipes.values())


def _together(store: Store, trials: Sequence[int]) -> int:
    return len({(answer.task, answer.question) for trial in trials for answer in store.answers(trial, "search")})
