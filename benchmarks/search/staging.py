"""What the constants between two stages do, on the landscape of a run (`racing.py`): no model is needed.

Three numbers are searched, one per model, 5 generations of 8; then twelve, a group of tensors each, 10 generations of 12, from
where the first search ended. On half of the pictures; a quarter is for validation, a quarter is fresh. Paired by seed.

**kept**: which share of a correlation the finer genes inherit (`search/lifting.py`, 0.25).
**agreement**: at which share of the resamples the finer mean counts as better than the coarse one (`search.agreement`, 0.9):
how many searches that lets through, and what the finer stage gained, on fresh pictures, where it does and where it does not.
**held**: which first probability the method that the coarse search ended with keeps for itself (`search/stages.py`, 0.8). Of
three methods one answers as was recorded; the others do so but for WORSE of their answers, which are wrong. The finer search
begins with the best one or with another one.

    python benchmarks/search/staging.py kept runs/demo              two minutes; any finished run of these stages without races
    python benchmarks/search/staging.py agreement runs/demo         one minute
    python benchmarks/search/staging.py held runs/demo              two minutes
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from racing import AWAY, Landscape, Recorded, table

from vlmerge.search import Distribution, lifting
from vlmerge.search.genes import Gene
from vlmerge.search.optimizers import optimizer

SHARES, AGREEMENTS, SEEDS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9), (0.5, 0.7, 0.8, 0.9, 0.95), 100
RESAMPLES = 2000
HELD, WORSE = (0.0, 0.5, 0.8, 0.9, 0.95), (0.01, 0.03)
MODELS = 3


class Split:
    """Which pictures are for what, by lot.

    Args:
        pictures: Of each question.
        lot: Random numbers.
    """

    def __init__(self, pictures: NDArray[np.int64], lot: np.random.RandomState) -> None:
        count = int(pictures.max()) + 1
        order = lot.permutation(count)
        parts = order[: count // 2], order[count // 2 : 3 * count // 4], order[3 * count // 4 :]
        self.search, self.validation, self.fresh = (np.isin(pictures, part) for part in parts)


def climb(land: Landscape, asked: NDArray[np.bool_], begin: Distribution, shape: tuple[int, int], seed: int, lot: Any) -> Any:
    """A search on the landscape; of three genes they stand for every group."""
    copies = len(land.start) // len(begin.mean)
    searcher = optimizer("cma-es", [Gene(f"{at}") for at in range(len(begin.mean))], begin, seed, *shape)
    while not searcher.done:
        genomes = searcher.ask()
        scores = land.scored(np.tile(np.array(genomes), copies), lot)[:, asked].mean(axis=1)
        searcher.tell(genomes, scores.tolist())
    return searcher.distribution


def stages(land: Landscape, split: Split, seed: int, lot: Any, kept: float) -> tuple[Distribution, Distribution]:
    """The last distributions of the coarse and of the finer search."""
    groups = len(land.start) // MODELS
    away = land.start.reshape(groups, MODELS).mean(axis=0) + lot.normal(0, AWAY, MODELS)
    coarse = climb(land, split.search, Distribution(tuple(away.tolist()), 0.1), (8, 5), seed, lot)
    rows = [((at % MODELS, 1.0),) for at in range(len(land.start))]
    genes = [Gene(f"{at}") for at in range(len(land.start))]
    before, lifting.KEPT = lifting.KEPT, kept
    covariance = lifting.inherited(rows, coarse, genes)
    lifting.KEPT = before
    return coarse, climb(land, split.search, Distribution(coarse.mean * groups, 0.1, covariance), (12, 10), seed, lot)


def kept(run: Recorded) -> list[dict[str, Any]]:
    """Scores of the finer search's last mean by what it inherits."""
    land = Landscape(run)
    found: dict[float, list[tuple[float, float]]] = {share: [] for share in SHARES}
    for share in SHARES:
        for seed in range(1, SEEDS + 1):
            lot = np.random.RandomState(seed)
            split = Split(run.pictures, lot)
            scores = land.smooth(np.array([stages(land, split, seed, lot, share)[1].mean]))[0]
            fresh = split.validation | split.fresh
            found[share].append((100 * scores[split.search].mean(), 100 * scores[fresh].mean()))
    base = np.array(found[lifting.KEPT])
    lines: list[dict[str, Any]] = []
    for share, scores in found.items():
        apart = np.array(scores) - base
        error = apart.std(axis=0, ddof=1) / math.sqrt(SEEDS)
        searched, fresh = np.mean(scores, axis=0)
        lines.append(
            {
                "kept": share,
                "searched": searched,
                "fresh": fresh,
                "searched_minus": apart[:, 0].mean(),
                "searched_error": error[0],
                "fresh_minus": apart[:, 1].mean(),
                "fresh_error": error[1],
            }
        )
    return lines


