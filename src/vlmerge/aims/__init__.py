"""What a run wants beside a high score, read from its store: constraints, objectives, shared credit. No torch."""

from vlmerge.aims.constraints import HOST, Kept, constraints, host_is_needed, kept, violation
from vlmerge.aims.fronts import dominates, spread_out, undominated
from vlmerge.aims.niches import shared_credit
from vlmerge.aims.objectives import objective_scores, objectives, shares

__all__ = [
    "HOST",
    "Kept",
    "constraints",
    "dominates",
    "host_is_needed",
    "kept",
    "objective_scores",
    "objectives",
    "shared_credit",
    "shares",
    "spread_out",
    "undominated",
    "violation",
]
