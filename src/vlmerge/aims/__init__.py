"""What a run wants beside a high score, read from its store: constraints, objectives, shared credit. No torch."""

from vlmerge.aims.constraints import Bounds, Kept, bounds, constraints, kept, references_needed, violation
from vlmerge.aims.fronts import dominates, spread_out, undominated
from vlmerge.aims.niches import shared_credit
from vlmerge.aims.objectives import objective_scores, objectives, shares

__all__ = [
    "Bounds",
    "Kept",
    "bounds",
    "constraints",
    "dominates",
    "kept",
    "objective_scores",
    "objectives",
    "references_needed",
    "shared_credit",
    "shares",
    "spread_out",
    "undominated",
    "violation",
]
