"""What races and rotating questions have saved: who was stopped, and which share of the search's questions was not asked.

What a candidate takes over from one of the same recipe was not asked either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import yaml

from vlmerge.store import Store, Trial


@dataclass(frozen=True)
class Saved:
    """Of the searched candidates so far.

    Attributes:
        races: Whether the run has races.
        rotates: Whether its questions rotate: then search scores are estimates, but for those of the finalists.
        stopped: How many candidates a race stopped.
        questions: Share of the search questions that was not asked of candidates that did not fail, 0 to 1.
    """

    races: bool
    rotates: bool
    stopped: int
    questions: float


def saved(store: Store) -> Saved | None:
    """Reads it; None for a run in which every candidate is asked everything."""
    config = cast("Mapping[str, Any]", yaml.safe_load(store.get("config") or "{}"))
    search = cast("Mapping[str, Any]", config.get("search") or {})
    races, rotates = bool(search.get("racing")), search.get("rotate", 1) != 1
    if not (races or rotates):
        return None
    searched = [trial for trial in store.trials() if trial.kind == "searched"]
    known = [trial for trial in searched if trial.status in ("scored", "stopped", "sampled")]
    possible = len(known) * len(store.questions("search"))
    share = 1 - _asked(store, known) / possible if possible else 0.0
    return Saved(races, rotates, sum(trial.status == "stopped" for trial in searched), round(share, 4) + 0.0)


def _asked(store: Store, trials: Sequence[Trial]) -> int:
    """How many questions were asked of them: of trials with one recipe each question once."""
    given = store.answers_by_trial("search")
    recipes: dict[str, list[int]] = {}
    for trial in trials:
        recipes.setdefault(trial.recipe, []).append(trial.trial)
    return sum(given.get(alike[0], 0) if len(alike) == 1 else _together(store, alike) for alike in recipes.values())


def _together(store: Store, trials: Sequence[int]) -> int:
    return len({(answer.task, answer.question) for trial in trials for answer in store.answers(trial, "search")})
