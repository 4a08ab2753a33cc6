"""What races save and lose, and what adapting to noise does. Four studies, the cheap ones first.

**noise**: how well the reliability of a generation's ranks is known without a further question. Of a run without races a share
of the pictures is drawn by lot; what it says of its own reliability (`search/rotating.py`) stands beside how well its ranking
agrees with that of as many other pictures, beside the same from scores in the place of ranks (Cronbach's alpha, the coefficient
of generalizability), and beside UH-CMA-ES' measure, for which the candidates have to be asked those other pictures.

**replay**: of a run without races every candidate's answers are stored, so that any race over its generations can be held again
exactly, without a model: which share of the questions it saves, how many true survivors it stops, and what the survivors that
it names score less than the true ones (weighted as CMA-ES weighs them, in points of 100). The null is the same with candidates
that differ by chance alone: of each picture their scores change places.

**landscape**: what that does to a search. A smooth model of the run's scores, question by question, over the genes of its last
stage, with the residuals of a real candidate on top, stands for the live model. CMA-ES searches it as vlmerge does, from a
start some way off, with races and without, on three quarters of the pictures; the last mean is scored on the other pictures.
100 seeds, paired. Beside races stand searches without them that have fewer candidates, such whose questions rotate, and such
that adapt to noise; these go on until they have asked as many questions as the plain search.

**study**: real runs, whole: seeds × settings, each in a folder of its own that goes on where it stopped.

    python benchmarks/search/racing.py noise runs/demo              one minute; any finished run without races
    python benchmarks/search/racing.py replay runs/demo             one minute; the same
    python benchmarks/search/racing.py landscape runs/demo          ten minutes; --courses noise: those that adapt, six of them
    python benchmarks/search/racing.py study --out runs/racing      hours; stop it and start it again as you like
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from vlmerge.config.run import load_run
from vlmerge.evolve import evolve
from vlmerge.observers import Nobody
from vlmerge.search import Distribution
from vlmerge.search.genes import Gene
from vlmerge.search.noise import asked_on, next_population
from vlmerge.search.optimizers import optimizer
from vlmerge.search.racing import Race, Scores
from vlmerge.search.rotating import FIRST_SHARE, NOISY, chosen, next_share, reliability
from vlmerge.store import STORE_NAME, Store

RATES, BLOCKS, SURVIVORS = (0.05, 0.1, 0.2, 0.3, 0.4), (2, 4, 5), (0.5, 0.25)
DEALS, SEEDS = 20, 100
AWAY = 0.07
"""Standard deviation of each gene's first mean from the run's: there has to be something to find."""
SEARCHED = 0.75
"""Of the pictures; the rest is fresh."""


@dataclass(frozen=True)
class Recorded:
    """A run's search: generations of (candidates × questions), their genomes, and the picture of each question."""

    name: str
    generations: list[tuple[int, Scores, NDArray[np.float64]]]
    pictures: NDArray[np.int64]

    @classmethod
    def read(cls, folder: Path) -> Recorded:
        """Reads a run; generations in which a candidate failed or was stopped are left out."""
        with Store.read_only(folder / STORE_NAME) as store:
            counted = {task.task for task in store.tasks("search") if task.weight}
            questions = [each for each in store.questions("search") if each.task in counted]
            place = {(each.task, each.question): at for at, each in enumerate(questions)}
            members: dict[tuple[int, int], list[Any]] = {}
            for trial in store.trials():
                if trial.kind == "searched":
                    members.setdefault((trial.stage or 0, trial.generation or 0), []).append(trial)
            found: list[tuple[int, Scores, NDArray[np.float64]]] = []
            for (stage, _), trials in members.items():
                scores = np.full((len(trials), len(questions)), math.nan)
                for row, trial in zip(scores, trials, strict=True):
                    for answer in store.answers(trial.trial, "search"):
                        if answer.task in counted:
                            row[place[answer.task, answer.question]] = answer.score
                if not np.isnan(scores).any():
                    found.append((stage, scores, np.array([trial.genome for trial in trials])))
        groups = np.unique([each.group for each in questions], return_inverse=True)[1]
        return cls(folder.name, found, groups.astype(np.int64))


def hold(race: Race, whole: Scores) -> Scores:
    """What a race asks of scores that are all known."""
    seen = np.full(whole.shape, math.nan)
    for block, places in enumerate(race.blocks):
        for candidate in race.running(seen, block):
            seen[candidate, list(places)] = whole[candidate, list(places)]
    return seen


