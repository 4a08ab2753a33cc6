"""A run as a study of Optuna's in an SQLite file, for optuna-dashboard and for whoever knows Optuna's tools."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.aims import Bounds, bounds, kept
from vlmerge.atomic import put
from vlmerge.config.model_ref import ModelRef
from vlmerge.errors import ConfigError, RunFolderError
from vlmerge.recording import recorded_run
from vlmerge.search import stages
from vlmerge.standing import estimates, set_score
from vlmerge.store import SPLITS, Store, Trial
from vlmerge.trial_means import task_means

if TYPE_CHECKING:
    from optuna.distributions import FloatDistribution

MARK = "vlmerge"
"""User attribute of every study that is written here: such a file may be written again."""


def write_study(store: Store, file: Path) -> int:
    """Writes every trial of a run, also while the run goes on; a study that was written here before is replaced whole.

    A trial's value is its score on the search questions in points of 100, its parameters are its genes (a trial without genes,
    a hand-set merge, has none), and its user attributes say what it is: `trial`, `label`, `kind`, `stage`, `generation`,
    `recipe`, `row` of the tables, scores by task and on further sets.

    Args:
        store: The run's store.
        file: The SQLite file; absent, or a study of vlmerge's.

    Returns:
        The number of trials.

    Raises:
        ConfigError: Optuna is not installed.
        RunFolderError: The run has not begun, or the file is something else or cannot be written.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(
            "a study needs Optuna, which is not installed",
            where="--optuna",
            expected="the package optuna",
            found="no such package",
            remedy="pip install 'vlmerge[optuna]'",
        )
    if store.get("config") is None:
        raise RunFolderError(
            "this run has not begun",
            where=str(store.path.parent),
            expected="a run with its setting written down",
            remedy="run `vlmerge evolve` first",
        )
    _refuse_foreign(file)
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        count = _write(store, partial)
        put(partial, file)
    except (OSError, *_storage_errors()) as error:
        raise RunFolderError(
            "the study cannot be written",
            where=str(file),
            found=str(error),
            remedy="name a file in a folder that can be written",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return count


def _storage_errors() -> tuple[type[Exception], ...]:
    """What Optuna and the library under it raise where a file cannot be written."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    return (StorageInternalError, SQLAlchemyError)


def _refuse_foreign(file: Path) -> None:
    if not file.exists():
        return
    import sqlite3

    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            ours = connection.execute("SELECT 1 FROM study_user_attributes WHERE key = ?", (MARK,)).fetchone()
    except sqlite3.Error:
        ours = None
    if ours is None:
        raise RunFolderError(
            "the file is there already, and not a study that vlmerge wrote",
            where=str(file),
            expected="a file that is absent, or one that --optuna wrote before",
            remedy="name another file: nothing in this one was touched",
        )


def _write(store: Store, file: Path) -> int:
    import optuna
    from optuna.storages import RDBStorage

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = RDBStorage(f"sqlite:///{os.fspath(file.absolute())}")
    try:
        name = str(store.get("name") or store.path.absolute().parent.name)
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
        for key, value in _facts(store).items():
            study.set_user_attr(key, value)
        trials = _trials(store)
        study.add_trials(trials)
        return len(trials)
    finally:
        storage.remove_session()
        storage.engine.dispose()
        optuna.logging.set_verbosity(level)


def _facts(store: Store) -> dict[str, Any]:
    return {
        MARK: str(store.get("vlmerge")),
        "value": "score on the search questions, points of 100",
        "config": store.get("config"),
        "stages": _stage_names(store),
        "models": [model.name for model in store.models()],
        "finished": bool(store.get("finished")),
        "contaminated": list(store.get("contaminated") or []),
    }


def _stage_names(store: Store) -> list[str]:
    planned: list[Mapping[str, Any]] = store.get("stages") or []
    return [str(stage["name"]) for stage in planned]


def _trials(store: Store) -> list[Any]:
    # What is asked after the election was never asked the search questions: it has no value.
    names, trials = _gene_names(store), [trial for trial in store.trials() if trial.kind not in ("simple", "ablation")]
    rows: dict[int, list[str]] = {}
    standing: dict[str, int] = store.get("standing") or {}
    for row, trial in standing.items():
        rows.setdefault(int(trial), []).append(row)
    ranges, known = _ranges(names, trials), _Known(bounds(store, "search"), estimates(store), _stage_names(store))
    return [_frozen(store, trial, names, ranges, rows.get(trial.trial, []), known) for trial in trials]


@dataclass(frozen=True)
class _Known:
    """What is read once for all trials."""

    held_to: Bounds
    estimates: Mapping[int, float]
    stages: Sequence[str]


def _gene_names(store: Store) -> dict[int | str, tuple[str, ...]]:
    """The genes of each stage, by its number and by the row of its mean; with the stage before them where there are several: a
    name means one thing in a study."""
    host = next(model.name for model in store.models() if model.is_host)
    found = stages(recorded_run(store), int(store.get("layers")), ModelRef.parse(host))
    names: dict[int | str, tuple[str, ...]] = {}
    for number, stage in enumerate(found):
        own = tuple(f"{stage.name}: {name}" if len(found) > 1 else name for name in stage.space.names)
        names |= {number: own, stage.row: own}
    return names


def _genes(trial: Trial, names: Mapping[int | str, tuple[str, ...]]) -> dict[str, float]:
    if trial.genome is None:
        return {}
    stage = trial.label if trial.stage is None else trial.stage  # A mean is labelled as its row.
    return dict(zip(names[stage], trial.genome, strict=True))


def _ranges(names: Mapping[int | str, tuple[str, ...]], trials: Sequence[Trial]) -> Mapping[str, FloatDistribution]:
    """Genes have no bounds in the search, parameters of Optuna's need some: as far as the search has come."""
    from optuna.distributions import FloatDistribution

    values: dict[str, list[float]] = {}
    for trial in trials:
        for name, value in _genes(trial, names).items():
            values.setdefault(name, []).append(value)
    return {name: FloatDistribution(min(each), max(each)) for name, each in values.items()}


def _frozen(
    store: Store,
    trial: Trial,
    names: Mapping[int | str, tuple[str, ...]],
    ranges: Mapping[str, FloatDistribution],
    rows: Sequence[str],
    known: _Known,
) -> Any:
    from optuna.trial import FrozenTrial, TrialState

    score, genes = set_score(store, trial, "search"), _genes(trial, names)
    if trial.status == "sampled":  # Where questions rotate, what the optimizer was told.
        score = known.estimates.get(trial.trial)
    end = datetime.fromisoformat(trial.finished_at).astimezone().replace(tzinfo=None)
    facts: dict[str, Any] = {
        "trial": trial.trial,
        "label": trial.label,
        "kind": trial.kind,
        "recipe": trial.recipe,
        "seconds": dict(trial.seconds),
    }
    if trial.stage is not None:
        facts |= {"stage": known.stages[trial.stage], "generation": (trial.generation or 0) + 1}
    if rows:
        facts["row"] = list(rows)
    if trial.reason is not None:
        facts["reason"] = trial.reason
    for split in SPLITS:
        value = set_score(store, trial, split)
        if value is not None and split != "search":
            facts[split] = 100 * value
    for task, mean in task_means(store, trial.trial, "search").items() if trial.is_whole else ():
        facts[f"search, {task}"] = 100 * mean
    stopped = trial.status == "stopped"  # A race is what Optuna calls pruning.
    ended = TrialState.PRUNED if stopped else TrialState.FAIL
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=ended if score is None else TrialState.COMPLETE,
        value=None if score is None else 100 * score,
        datetime_start=end - timedelta(seconds=sum(trial.seconds.values())),
        datetime_complete=end,
        params=genes,
        distributions={name: ranges[name] for name in genes},
        user_attrs=facts,
        system_attrs=_constraints(store, trial, known.held_to),
        intermediate_values={},
    )


def _constraints(store: Store, trial: Trial, held_to: Bounds) -> dict[str, list[float]]:
    """What Optuna asks of a constraint: a number above 0 where it is broken, so that its best trial is one that keeps all."""
    found = [] if trial.status == "failed" else kept(store, trial.trial, held_to)
    return {"constraints": [one.shortfall for one in found]} if found else {}
