"""A run's aims in its store, as `recording` writes them down: the blocks of its run file.

Every trial is held to them, so that a text of the store is validated once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from vlmerge.config.aim_blocks import ConstraintSpec, ObjectiveSpec

if TYPE_CHECKING:
    from vlmerge.config.run_blocks import SearchSpec
    from vlmerge.store import Store

KEY = "aims"


def written(search: SearchSpec) -> dict[str, Any]:
    """The aims as plain values, for the store."""
    return {
        "constraints": [each.model_dump() for each in search.constraints],
        "objectives": [each.model_dump() for each in search.objectives],
        "sharing": search.sharing,
    }


def wanted(store: Store, key: str) -> Any:
    """One of them; None of a run that knows of none."""
    return cast("Mapping[str, Any]", store.get(KEY) or {}).get(key)


def constraints(store: Store) -> tuple[ConstraintSpec, ...]:
    """What the run's candidates have to keep, in the run file's order."""
    return _constraints(json.dumps(wanted(store, "constraints") or ()))


def objectives(store: Store) -> tuple[ObjectiveSpec, ...]:
    """The axes of the run's front, in the run file's order; none of a run with one score."""
    return _objectives(json.dumps(wanted(store, "objectives") or ()))


@lru_cache(maxsize=16)
def _constraints(text: str) -> tuple[ConstraintSpec, ...]:
    return tuple(ConstraintSpec.model_validate(each) for each in json.loads(text))


@lru_cache(maxsize=16)
def _objectives(text: str) -> tuple[ObjectiveSpec, ...]:
    return tuple(ObjectiveSpec.model_validate(each) for each in json.loads(text))
