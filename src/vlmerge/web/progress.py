"""A run as it stands at this moment, as plain values for a page: where it is, figure 1, the candidates, and their weights."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

from vlmerge.aims import bounds, violation
from vlmerge.config.recipe import dump_recipe
from vlmerge.errors import ConfigError
from vlmerge.recording import recorded_run
from vlmerge.report.heat_map import heat_map
from vlmerge.report.history import RECENT, History, read_history
from vlmerge.report.phrases import Phrases
from vlmerge.report.recipe_table import recipe_table
from vlmerge.report.view import model_headings
from vlmerge.run_folder import is_worked_on, part_at_work, readable_store, stop_pending
from vlmerge.search import Stage, stages
from vlmerge.standing import row_of, set_score
from vlmerge.store import Generation, Split, Store, Trial
from vlmerge.web.sight import visible_sets

State = Literal["waiting", "running", "stopping", "stopped", "finished"]


class Progress:
    """Reads a run again and again. What cannot change any more (a trial's score, the plan) is worked out once.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._run: tuple[object, object] | None = None
        self._scores: dict[tuple[int, Split], float | None] = {}
        self._kept: dict[int, bool] = {}
        self._plan: tuple[Stage, ...] = ()
        self._lock = threading.Lock()

    def version(self) -> str:
        """Changes whenever something of the run may have."""
        store = readable_store(part_at_work(self.folder))
        parts: list[object] = [self.state(finished=None)]
        for file in (store, store.with_name(f"{store.name}-wal")):
            if file.exists():
                about = file.stat()
                parts += [about.st_ino, about.st_size, about.st_mtime_ns]
        return "-".join(map(str, parts))

    def state(self, *, finished: bool | None) -> State:
        """Whether anybody works on it; `finished` is the store's word, None where that does not matter."""
        if is_worked_on(self.folder):
            return "stopping" if stop_pending(self.folder) else "running"
        return "finished" if finished else "stopped"

    def read(self, say: Phrases) -> dict[str, Any]:
        """Everything that the page shows of the run, but for answers.

        Args:
            say: The page's language.
        """
        part = part_at_work(self.folder)
        with self._lock, Store.read_only(readable_store(part)) as store:
            self._begin(store)
            trials, generations = store.trials(), store.generations()
            history = read_history(store)
            state = self.state(finished=bool(store.get("finished")) and part == self.folder)
            at = where(store, trials, generations, say, state)
            searched = [trial for trial in trials if trial.kind == "searched"]
            scores = self._search_scores(store, trials, history)
            kept = self._within(store, trials, history)
            leading = {trial: score if kept[trial] else None for trial, score in scores.items()}
            leader = _leader(store, trials, leading)
            first = next((trial for trial in trials if trial.trial == leader["a"]), None)
            return {
                "name": str((part == self.folder and store.get("name")) or self.folder.absolute().name),
                "first_part": part != self.folder,
                "state": state,
                "where": at if part == self.folder else say("web.first_part", where=at),
                "generation": _generation(generations, self._plan),
                "done": sum(trial.status != "racing" for trial in searched),
                "tried": len(trials),
                "budget": history.budget,
                "per_minute": _per_minute(trials),
                "seconds_left": history.seconds_left,
                "last_at": trials[-1].finished_at if trials else None,
                "contaminated": list(map(str, cast(Sequence[object], store.get("contaminated") or ()))),
                "sets": visible_sets(store),
                "has_holdout": any(task.split == "holdout" for task in store.tasks()),
                "best": max((score for score in leading.values() if score is not None), default=None),
                "chart": self._chart(store, trials, searched, scores, history, say),
                "trials": [self._line(store, trial, scores, say) for trial in trials],
                "standing": store.get("standing") or {},
                "leader": leader,
                "leader_label": None if first is None else first.label,
                "leader_weights": None if first is None else weights_of(store, first.recipe, say),
                "under_way": self._under_way(store, trials, generations, say, state),
                "elected": bool(store.get("standing")),
            }

    def weights(self, number: int, say: Phrases) -> dict[str, Any] | None:
        """The weights of a trial, as the heat map of figure 3."""
        with Store.read_only(readable_store(part_at_work(self.folder))) as store:
            trial = store.trial(number)
            return None if trial is None else weights_of(store, trial.recipe, say)

    # ── inside ──

    def _begin(self, store: Store) -> None:
        """Forgets everything where the folder was emptied and another run begun."""
        run = (store.get("config_asked"), store.get("started_at"))
        if run != self._run:
            self._run = run
            self._scores.clear()
            self._kept.clear()
            self._plan = _plan(store)

    def _score(self, store: Store, trial: Trial, split: Split) -> float | None:
        """In points of 100."""
        key = (trial.trial, split)
        if key not in self._scores:
            score = set_score(store, trial, split)
            if score is None and split != "search":
                return None  # It may be asked later.
            self._scores[key] = None if score is None else 100 * score
        return self._scores[key]

    def _search_scores(self, store: Store, trials: Sequence[Trial], history: History) -> dict[int, float | None]:
        """Trial → its score on the search questions: of a searched one what the optimizer was told."""
        points = iter(history.points)
        return {
            trial.trial: next(points).score if trial.kind == "searched" else self._score(store, trial, "search")
            for trial in trials
        }

    def _within(self, store: Store, trials: Sequence[Trial], history: History) -> dict[int, bool]:
        """Trial → whether it keeps the run's constraints on the search questions."""
        points, held_to = iter(history.points), bounds(store, "search")
        for trial in trials:
            if trial.kind == "searched":
                self._kept[trial.trial] = next(points).kept
            elif trial.trial not in self._kept:
                self._kept[trial.trial] = not violation(store, trial.trial, held_to)
        return self._kept

    def _chart(
        self,
        store: Store,
        trials: Sequence[Trial],
        searched: Sequence[Trial],
        scores: Mapping[int, float | None],
        history: History,
        say: Phrases,
    ) -> dict[str, Any]:
        """Figure 1's numbers; of a generation that goes on the candidates alone, for its mean is not its mean yet."""
        told = {(one.stage, one.generation) for one in store.generations() if one.fitness is not None}
        best: dict[str, float] = {}
        for trial in trials:
            score = scores[trial.trial]
            row = row_of(trial.label)
            if trial.kind == "baseline" and score is not None:
                best[row] = max(score, best.get(row, score))
        return {
            "points": [
                {
                    "number": point.number,
                    "trial": trial.trial,
                    "label": trial.label,
                    "score": _rounded(point.score),
                    "kept": point.kept,
                }
                for point, trial in zip(history.points, searched, strict=True)
            ],
            "spreads": [
                {key: _rounded(value) if isinstance(value, float) else value for key, value in asdict(spread).items()}
                for spread in history.spreads
                if (spread.stage, spread.generation) in told
            ],
            "stages": [
                {"stage": mark.stage, "name": say(f"stage.{mark.name}"), "first": mark.first} for mark in history.stages
            ],
            "baselines": [
                {"name": say.candidate(row), "score": _rounded(best[row])} for row in sorted(best, key=best.__getitem__)
            ],
            "last": max(len(history.points), 0 if history.finished else history.budget or 0, 1),
        }

    def _line(self, store: Store, trial: Trial, scores: Mapping[int, float | None], say: Phrases) -> dict[str, Any]:
        """One line of the table of trials."""
        fresh = {split: _rounded(self._score(store, trial, split)) for split in visible_sets(store) if split != "search"}
        return {
            "trial": trial.trial,
            "label": trial.label,
            "name": named(trial, say),
            "kind": trial.kind,
            "stage": None if trial.stage is None else trial.stage + 1,
            "generation": None if trial.generation is None else trial.generation + 1,
            "search": _rounded(scores[trial.trial]),
            **fresh,
            "seconds": round(seconds_of(trial.seconds), 2),
            "reason": trial.reason,
            "stopped_after": len(store.answers(trial.trial, "search")) if trial.status == "stopped" else None,
        }

    def _under_way(
        self, store: Store, trials: Sequence[Trial], generations: Sequence[Generation], say: Phrases, state: State
    ) -> dict[str, Any] | None:
        """The candidate that is being tried, with its weights: the first of the last generation that is not recorded yet."""
        if state not in ("running", "stopping") or not generations or store.get("standing"):
            return None
        last = max(generations, key=lambda one: (one.stage, one.generation))
        known = {(trial.stage, trial.generation, trial.position) for trial in trials}
        for position, genome in enumerate(last.genomes):
            if (last.stage, last.generation, position) not in known:
                if last.stage >= len(self._plan):
                    return None
                recipe = self._plan[last.stage].space.decode(genome)
                label = f"stage-{last.stage + 1}/{last.generation + 1:03d}/{position + 1:02d}"
                return {"label": label, "weights": weights_of(store, dump_recipe(recipe), say)}
        return None


def named(trial: Trial, say: Phrases) -> str:
    """How a person reads a trial's label: a hand-set merge by its row, with the number that was tried."""
    row = row_of(trial.label)
    tried = trial.label[len(row) :].lstrip("@")
    name = say.candidate(row)
    return name if name == row or not tried else f"{name} ({tried})"


def where(store: Store, trials: Sequence[Trial], generations: Sequence[Generation], say: Phrases, state: State) -> str:
    """In a few words: what the run is doing, or where it stopped."""
    if state == "finished":
        return say("status.finished")
    if store.get("finished"):  # The first part of two, and the second is being loaded.
        return say("web.at_start")
    if store.get("standing"):
        looked = (store.get("simplified") or {"done": True})["done"]
        return say("web.at_holdout" if looked else "web.at_simpler")
    if generations:
        told = all(generation.fitness is not None for generation in generations)
        planned = cast(Sequence[Mapping[str, Any]], store.get("stages") or [])
        budget = sum(int(stage.get("budget", 0)) for stage in planned)
        if told and sum(len(generation.genomes) for generation in generations) >= budget:
            return say("web.at_election")
        stage = generations[-1].stage
        return say(f"stage.{planned[stage].get('name', '')}") if stage < len(planned) else ""
    return say("web.at_baselines") if trials or store.get("config_asked") else say("web.at_start")


def weights_of(store: Store, recipe: str, say: Phrases) -> dict[str, Any] | None:
    """A recipe's weights by layer group and model; None where it has no numbers."""
    layers = store.get("layers")
    table = recipe_table(recipe, model_headings(tuple(store.models())), layers if isinstance(layers, int) else None)
    return None if table is None else heat_map(table, say)


def _leader(store: Store, trials: Sequence[Trial], scores: Mapping[int, float | None]) -> dict[str, int | None]:
    """Who stands on the two sides of a comparison before anybody has chosen: the winner or the best so far, and
    the best merge without a search."""
    standing = cast(Mapping[str, int], store.get("standing") or {})
    scored = [trial.trial for trial in trials if scores[trial.trial] is not None]
    best = max(scored, key=lambda trial: (scores[trial] or 0.0, -trial), default=None)
    by_hand = [trial.trial for trial in trials if trial.kind == "baseline" and scores[trial.trial] is not None]
    beside = max(by_hand, key=lambda trial: (scores[trial] or 0.0, -trial), default=None)
    return {"a": standing.get("winner", best), "b": beside}


def _plan(store: Store) -> tuple[Stage, ...]:
    """The run's stages with their spaces, which turn genomes into recipes; none before the run is recorded."""
    layers = store.get("layers")
    host = next((model.name for model in store.models() if model.is_host), None)
    if not isinstance(layers, int) or host is None or store.get("config") is None:
        return ()
    try:
        config = recorded_run(store)
        ref = next((ref for ref in config.models if str(ref) == host), None)
        return () if ref is None else stages(config, layers, ref)
    except ConfigError:  # Of another version: all but the weights of the candidate under way can be shown.
        return ()


def _generation(generations: Sequence[Generation], plan: Sequence[Stage]) -> dict[str, int] | None:
    """Which generation of which stage, counted from 1."""
    if not generations:
        return None
    last = generations[-1]
    return {
        "stage": last.stage + 1,
        "stages": max(len(plan), last.stage + 1),
        "generation": last.generation + 1,
        "generations": plan[last.stage].generations if last.stage < len(plan) else last.generation + 1,
    }


def _per_minute(trials: Sequence[Trial]) -> float | None:
    spent = [seconds_of(trial.seconds) for trial in trials[-RECENT:]]
    total = sum(spent)
    return round(60 * len(spent) / total, 1) if total > 0 else None


def seconds_of(seconds: Mapping[str, float]) -> float:
    """Seconds of all parts."""
    return sum(seconds.values())


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
