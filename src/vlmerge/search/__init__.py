"""Where to look next: spaces (genome ↔ recipe), the stages of a run, where they begin, its free baselines, and the optimizer.

No torch."""

from vlmerge.search.baselines import Baseline, baselines
from vlmerge.search.genes import Distribution, Gene, Role
from vlmerge.search.genome_space import GenomeSpace
from vlmerge.search.group_space import GroupSpace, coarsest, grouped
from vlmerge.search.optimizers import OPTIMIZERS, Optimizer, default_population, optimizer, plan
from vlmerge.search.path_space import PathSpace, every_layer
from vlmerge.search.simpler import MOST_STEPS, Point, steps, understood
from vlmerge.search.space import FOUND, Handed, SearchSpace, model_labels
from vlmerge.search.stages import Stage, decided, notes, stages
from vlmerge.search.starts import read_start, with_start

__all__ = [
    "FOUND",
    "MOST_STEPS",
    "OPTIMIZERS",
    "Baseline",
    "Distribution",
    "Gene",
    "GenomeSpace",
    "GroupSpace",
    "Handed",
    "Optimizer",
    "PathSpace",
    "Point",
    "Role",
    "SearchSpace",
    "Stage",
    "baselines",
    "coarsest",
    "decided",
    "default_population",
    "every_layer",
    "grouped",
    "model_labels",
    "notes",
    "optimizer",
    "plan",
    "read_start",
    "stages",
    "steps",
    "understood",
    "with_start",
]