def exchanged(whole: Scores, pictures: NDArray[np.int64], lot: np.random.RandomState) -> Scores:
    """Candidates that are alike but for chance: of each picture their scores change places."""
    found = whole.copy()
    for picture in np.unique(pictures):
        columns = np.flatnonzero(pictures == picture)
        found[:, columns] = whole[np.ix_(lot.permutation(len(whole)), columns)]
    return found


def weighed(order: NDArray[np.int64], whole: NDArray[np.float64]) -> float:
    """Mean score of the first half of an order, weighted as CMA-ES recombines (Hansen 2016, equation 49)."""
    half = max(1, len(order) // 2)
    weights = np.log((len(order) + 1) / 2) - np.log(np.arange(1, half + 1))
    return float(np.average(whole[order[:half]], weights=weights))


def replay(runs: Sequence[Recorded]) -> list[dict[str, Any]]:
    """Every setting over every generation, dealt DEALS times."""
    lines: list[dict[str, Any]] = []
    for kept, blocks, rate in itertools.product(SURVIVORS, BLOCKS, RATES):
        found: list[tuple[float, float, float, float, float]] = []
        for run in runs:
            for (_, whole, _), deal in itertools.product(run.generations, range(1, DEALS + 1)):
                half, means = max(1, int(kept * len(whole))), whole.mean(axis=1)
                race = Race.deal(run.pictures.tolist(), survivors=half, error_rate=rate, blocks=blocks, seed=deal)
                seen = hold(race, whole)
                told = np.array(race.fitness(seen), dtype=np.float64)
                true = np.argsort(-means, kind="stable")
                lost = weighed(true, means) - weighed(np.argsort(-told, kind="stable"), means)
                alike = exchanged(whole, run.pictures, np.random.RandomState(deal))
                best = np.argsort(-alike.mean(axis=1), kind="stable")[:half]
                null = hold(race, alike)
                found.append(
                    (
                        race.saved(seen),
                        float(np.isnan(seen[true[:half]]).any(axis=1).mean()),
                        100 * lost,
                        float(np.isnan(null[best]).any(axis=1).mean()),
                        race.saved(null),
                    )
                )
        keys = ("saved", "false_stops", "points_lost", "false_stops_null", "saved_null")
        lines.append(
            {
                "survivors": kept,
                "blocks": blocks,
                "error_rate": rate,
                **dict(zip(keys, np.mean(found, axis=0).tolist(), strict=True)),
            }
        )
    return lines


# ── how reliable ranks are ──


def alpha(sums: Scores) -> float:
    """Reliability of mean scores, as `reliability` is of ranks: (candidates, pictures) → 0 to 1."""
    means = sums.mean(axis=1, keepdims=True)
    rest = sums - means - sums.mean(axis=0, keepdims=True) + sums.mean()
    between = sums.shape[1] * means.var(ddof=1)
    within = np.square(rest).sum() / ((sums.shape[0] - 1) * (sums.shape[1] - 1))
    return float(np.clip(1 - within / between, 0, 1)) if between else 0.0


def rank_change(first: Scores, again: Scores) -> float:
    """UH-CMA-ES' measure (Hansen et al., 2009, θ 0.2) of scores and of those of all candidates asked again; above 0: noise."""
    handler: Any = importlib.import_module("cma").NoiseHandler(len(first))
    handler.theta, handler.cum = 0.2, 1.0
    handler.fit, handler.fitre, handler.idx = list(-first), list(-again), np.arange(len(first))
    return float(handler.update_measure()[0])


def noise(runs: Sequence[Recorded]) -> list[dict[str, Any]]:
    """Every generation, DEALS times a share of its pictures and as many others."""
    lines: list[dict[str, Any]] = []
    for share in (0.25, 0.5):
        of_generation: list[NDArray[np.float64]] = []
        changes: list[tuple[float, float]] = []
        for run in runs:
            count = int(run.pictures.max()) + 1
            size = round(share * count)
            for _, whole, _ in run.generations:
                sums = np.stack([np.bincount(run.pictures, row, count) for row in whole])
                found: list[tuple[float, float, float]] = []
                for deal in range(1, DEALS + 1):
                    order = np.random.RandomState(deal).permutation(count)
                    here, there = order[:size], order[size : 2 * size]
                    asked = np.isin(run.pictures, here)
                    known = reliability(whole[:, asked], run.pictures[asked].tolist(), [1.0] * int(asked.sum()))
                    first, again = sums[:, here].sum(axis=1), sums[:, there].sum(axis=1)
                    true = float(importlib.import_module("scipy.stats").spearmanr(first, again)[0])
                    found.append((true, known or 0.0, alpha(sums[:, here])))
                    changes.append((rank_change(first, again), known or 0.0))
                of_generation.append(np.array(found))
        true = np.array([each[:, 0].mean() for each in of_generation])
        ours, scores = (np.concatenate([each[:, at] - each[:, 0].mean() for each in of_generation]) for at in (1, 2))
        noisy = np.array(changes)
        lines.append(
            {
                "share": share,
                "generations": len(true),
                "true": true.mean(),
                "known_minus_true": ours.mean(),
                "known_error": math.sqrt(np.square(ours).mean()),
                "alpha_minus_true": scores.mean(),
                "alpha_error": math.sqrt(np.square(scores).mean()),
                "noisy": float((noisy[:, 1] < NOISY).mean()),
                "noisy_by_rank_change": float((noisy[:, 0] > 0).mean()),
                "alike": float(((noisy[:, 1] < NOISY) == (noisy[:, 0] > 0)).mean()),
            }
        )
    return lines


# ── a landscape ──


class Landscape:
    """Scores by question of any genome: a kernel ridge regression of the recorded ones, and a real candidate's residuals.

    Far from what was recorded it goes to what each question scores among the worst tenth of the candidates.
    """

    def __init__(self, run: Recorded) -> None:
        self.stage = max(stage for stage, _, _ in run.generations)
        own = [(scores, genomes) for stage, scores, genomes in run.generations if stage == self.stage]
        self.scores = np.concatenate([scores for scores, _ in own])
        self.genomes = np.concatenate([genomes for _, genomes in own])
        self.population, self.generations = len(own[0][0]), len(own)
        self.start = own[0][1].mean(axis=0)
        worst = np.argsort(self.scores.mean(axis=1))[: len(self.scores) // 10]
        self._far = self.scores[worst].mean(axis=0)
        apart = np.linalg.norm(self.genomes[:, None] - self.genomes[None], axis=2)
        # The width and the ridge that say best what one candidate scores from all others, mean over its questions.
        choices = itertools.product(np.median(apart) * np.array([1.0, 2.0, 4.0]), (0.03, 0.1, 0.3, 1.0))
        self._width, self._ridge = min(choices, key=lambda choice: self._error(apart, *choice))
        kernel = np.exp(-np.square(apart / self._width))
        inverse = np.linalg.inv(kernel + self._ridge * np.eye(len(kernel)))
        self._weights = inverse @ (self.scores - self._far)
        self.residuals = self._weights / np.diag(inverse)[:, None]
        self.fit = self._fit()

    def _error(self, apart: NDArray[np.float64], width: float, ridge: float) -> float:
        inverse = np.linalg.inv(np.exp(-np.square(apart / width)) + ridge * np.eye(len(apart)))
        left_out = (inverse @ (self.scores - self._far)) / np.diag(inverse)[:, None]
        return float(np.square(left_out.mean(axis=1)).mean())

    def _fit(self) -> float:
        """Share of the candidates' differences in whole scores that is foretold from all other candidates."""
        means = self.scores.mean(axis=1)
        return 1 - float(np.square(self.residuals.mean(axis=1)).mean() / means.var())

    def smooth(self, genomes: NDArray[np.float64]) -> Scores:
        """Without residuals, (genomes, questions)."""
        apart = np.linalg.norm(genomes[:, None] - self.genomes[None], axis=2)
        return np.clip(self._far + np.exp(-np.square(apart / self._width)) @ self._weights, 0, 1)

    def scored(self, genomes: NDArray[np.float64], lot: np.random.RandomState) -> Scores:
        """What candidates answer: the smooth part and the residuals of recorded candidates, drawn by lot."""
        found = self.smooth(genomes) + self.residuals[lot.randint(len(self.residuals), size=len(genomes))]
        return np.clip(found, 0, 1)


@dataclass(frozen=True)
class Course:
    """A way to search.

    Attributes:
        name: What it is called.
        blocks: Of its races; 1: none.
        error_rate: Of its races.
        survivors: Of its races.
        generations: How many, in those of a plain search; None: until as many questions are asked.
        rotate: Share of the pictures of a generation, or `auto`.
        adapts: Whether generations are asked on while their ranks are unreliable, and grow where all pictures are not enough.
    """

    name: str
    blocks: int = 1
    error_rate: float = 0.2
    survivors: float = 0.5
    generations: float | None = 1.0
    rotate: float | Literal["auto"] = 1.0
    adapts: bool = False


COURSES = (
    Course("every question"),
    Course("races: survivors 0.5, error rate 0.2", 4, 0.2, 0.5),
    Course("races: survivors 0.5, error rate 0.4", 4, 0.4, 0.5),
    Course("races: survivors 0.25, error rate 0.2", 4, 0.2, 0.25),
    Course("races: survivors 0.25, error rate 0.2; 1.8 times the generations", 4, 0.2, 0.25, generations=1.8),
    Course("70 % of the generations", generations=0.7),
    Course("50 % of the generations", generations=0.5),
    Course("half of the pictures", rotate=0.5),
    Course("half of the pictures; twice the generations", generations=2, rotate=0.5),
)
NOISE_COURSES = (
    COURSES[0],
    Course("a quarter of the pictures", generations=None, rotate=0.25),
    Course("half of the pictures", generations=None, rotate=0.5),
    Course("rotate: auto", generations=None, rotate="auto"),
    Course("a quarter of the pictures, adapting", generations=None, rotate=0.25, adapts=True),
    Course("half of the pictures, adapting", generations=None, rotate=0.5, adapts=True),
    Course("rotate: auto, adapting", generations=None, rotate="auto", adapts=True),
    Course("all pictures, adapting", generations=None, adapts=True),
)
LISTED = {"races": COURSES, "noise": NOISE_COURSES}
LONGEST = 20
"""Times the generations of a plain search that one without a number of them may have."""


def search(
    land: Landscape, pictures: NDArray[np.int64], course: Course, seed: int, generations: int, share: float
) -> tuple[float, ...]:
    """One search.

    Args:
        land: What is searched.
        pictures: Of its questions.
        course: How.
        seed: Of everything.
        generations: Of a plain search.
        share: Of the pictures, which are searched.

    Returns:
        Questions asked, in those of a plain search; score of the last mean on the searched and on fresh pictures; generations.
    """
    lot = np.random.RandomState(seed)
    count = int(pictures.max()) + 1
    searched = np.isin(pictures, lot.permutation(count)[: round(share * count)])
    genes = [Gene(f"{at}") for at in range(len(land.start))]
    begin = Distribution(tuple((land.start + lot.normal(0, AWAY, len(land.start))).tolist()), 0.1)
    rounds = LONGEST * generations if course.generations is None else max(1, round(course.generations * generations))
    searcher = optimizer("cma-es", genes, begin, seed, land.population, rounds)
    asked = last = 0.0
    shares = [FIRST_SHARE if course.rotate == "auto" else course.rotate]
    population = land.population
    # The last generation is asked where most of it still fits.
    while not searcher.done and (course.generations is not None or asked + last / 2 < generations):
        if course.adapts:
            searcher.resize(population)
        genomes = searcher.ask()
        answers = land.scored(np.array(genomes), lot)
        while True:
            asks = searched & np.isin(pictures, list(chosen(pictures[searched].tolist(), shares, seed)))
            known = _known(answers[:, asks], pictures[asks]) if course.adapts or course.rotate == "auto" else None
            more = asked_on(shares[-1], known, whole=bool((asks == searched).all())) if course.adapts else None
            if more is None:
                break
            shares[-1] = more
        race = Race.deal(
            pictures[asks].tolist(),
            survivors=max(1, int(course.survivors * len(genomes))),
            error_rate=course.error_rate,
            blocks=course.blocks,
            seed=1000 * seed + searcher.told,
        )
        seen = hold(race, answers[:, asks])
        last = (1 - race.saved(seen)) * asks.sum() / searched.sum() * len(genomes) / land.population
        asked += last
        searcher.tell(genomes, race.fitness(seen))
        if course.adapts:
            population = next_population(len(genomes), land.population, known, whole=bool((asks == searched).all()))
        shares.append(next_share(shares[-1], known) if course.rotate == "auto" else course.rotate)
    mean = land.smooth(np.array([searcher.mean]))[0]
    return asked / generations, 100 * float(mean[searched].mean()), 100 * float(mean[~searched].mean()), searcher.told


def _known(scores: Scores, pictures: NDArray[np.int64]) -> float | None:
    return reliability(scores, pictures.tolist(), [1.0] * len(pictures))


def landscape(run: Recorded, generations: int | None, courses: Sequence[Course], share: float) -> dict[str, Any]:
    """Every course, SEEDS times; differences to the first are paired by seed."""
    land = Landscape(run)
    rounds = generations or land.generations
    found = {
        course.name: np.array([search(land, run.pictures, course, seed, rounds, share) for seed in range(1, SEEDS + 1)])
        for course in courses
    }
    whole = found[courses[0].name]
    lines: list[dict[str, Any]] = []
    for name, scores in found.items():
        apart = scores - whole
        error = apart.std(axis=0, ddof=1) / math.sqrt(SEEDS)
        lines.append(
            {
                "course": name,
                "asked": scores[:, 0].mean(),
                "generations": scores[:, 3].mean(),
                "searched": scores[:, 1].mean(),
                "fresh": scores[:, 2].mean(),
                "searched_minus_whole": apart[:, 1].mean(),
                "searched_error": error[1],
                "fresh_minus_whole": apart[:, 2].mean(),
                "fresh_error": error[2],
            }
        )
    lot = np.random.RandomState(1)
    begin = float(100 * land.smooth(land.start + lot.normal(0, AWAY, (SEEDS, len(land.start)))).mean())
    about = {"run": run.name, "genes": len(land.start), "population": land.population, "generations": rounds}
    return {**about, "seeds": SEEDS, "pictures searched": share, "fit": land.fit, "start": begin, "lines": lines}


# ── real runs ──

SETTINGS: dict[str, Any] = {"off": False, "on": True, "half": {"survivors": 0.5}}


def study(out: Path, seeds: Sequence[int], names: Sequence[str], limit: int | None, fevals: int) -> list[dict[str, Any]]:
    """Seeds × settings on the demo family; a run that is finished is read, one that was stopped goes on."""
    demo = Path(str(resources.files("vlmerge"))) / "demo"
    given = yaml.safe_load((demo / "run.yaml").read_text(encoding="utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []
    for seed, name in itertools.product(seeds, names):
        run = json.loads(json.dumps(given))
        run["merge"]["models"] = [str(demo / each) for each in run["merge"]["models"]]
        run["merge"]["base_model"] = str(demo / run["merge"]["base_model"])
        for key in ("tasks", "validation", "holdout"):
            run[key] = [{**task, "name": str(demo / task["name"])} for task in run[key] if task.get("weight") != 0]
        if limit is not None:
            run["tasks"] = [{**task, "limit": limit} for task in run["tasks"]]
        # No holdout here: settings are chosen by fresh questions of the search's own kind.
        run |= {"holdout": []}
        run["search"] |= {"seed": seed, "max_fevals": fevals, "racing": SETTINGS[name]}
        file = out / f"{name}-{seed}.yaml"
        file.write_text(yaml.safe_dump(run, allow_unicode=True), encoding="utf-8")
        folder = evolve(load_run(file), out / f"{name}-{seed}", Nobody())
        told = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        rows = {(row["candidate"], row["set"]): row["score"] for row in told["rows"] if row["task"] == "all"}
        saved = told.get("questions_saved", 0.0)
        with Store.read_only(folder / STORE_NAME) as store:
            seconds = sum(one.seconds or 0.0 for one in store.generations())
        lines.append(
            {"setting": name, "seed": seed, "saved": saved, "seconds": seconds}
            | {f"{row} {split}": rows.get((row, split)) for row in ("mean", "winner") for split in ("search", "validation")}
        )
        (out / "study.json").write_text(json.dumps(lines, indent=1), encoding="utf-8")
        print(json.dumps(lines[-1]), flush=True)
    return lines


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    heads = list(lines[0])
    rows = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in line.values()] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("noise", "replay", "landscape", "study"))
    parser.add_argument("runs", nargs="*", type=Path, help="run folders: of noise and replay any number, of landscape one")
    parser.add_argument("--out", type=Path, help="of study: where its runs lie")
    parser.add_argument("--seeds", default="1,2,3,4,5", help="of study, with commas")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="of study: some of these, with commas")
    parser.add_argument("--fevals", type=int, default=160, help="of study: candidates of each run")
    parser.add_argument("--limit", type=int, help="of study: only so many search questions")
    parser.add_argument("--generations", type=int, help="of landscape; default: as many as the run's last stage had")
    parser.add_argument("--courses", choices=LISTED, default="races", help="of landscape")
    parser.add_argument(
        "--searched", type=float, default=SEARCHED, help="of landscape: share of the pictures that are searched"
    )
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    given = parser.parse_args()
    if given.what == "study":
        if given.out is None:
            parser.error("study needs --out")
        told: Any = study(
            given.out, [int(seed) for seed in given.seeds.split(",")], given.settings.split(","), given.limit, given.fevals
        )
        lines = told
    elif not given.runs:
        parser.error(f"{given.what} needs a run folder")
    elif given.what in ("noise", "replay"):
        lines = told = (noise if given.what == "noise" else replay)([Recorded.read(folder) for folder in given.runs])
    else:
        told = landscape(Recorded.read(given.runs[0]), given.generations, LISTED[given.courses], given.searched)
        lines = told["lines"]
        print({key: value for key, value in told.items() if key != "lines"})
    print(table(lines))
    if given.json is not None:
        given.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
