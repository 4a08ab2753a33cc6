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
from numpy.typing import NDArray

from vlmerge.statistics import Floats, rounded
from vlmerge.store import QuestionRecord, Store
from vlmerge.task_weights import counted

LEAST_FIT = 0.3
"""Cross-validated R² below which nothing is shown."""
LEAST_CANDIDATES = 12
FOLDS = 10
PENALTIES = tuple(10.0**power for power in range(-3, 4))
"""Of the ridge, times the number of candidates: chosen by generalized cross-validation (Golub, Heath & Wahba 1979)."""
SEED = 1
"""Of the division into folds."""
ASKED = ("scored", "stopped", "sampled")
"""What has become of candidates that are told of: asked everything, or a part of it."""
ROUNDS, SETTLED = 200, 1e-9
"""Of the estimate: how often at most, and which change is none (scores are 0 to 1)."""
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

    Candidates that failed are left out. Of those that were asked a part of the search questions (in races, or where questions
    rotate) the score is estimated, by `_estimated`, and counts by how well it is known.

    Args:
        store: The run's store.
    """
    known = cast("Sequence[Sequence[Mapping[str, Any]] | None]", store.get(KEY) or ())
    names = [str(stage.get("name", "")) for stage in cast("Sequence[Mapping[str, Any]]", store.get("stages") or ())]
    found: list[Importance] = []
    tried = _tried(store) if any(known) else {}
    for number, (name, genes) in enumerate(zip(names, known, strict=False)):
        points = [(genome, row) for genome, row in tried.get(number, ()) if genes and len(genome) == len(genes)]
        if genes and points:
            estimate = _estimated(np.stack([row for _, row in points]), *_weights_and_pictures(store))
            found.append(of_stage(name, genes, np.array([genome for genome, _ in points]), *estimate))
    return tuple(found)


def _tried(store: Store) -> dict[int, list[tuple[tuple[float, ...], Floats]]]:
    """Stage → (genome, scores of the questions that count, NaN where it was not asked) of its candidates that did not fail."""
    weights = {task.task: task.weight for task in store.tasks("search") if task.weight}
    place = {(each.task, each.question): at for at, each in enumerate(_questions(store))}
    rows: dict[int, Floats] = {}
    for trial, task, question, score in store.scores("search"):
        if (task, question) in place:
            row = rows.setdefault(trial, np.full(len(place), np.nan))
            row[place[task, question]] = counted(score, weights[task])
    found: dict[int, list[tuple[tuple[float, ...], Floats]]] = {}
    for trial in store.trials():
        if trial.kind != "searched" or trial.status not in ASKED or trial.genome is None or trial.stage is None:
            continue
        if trial.trial in rows:
            found.setdefault(trial.stage, []).append((trial.genome, rows[trial.trial]))
    return found


def _questions(store: Store) -> list[QuestionRecord]:
    """The search questions that count."""
    counting = {task.task for task in store.tasks("search") if task.weight}
    return [each for each in store.questions("search") if each.task in counting]


def _weights_and_pictures(store: Store) -> tuple[Floats, NDArray[np.int64]]:
    """Of each question that counts: its task's weight, over how many the task has (they sum to 1); and its picture's number."""
    weights = {task.task: abs(task.weight) for task in store.tasks("search")}
    questions = _questions(store)
    sizes = Counter(each.task for each in questions)
    found = np.array([weights[each.task] / sizes[each.task] for each in questions])
    _, pictures = np.unique(["".join(each.pictures) or each.question for each in questions], return_inverse=True)
    return found / found.sum(), pictures.astype(np.int64)


def _estimated(scores: Floats, weights: Floats, pictures: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """What each candidate would score on all questions, and the variance of that estimate.

    A candidate and a question each have a number that add up to a score, fitted by least squares, one after the other until
    nothing changes: whoever was asked the easier questions is not taken for the better one. Where all were asked everything
    these are the scores.

    Args:
        scores: Candidates × questions, NaN where a candidate was not asked.
        weights: Of the questions; they sum to 1.
        pictures: Of each question the number of its picture: a picture's questions are asked together.
    """
    asked = ~np.isnan(scores)
    given, weighted = np.where(asked, scores, 0.0), asked * weights
    shares = weighted.sum(axis=1)
    times = np.maximum(asked.sum(axis=0), 1)
    skill, ease = np.zeros(len(scores)), np.zeros(scores.shape[1])
    for _ in range(ROUNDS):
        before = skill
        skill = ((given - ease) * weighted).sum(axis=1) / shares
        if np.abs(skill - before).max() < SETTLED:
            break
        ease = ((given - skill[:, None]) * asked).sum(axis=0) / times
        ease -= ease @ weights
    left = np.where(asked, scores - skill[:, None] - ease, 0.0) * weighted
    by_picture = np.stack([np.bincount(pictures, row) for row in left])
    seen = np.stack([np.bincount(pictures, row) > 0 for row in weighted]).sum(axis=1)
    spread = (by_picture**2).sum(axis=1) / shares**2
    return skill, np.where(shares < 1 - 1e-9, (1 - shares) * spread * seen / np.maximum(seen - 1, 1), 0.0)


def of_stage(
    stage: str,
    genes: Sequence[Mapping[str, Any]],
    genomes: Floats,
    scores: Floats,
    variances: Floats | None = None,
) -> Importance:
    """Fits, says how well, and divides the variance.

    Args:
        stage: Its name.
        genes: What the genes are about, as the store has them.
        genomes: Candidates × genes.
        scores: One for each candidate.
        variances: Of each score, as an estimate; None: 0. A score counts the less, the more of what the quadratic leaves
            unexplained is of this kind.
    """
    chances = np.zeros(len(scores)) if variances is None else variances
    count = len(scores)
    if count < LEAST_CANDIDATES or not scores.std() > 0:
        return Importance(stage, count, None)
    features, owners = _features(genomes, [int(gene.get("choices") or 0) for gene in genes])
    weights = np.ones(count)
    if features.size and chances.any():
        missed = _missed(features, scores, weights)
        weights = 1 / (max(missed - float(chances.mean()), missed / count, SETTLED) + chances)
        weights /= weights.mean()
    fit = _cross_validated(features, scores, weights, float(np.average(chances, weights=weights)))
    if not features.size or fit < LEAST_FIT:
        return Importance(stage, count, round(fit, 4))
    explained = _ridge(features, scores, weights)[1:] ** 2
    parts = np.zeros(len(genes))
    for (first, second), part in zip(owners, explained / explained.sum(), strict=True):
        parts[first] += part / 2
        parts[second] += part / 2
    return Importance(
        stage,
        count,
        round(fit, 4),
        tuple(Share(str(gene["name"]), rounded(share)) for gene, share in zip(genes, parts, strict=True)),
        *(_summed([str(gene[key] or "") for gene in genes], parts) for key in ("group", "model", "parameter")),
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


def _ridge(features: Floats, scores: Floats, weights: Floats) -> Floats:
    """Constant and coefficients; the penalty by generalized cross-validation. Scores count by their weights."""
    centre, mean = np.average(features, axis=0, weights=weights), float(np.average(scores, weights=weights))
    scale = np.sqrt(weights)
    left, sizes, right = np.linalg.svd((features - centre) * scale[:, None], full_matrices=False)
    seen = left.T @ ((scores - mean) * scale)
    rest = float((weights * (scores - mean) ** 2).sum() - (seen**2).sum())
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


def _cross_validated(features: Floats, scores: Floats, weights: Floats, chance: float) -> float:
    """R² of what each fold is told by a fit to the others; below 0 where their mean would have said more.

    It is about the variance that is not chance, which no fit can tell; 0 where there is no other.
    """
    varied = float(np.average((scores - np.average(scores, weights=weights)) ** 2, weights=weights)) - chance
    return 1 - max(0.0, _missed(features, scores, weights) - chance) / varied if varied > 0 else 0.0


def _missed(features: Floats, scores: Floats, weights: Floats) -> float:
    """Mean square of what each fold's scores differ by from what a fit to the others foretells."""
    folds = np.arange(len(scores)) % FOLDS
    np.random.default_rng(SEED).shuffle(folds)
    told = np.empty(len(scores))
    for fold in range(FOLDS):
        held = folds == fold
        found = _ridge(features[~held], scores[~held], weights[~held])
        told[held] = found[0] + features[held] @ found[1:]
    return float(np.average((scores - told) ** 2, weights=weights))
