"""Everything that the page, the card, the figures and the table show of a run, read from its store once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vlmerge.report.claim import Claim, read_claim
from vlmerge.report.examples import Examples, read_examples
from vlmerge.report.front import Front, read_front
from vlmerge.report.history import History, read_history
from vlmerge.report.importance import Importance, importance
from vlmerge.report.importance_table import ImportanceTable, importance_table
from vlmerge.report.keeping import Keeping, keeping, outside
from vlmerge.report.path_picture import PathPicture, path_picture
from vlmerge.report.recipe_table import RecipeTable, recipe_table
from vlmerge.report.results import SPLITS, Row, rows, seconds_per_trial, standing
from vlmerge.report.sanity import Sanity, sanity
from vlmerge.report.saved import Saved, saved
from vlmerge.report.selection import Selection, selection
from vlmerge.store import ModelRecord, Split, Store, TaskRecord, Trial


@dataclass(frozen=True)
class SetSize:
    """How large one task of one set is."""

    questions: int
    pictures: int


@dataclass(frozen=True)
class RunView:
    """A run as its report shows it.

    Attributes:
        name: The run's name.
        standing: Candidate → trial, in the order of every table.
        rows: Every candidate on every set and task.
        claim: The headline.
        history: The search, candidate by candidate.
        examples: Questions drawn by lot; None before there is a comparison.
        leader: The trial whose recipe is shown: the winner's, or the best one so far.
        recipe: Its numbers; None where it is a path.
        path: Its layers, where it is a path.
        models, tasks: As recorded.
        sizes: Size of each task of each set; `all` counts a set as a whole.
        trials: Number of searched candidates.
        failures: Reason → number of failed candidates.
        seconds: Mean seconds of a candidate.
        meta: What the run noted about itself, by key.
        selection: What the best candidate's search score owes to having been chosen by it; None where that cannot be said yet.
        simple: The numbers of the simplest recipe that is not worse than the winner's; None where there is none.
        measured: How important genes were, stage by stage; empty before the end.
        importance: The same with ablations, laid out for the page; None where nothing can be said.
        saved: What races and rotating questions have saved; None for a run without them.
        sanity: Writing, length and loops of every candidate's answers on the set of the claim.
        keeping: What became of the run's constraints.
        front: Of a run with objectives.
        outside: Candidates that break one on the set that elected (before the election: on the search questions).
    """

    name: str
    standing: Mapping[str, int]
    rows: tuple[Row, ...]
    claim: Claim
    history: History
    examples: Examples | None
    leader: Trial | None
    recipe: RecipeTable | None
    path: PathPicture | None
    models: tuple[ModelRecord, ...]
    tasks: tuple[TaskRecord, ...]
    sizes: Mapping[tuple[Split, str], SetSize]
    trials: int
    failures: Mapping[str, int]
    seconds: float | None
    meta: Mapping[str, Any]
    selection: Selection | None
    sanity: tuple[Sanity, ...]
    simple: RecipeTable | None
    measured: tuple[Importance, ...]
    importance: ImportanceTable | None
    keeping: tuple[Keeping, ...]
    outside: frozenset[str]
    front: Front | None

    @property
    def feasible(self) -> bool | None:
        """Whether the winner keeps every constraint on the set that elected it; None before it, and without constraints."""
        elected = [one for one in self.keeping if one.set == self.meta["elected_on"]]
        return all(one.held for one in elected) if elected else None

    saved: Saved | None = None

    @property
    def contaminated(self) -> tuple[str, ...]:
        """What the holdout shares with the search; empty where it is clean."""
        return tuple(str(finding) for finding in self.meta["contaminated"] or ())

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return bool(self.meta["finished"])

    @property
    def notes(self) -> Mapping[str, Any]:
        """What became of tensors; models by their headings, whatever folder they lie in."""
        labels = sorted(((model.name, model.label) for model in self.models), key=lambda pair: -len(pair[0]))

        def named(value: Any) -> Any:
            if isinstance(value, str):
                for name, label in labels:
                    value = value.replace(name, label)
                return value
            if isinstance(value, Mapping):
                return {named(key): named(inner) for key, inner in cast(Mapping[str, Any], value).items()}
            return [named(inner) for inner in cast(list[Any], value)] if isinstance(value, list) else value

        return named(self.meta["notes"] or {})

    def row(self, candidate: str, split: Split | None, task: str = "all") -> Row | None:
        """One row, where there is one."""
        return next((r for r in self.rows if (r.candidate, r.set, r.task) == (candidate, split, task)), None)


META = (
    "config", "left_out", "elected_on", "contaminated", "holdout_views", "finished", "budget", "stages", "agreements",
    "started_at", "notes", "seed", "vlmerge", "machine", "layers", "failures",
    "simplified", "ablation",
)  # fmt: skip
"""Keys of the store that the report reads; any of them may be missing."""


def read_view(store: Store) -> RunView:
    """Reads a run, finished or going on.

    Args:
        store: The run's store.
    """
    trials = store.trials()
    searched = [trial for trial in trials if trial.kind == "searched"]
    places, found, history = standing(store), tuple(rows(store)), read_history(store)
    meta = {key: store.get(key) for key in META}
    leader = _leader(trials, places, history)
    models = tuple(store.models())
    layers = meta["layers"] if isinstance(meta["layers"], int) else None
    measured = importance(store) if meta["finished"] else ()
    headings = model_headings(models)
    path = None if leader is None else path_picture(leader.recipe, headings)
    claim = read_claim(store, found, finished=bool(meta["finished"]))
    return RunView(
        name=str(store.get("name") or store.path.absolute().parent.name),
        standing=places,
        rows=found,
        claim=claim,
        history=history,
        examples=read_examples(store, found, int(meta["seed"] or 1)),
        leader=leader,
        recipe=None if leader is None or path is not None else recipe_table(leader.recipe, headings, layers),
        path=path,
        models=models,
        tasks=tuple(store.tasks()),
        sizes=_sizes(store),
        trials=len(searched),
        failures=dict(Counter(trial.reason or "" for trial in trials if trial.status == "failed").most_common()),
        seconds=seconds_per_trial(searched),
        meta=meta,
        selection=selection(found, claim.set),
        sanity=() if claim.set is None else tuple(sanity(store, places, claim.set)),
        simple=_simple(trials, places, models, layers),
        measured=measured,
        importance=importance_table(measured, meta["ablation"] or ()) if meta["finished"] else None,
        keeping=keeping(store, places),
        front=read_front(store, places),
        outside=outside(store, places, meta["elected_on"] or "search"),
        saved=saved(store),
    )


def _leader(trials: list[Trial], places: Mapping[str, int], history: History) -> Trial | None:
    by_number = {trial.trial: trial for trial in trials}
    if "winner" in places:
        return by_number.get(places["winner"])
    searched = [trial for trial in trials if trial.kind == "searched"]
    scored = [point for point in history.points if point.score is not None and point.kept]
    if not scored:
        return None
    return searched[max(scored, key=lambda point: (point.score or 0.0, -point.number)).number - 1]


def _simple(
    trials: list[Trial], places: Mapping[str, int], models: tuple[ModelRecord, ...], layers: int | None
) -> RecipeTable | None:
    simple = next((trial for trial in trials if trial.trial == places.get("simple")), None)
    return None if simple is None else recipe_table(simple.recipe, model_headings(models), layers)


def model_headings(models: tuple[ModelRecord, ...]) -> dict[str, str]:
    """Heading by every name that a recipe may have for a model."""
    labels: dict[str, str] = {}
    for model in models:
        for name in (model.name, model.path, f"{model.name}@{model.revision}", str(Path(model.path).absolute())):
            labels.setdefault(name, model.label)
    return labels


def _sizes(store: Store) -> dict[tuple[Split, str], SetSize]:
    sizes: dict[tuple[Split, str], SetSize] = {}
    for split in SPLITS:
        by_task: dict[str, list[str]] = {}
        for question in store.questions(split):
            by_task.setdefault(question.task, []).append(question.group)
        sizes.update({(split, task): SetSize(len(groups), len(set(groups))) for task, groups in by_task.items()})
        if by_task:
            weights = {task.task: task.weight for task in store.tasks(split)}
            counted = [group for task, groups in by_task.items() for group in groups if weights.get(task, 0) > 0]
            sizes[split, "all"] = SetSize(len(counted), len(set(counted)))
    return sizes
