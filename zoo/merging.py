"""Merged decoders for judging a family: weighted sums of vlm, ja and base, with weights that need not sum to one.

Takes named decoder tensors of the three; gives merged ones. The order of the three is `SOURCES` everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import LlavaForConditionalGeneration

from zoo.models import write_into

SOURCES = ("vlm", "ja", "base")
ALONE, SWAP, EQUAL = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1 / 3, 1 / 3, 1 / 3)
GRID = tuple((round(share / 10, 1), round(1 - share / 10, 1), 0.0) for share in range(1, 10))
"""Nine mixes of vlm and ja that sum to one."""
GLOBAL_TRIES = 40


@dataclass(frozen=True)
class Decoders:
    """The decoders of a family, under the VLM's parameter names, float32.

    Attributes:
        tensors: one mapping per source, in the order of `SOURCES`.
    """

    tensors: Sequence[Mapping[str, Tensor]]

    def merge_into(self, model: LlavaForConditionalGeneration, weights: Sequence[float]) -> None:
        """Overwrites the model's decoder with the weighted sum."""
        merged = {
            name: sum(w * source[name] for w, source in zip(weights, self.tensors, strict=True)) for name in self.tensors[0]
        }
        write_into(model, merged)


def search_global(fitness: Callable[[Sequence[float]], float]) -> tuple[float, float, float]:
    """One free weight per source by CMA-ES: 40 tries from the best mix of `GRID`, seed 1.

    Args:
        fitness: weights to a score, larger is better.
    """
    import cma  # only this search needs it

    start = max(GRID, key=fitness)
    best, best_fitness = start, fitness(start)
    strategy = cma.CMAEvolutionStrategy(start, 0.2, {"popsize": 8, "maxfevals": GLOBAL_TRIES, "seed": 1, "verbose": -9})
    while not strategy.stop():
        candidates = strategy.ask()
        scores = [fitness(candidate) for candidate in candidates]
        strategy.tell(candidates, [-s for s in scores])
        for candidate, s in zip(candidates, scores, strict=True):
            if s > best_fitness:
                best, best_fitness = tuple(float(x) for x in candidate), s
    return best
