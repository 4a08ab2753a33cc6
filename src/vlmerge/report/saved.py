"""What races and rotating questions have saved: who was stopped, and which share of the search's questions was not asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import yaml

from vlmerge.store import Store


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
    given = store.answers_by_trial("search")
    asked = [given.get(trial.trial, 0) for trial in searched if trial.status in ("scored", "stopped", "sampled")]
    possible = len(asked) * len(store.questions("search"))
    share = 1 - sum(asked) / possible if possible else 0.0
    return Saved(races, rotates, sum(trial.status == "stopped" for trial in searched), round(share, 4) + 0.0)
