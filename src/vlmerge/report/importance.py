"""Which genes mattered: how much of the search scores' variance each of them explains, from the trials, at no further question.

A functional analysis of variance (Hooker 2007; Hutter et al. 2014 for settings of algorithms) of a quadratic that is fitted to
the candidates of a stage. Under a product of the genes' own distributions, as the search tried them, its terms are made
orthogonal, so that each one's squared coefficient is the variance that it explains; what two genes explain only together is
divided between them (the Shapley value of a gene, Owen 2014). How well the quadratic says what it was not shown, a
cross-validated R², stands beside the shares, and where it says too little they are not shown: they would be about noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from vlmerge.statistics import Floats, rounded, weighted
from vlmerge.store import Store

LEAST_FIT = 0.3
"""Cross-validated R² below which nothing is shown."""
LEAST_CANDIDATES = 12
FOLDS = 10
PENALTIES = tuple(10.0**power for power in range(-3, 4))
"""Of the ridge, times the number of candidates: chosen by generalized cross-validation (Golub, Heath & Wahba 1979)."""
SEED = 1
"""Of the division into folds."""
KEY = "genes"
"""Of the store: for each stage its genes (name, group, model, parameter, choices), or null where they have no roles."""


@dataclass(frozen=True)
class Share:
    """How much of the explained variance something has, 0 to 1; `name` may be empty: what has no group, or no model."""

    name: str
    share: float


@dataclass(frozen=True)
class Importance:
    """Of one stage.

    Attributes:
        stage: Its name.
        candidates: How many it is about.
        fit: R² on candidates that the quadratic was not fitted to; None with too few of them.
        genes: Shares of the genes, in their order; empty where the fit is too poor.
        groups: Of the groups of tensors, in order; empty where there is one, or the fit is too poor.
        models: Of the models, in order; as `groups`.
        parameters: Of the method's parameters, in order; as `groups`.
    """

    stage: str
    candidates: int
    fit: float | None
    genes: tuple[Share, ...] = ()
    groups: tuple[Share, ...] = ()
    models: tuple[Share, ...] = ()
    parameters: tuple[Share, ...] = ()

    @property
    def shown(self) -> bool:
        """Whether the fit is good enough to say anything."""
        return bool(self.genes)


def importance(store: Store) -> tuple[Importance, ...]:
    """Of every stage that was searched by genes whose roles are known.

    Candidates that failed, or that were not asked every search question that counts, are left out.

    Args:
        store: The run's store.
    """
    known = cast("Sequence[Sequence[Mapping[str, Any]] | None]", store.get(KEY) or ())
    names = [str(stage.get("name", "")) for stage in cast("Sequence[Mapping[str, Any]]", store.get("stages") or ())]
    found: list[Importance] = []
    scored = _scored(store) if any(known) else {}
    for number, (name, genes) in enumerate(zip(names, known, strict=False)):
        points = [(genome, score) for genome, score in scored.get(number, ()) if genes and len(genome) == len(genes)]
        if genes and points:
            found.append(of_stage(name, genes, np.array([p[0] for p in points]), np.array([p[1] for p in points])))
    return tuple(found)


def _scored(store: Store) -> dict[int, list[tuple[tuple[float, ...], float]]]:
    """Stage → (genome, score) of its candidates that were asked everything."""
    tasks = [task for task in store.tasks("search") if task.weight]
    asked = Counter(question.task for question in store.questions("search"))
    weights = np.array([task.weight for task in tasks])
    means = store.task_means("search")
    found: dict[int, list[tuple[tuple[float, ...], float]]] = {}
    for trial in store.trials():
        if trial.kind != "searched" or trial.status != "scored" or trial.genome is None or trial.stage is None:
            continue
        own = means.get(trial.trial, {})
        if tasks and all(own.get(task.task, (0, 0.0))[0] == asked[task.task] for task in tasks):
            score = float(weighted(np.array([own[task.task][1] for task in tasks]), weights))
            found.setdefault(trial.stage, []).append((trial.genome, score))
    return found


def of_stage(stage: str, genes: Sequence[Mapping[str, Any]], genomes: Floats, scores: Floats) -> Importance:
    """Fits, says how well, and divides the variance.

    Args:
        stage: Its name.
        genes: What the genes are about, as the store has them.
        genomes: Candidates × genes.
        scores: One for each candidate.
    """
    count = len(scores)
    if count < LEAST_CANDIDATES or not scores.std() > 0:
        return Importance(stage, count, None)
    features, owners = _features(genomes, [int(gene.get("choices") or 0) for gene in genes])
    fit = _cross_validated(features, scores)
    if not features.size or fit < LEAST_FIT:
        return Importance(stage, count, round(fit, 4))
    explained = _ridge(features, scores)[1:] ** 2
    shares = np.zeros(len(genes))
    for (first, second), part in zip(owners, explained / explained.sum(), strict=True):
        shares[first] += part / 2
        shares[second] += part / 2
    return Importance(
        stage,
        count,
        round(fit, 4),
        tuple(Share(str(gene["name"]), rounded(share)) for gene, share in zip(genes, shares, strict=True)),
        *(_summed([str(gene[key] or "") for gene in genes], shares) for key in ("group", "model", "parameter")),
    )


def _summed(names: Sequence[str], shares: Floats) -> tuple[Share, ...]:
    """The shares of what has one name together; nothing where all have the same."""
    totals = dict.fromkeys(names, 0.0)
    for name, share in zip(names, shares, strict=True):
        totals[name] += float(share)
    return tuple(Share(name, rounded(total)) for name, total in totals.items()) if len(totals) > 1 else ()


# ── the quadratic ──


def _features(genomes: Floats, choices: Sequence[int]) -> tuple[Floats, list[tuple[int, int]]]:
    """Terms of mean 0 and variance 1 that are orthogonal under the product of the genes' own distributions.

    A number has a linear and a square term; a choice one for each but the first thing that is chosen. Products are of two
    numbers' linear terms.

    Returns:
        Candidates × terms, and for each term the genes that it is of (twice the same for a gene's own).
    """
    columns: list[Floats] = []
    owners: list[tuple[int, int]] = []
    linear: dict[int, Floats] = {}
    for gene in range(genomes.shape[1]):
        values = genomes[:, gene]
        if choices[gene]:
            raw = [(np.round(values) == choice).astype(np.float64) for choice in range(1, choices[gene])]
        else:
            scale = values.std() or 1.0
            raw = [(values - values.mean()) / scale, ((values - values.mean()) / scale) ** 2]
        own: list[Floats] = []
        for column in raw:
            left = column - column.mean()
            for known in own:
                left = left - known * (known @ left) / len(left)
            size = float(np.sqrt((left**2).mean()))
            if size > 1e-9:
                own.append(left / size)
        columns += own
        owners += [(gene, gene)] * len(own)
        if own and not choices[gene]:
            linear[gene] = own[0]
    pairs = [(first, second) for first in linear for second in linear if first < second]
    columns += [linear[first] * linear[second] for first, second in pairs]
    return np.stack(columns, axis=1) if columns else np.zeros((len(genomes), 0)), owners + pairs


def _ridge(features: Floats, scores: Floats) -> Floats:
    """Constant and coefficients; the penalty by generalized cross-validation."""
    centre, mean = features.mean(axis=0), float(scores.mean())
    left, sizes, right = np.linalg.svd(features - centre, full_matrices=False)
    seen = left.T @ (scores - mean)
    rest = float(((scores - mean) ** 2).sum() - (seen**2).sum())
    best: tuple[float, Floats] | None = None
    for penalty in PENALTIES:
        kept = sizes**2 / (sizes**2 + penalty * len(scores))
        error = rest + float((((1 - kept) * seen) ** 2).sum())
        freedom = 1 - (1 + float(kept.sum())) / len(scores)
        value = error / freedom**2 if freedom > 0.02 else np.inf
        if best is None or value < best[0]:
            weights = right.T @ (seen * sizes / (sizes**2 + penalty * len(scores)))
            best = (value, np.concatenate([[mean - centre @ weights], weights]))
    assert best is not None
    return best[1]


def _cross_validated(features: Floats, scores: Floats) -> float:
    """R² of what each fold is told by a fit to the others; below 0 where their mean would have said more."""
    folds = np.arange(len(scores)) % FOLDS
    np.random.default_rng(SEED).shuffle(folds)
    told = np.empty(len(scores))
    for fold in range(FOLDS):
        held = folds == fold
        found = _ridge(features[~held], scores[~held])
        told[held] = found[0] + features[held] @ found[1:]
    return 1 - float(((scores - told) ** 2).sum() / ((scores - scores.mean()) ** 2).sum())
