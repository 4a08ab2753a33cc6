"""Where to look next: spaces (genome ↔ recipe), the stages of a run, its free baselines, and the optimizers. No torch."""

from vlmerge.search.baselines import Baseline, baselines
from vlmerge.search.genome_space import GenomeSpace
from vlmerge.search.group_space import GroupSpace, grouped
from vlmerge.search.optimizers import OPTIMIZERS, Optimizer, default_population, optimizer, plan
from vlmerge.search.space import SearchSpace, model_labels
from vlmerge.search.stages import Stage, stages

__all__ = [
    "OPTIMIZERS",
    "Baseline",
    "GenomeSpace",
    "GroupSpace",
    "Optimizer",
    "SearchSpace",
    "Stage",
    "baselines",
    "default_population",
    "grouped",
    "model_labels",
    "optimizer",
    "plan",
    "stages",
]
