"""What races have saved: how many candidates were stopped, and which share of the search's questions was not asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import yaml

from vlmerge.store import Store


@dataclass(frozen=True)
class Raced:
    """Of the searched candidates so far.

    Attributes:
        stopped: How many a race stopped.
        questions_saved: Share of the questions that were not asked of candidates that did not fail, 0 to 1.
    """

    stopped: int
    questions_saved: float


def raced(store: Store) -> Raced | None:
    """Reads it; None for a run without races."""
    config: Mapping[str, Any] = yaml.safe_load(store.get("config") or "{}")
    if not cast("Mapping[str, Any]", config.get("search") or {}).get("racing"):
        return None
    searched = [trial for trial in store.trials() if trial.kind == "searched"]
    given = store.answers_by_trial("search")
    asked = [given.get(trial.trial, 0) for trial in searched if trial.status in ("scored", "stopped")]
    possible = len(asked) * len(store.questions("search"))
    saved = 1 - sum(asked) / possible if possible else 0.0
    return Raced(sum(trial.status == "stopped" for trial in searched), round(saved, 4) + 0.0)