def agreement(run: Recorded) -> list[dict[str, Any]]:
    """What each bar lets through, and what that has gained."""
    land = Landscape(run)
    found: list[tuple[float, float]] = []
    for seed in range(1, 2 * SEEDS + 1):
        lot = np.random.RandomState(seed)
        split = Split(run.pictures, lot)
        coarse, fine = stages(land, split, seed, lot, lifting.KEPT)
        means = land.smooth(np.array([np.tile(coarse.mean, len(land.start) // MODELS), fine.mean]))
        # What real candidates answer otherwise, question by question; how far they are off as a whole is in the means.
        others = land.residuals[lot.randint(len(land.residuals), size=2)]
        scores = np.clip(means + others - others.mean(axis=1, keepdims=True), 0, 1)
        apart = scores[1] - scores[0]
        pictures = run.pictures[split.validation]
        groups = np.unique(pictures)
        sums = np.array([apart[split.validation][pictures == group].sum() for group in groups])
        drawn = sums[lot.randint(len(groups), size=(RESAMPLES, len(groups)))].sum(axis=1)
        found.append((float((drawn > 0).mean()), 100 * float((means[1] - means[0])[split.fresh].mean())))
    share, gained = np.array(found).T
    lines: list[dict[str, Any]] = []
    for bar in AGREEMENTS:
        through = share >= bar
        lines.append(
            {
                "agreement": bar,
                "let_through": float(through.mean()),
                "gain_of_these": gained[through].mean(),
                "error_of_these": gained[through].std(ddof=1) / math.sqrt(through.sum()),
                "worse_of_these": float((gained[through] < 0).mean()),
                "gain_of_the_others": gained[~through].mean(),
                "error_of_the_others": gained[~through].std(ddof=1) / math.sqrt((~through).sum()),
            }
        )
    return lines


def held(run: Recorded) -> list[dict[str, Any]]:
    """How often the finer search ends with the best method, and the score of its last mean on the pictures not searched."""
    land, methods = Landscape(run), ("best", "other", "third")
    genes = [*(Gene(f"{at}") for at in range(len(land.start))), Gene("method", choices=methods)]
    lines: list[dict[str, Any]] = []
    for worse, begins, hold in itertools.product(WORSE, (0, 1), HELD):
        found: list[tuple[float, float]] = []
        for seed in range(1, SEEDS + 1):
            lot = np.random.RandomState(seed)
            split = Split(run.pictures, lot)
            mean = (*(land.start + lot.normal(0, AWAY, len(land.start))).tolist(), float(begins))
            searcher = optimizer("catcma", genes, Distribution(mean, 0.1), seed, 12, 10, {"hold": hold})
            # The same answers are wrong throughout, of each method others.
            right = np.array(
                [lot.uniform(size=len(run.pictures)) >= (worse if method else 0) for method in range(len(methods))]
            )
            while not searcher.done:
                genomes = np.array(searcher.ask())
                scores = land.scored(genomes[:, :-1], lot) * right[genomes[:, -1].astype(int)]
                searcher.tell([tuple(each) for each in genomes.tolist()], scores[:, split.search].mean(axis=1).tolist())
            *numbers, method = searcher.mean
            whole = 100 * land.smooth(np.array([numbers]))[0][~split.search].mean()
            found.append((float(method == 0), whole * (1 - (worse if method else 0))))
        ended, score = np.mean(found, axis=0)
        error = np.std(found, axis=0, ddof=1)[1] / math.sqrt(SEEDS)
        lines.append(
            {"worse": worse, "begins": methods[begins], "held": hold, "ends_best": ended, "score": score, "error": error}
        )
    return lines


STUDIES = {"kept": kept, "agreement": agreement, "held": held}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=STUDIES)
    parser.add_argument("run", type=Path, help="a run folder")
    given = parser.parse_args()
    print(table(STUDIES[given.what](Recorded.read(given.run))))


if __name__ == "__main__":
    main()
