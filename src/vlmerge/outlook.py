"""What a run would ask, what room it needs, and how long it would take: beside what `check` says of its models."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.budgets import forecast
from vlmerge.check import CheckResult, check
from vlmerge.checkpoint.beside import free_bytes
from vlmerge.errors import RunFolderError
from vlmerge.hybrid import first_part, second_part
from vlmerge.plan import ROOM, Plan, plan_of
from vlmerge.recording import stored_config
from vlmerge.report.results import seconds_per_trial
from vlmerge.store import SPLITS, STORE_NAME, Split, Store
from vlmerge.tasks import is_here
from vlmerge.tasks.judge import Estimate
from vlmerge.tasks.rows import open_file
from vlmerge.tasks.sets import check_eyes, check_run_names, load_sets
from vlmerge.types import size

if TYPE_CHECKING:
    from vlmerge.checkpoint import Progress
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.run import RunConfig


@dataclass(frozen=True)
class PlannedTask:
    """One task of one set, as it would be asked; weight 0: shown, no part of the score."""

    set: Split
    task: str
    questions: int
    weight: float
    metric: str
    decoding: str


@dataclass(frozen=True)
class Outlook:
    """What is ahead of a run.

    Attributes:
        plan: Its stages and baselines; as many as its questions carry, where they are known.
        tasks: What it would ask; empty where `away` is not.
        away: Questions on the hub, which a check does not fetch.
        leaks: What stands in two sets, if the run allows it.
        judges: What judges would be asked.
        folder: The run folder.
        need_bytes: Room that the run's model needs on its disk.
        free_bytes: Room that is there.
        seconds_per_trial: Mean of this run's trials so far; None before the first.
    """

    plan: Plan
    tasks: tuple[PlannedTask, ...]
    away: tuple[str, ...]
    leaks: tuple[str, ...]
    judges: tuple[Estimate, ...]
    folder: str
    need_bytes: int
    free_bytes: int
    seconds_per_trial: float | None

    def plain(self) -> dict[str, Any]:
        """For JSON, but for the plan, which `check` tells."""
        return {key: value for key, value in asdict(self).items() if key != "plan"}

    def lines(self) -> list[str]:
        """For people."""
        lines = [
            f"{one.set}: {one.task}, {one.questions} questions, metric {one.metric}, {one.decoding}"
            + ("" if one.weight else " (shown, no part of the score)")
            for one in self.tasks
        ]
        if self.away:
            lines.append(f"questions not looked at (they are on the hub): {', '.join(self.away)}")
        lines += [f"CONTAMINATED: {leak}" for leak in self.leaks]
        lines += [judge.line() for judge in self.judges]
        lines.append(f"disk: {size(self.need_bytes)} for the run's model, {size(self.free_bytes)} free at {self.folder}")
        return [*lines, self._time()]

    def _time(self) -> str:
        trials = self.plan.candidates + self.plan.baseline_merges
        asked = sum(one.questions for one in self.tasks if one.set == "search")
        most = "at most " if self.plan.in_parts else ""
        work = f"{self.plan.candidates} candidates and {self.plan.baseline_merges} hand-set merges"
        work += (
            f" × {asked} search questions = {most}{trials * asked:,} answers" if asked else ", each asked all search questions"
        )
        fresh = [(one.set, one.questions) for one in self.tasks if one.set != "search"]
        if fresh:
            counts: Counter[str] = Counter()
            for split, count in fresh:
                counts[split] += count
            each = " and ".join(f"{count} {split}" for split, count in counts.items())
            work += f", then every row of the table × {each} questions"
        if self.seconds_per_trial is None:
            return f"time: {work}; how long one takes, the first generation will tell"
        minutes = trials * self.seconds_per_trial / 60
        return (
            f"time: {work}; {self.seconds_per_trial:.1f} s per trial so far in {self.folder}, "
            f"so about {minutes:,.0f} min for all trials of the search"
        )


def check_run(run: RunConfig, folder: Path, *, name: str, progress: Progress | None) -> tuple[CheckResult, Outlook]:
    """The verb `check` of a run: what would pair, its plan as its questions carry it, and what else is ahead of it.

    Args:
        run: The run.
        folder: The run folder, which need not be there.
        name: How messages name the file.
        progress: Told of bytes downloaded.

    Raises:
        UserError: Models that are missing or do not fit together, questions that cannot be asked.
    """
    check_run_names(run, name)
    found = check(run, progress=progress)
    ahead = outlook(run, found, folder)
    return replace(found, plan=ahead.plan), ahead


def outlook(run: RunConfig, found: CheckResult, folder: Path) -> Outlook:
    """Looks ahead. Questions on the hub are left alone; local ones are read, with their pictures.

    Args:
        run: The run.
        found: What `check` says of it.
        folder: Its run folder, which need not be there.

    Raises:
        TaskError: Questions that cannot be asked, or pictures for models that cannot see.
        RunFolderError: The record of a run in the folder cannot be read.
    """
    assert found.plan is not None
    missing = [spec for spec in run.every_task if not Path(spec.path or spec.name).exists()]
    for spec in missing:
        if is_here(spec):
            open_file(Path(spec.path or spec.name))  # Says that it is missing.
    away = tuple(dict.fromkeys(spec.name for spec in missing))
    tasks: tuple[PlannedTask, ...] = ()
    leaks: tuple[str, ...] = ()
    judges: tuple[Estimate, ...] = ()
    plan = found.plan
    if not away:
        sets = load_sets(run)
        host = next(ref for ref in run.models if str(ref) == found.host)
        plan = _planned(run, found, host, sets.counted("search"))
        if not found.host_sees:
            check_eyes(sets, found.host)
        leaks = tuple(str(leak) for leak in sets.leaks)
        judges = tuple(forecast(sets, plan))
        tasks = tuple(
            PlannedTask(split, one.task.name, len(one.questions), one.weight, one.task.metric, one.protocol)
            for split in SPLITS
            for one in sets[split]
        )
    return Outlook(
        plan=plan,
        tasks=tasks,
        away=away,
        leaks=leaks,
        judges=judges,
        folder=str(folder),
        need_bytes=int(found.output_bytes * ROOM),
        free_bytes=free_bytes(folder),
        seconds_per_trial=_seconds(run, folder),
    )


def _planned(run: RunConfig, found: CheckResult, host: ModelRef, questions: int) -> Plan:
    """The plan with as many search questions; of a run of two parts each part's."""
    assert found.plan is not None
    depths = {row.name: row.layers for row in found.models}

    def one(part: RunConfig) -> Plan:
        part = part.with_layers({ref: depths[str(ref)] for ref in part.models})
        return plan_of(part, host, depths[str(host)], questions)

    return one(first_part(run)).followed_by(one(second_part(run, host, host))) if run.hybrid else one(run)


def _seconds(run: RunConfig, folder: Path) -> float | None:
    """Mean seconds of this run's trials, where it has begun in the folder; None where the folder holds nothing of it."""
    if not (folder / STORE_NAME).is_file():
        return None
    with Store.read_only(folder / STORE_NAME) as store:
        try:
            begun = stored_config(run, store)
        except RunFolderError:
            return None  # Another run's seconds say nothing; `evolve` refuses the folder, with what differs.
        return None if begun is None else seconds_per_trial(store.trials())
