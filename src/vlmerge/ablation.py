"""What a winner's genes are good for, shown and not fitted: the winner asked again with some of them set back.

Of each group of tensors the genes are set back to what the stage before had found (of a first stage: to where it began); of
each model the weights are set to 0. Each such merge is asked the validation questions and compared with the winner there,
paired. A finished run is given this afterwards; its tables, its winner and its holdout stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vlmerge.bench import Bench
from vlmerge.errors import RunFolderError
from vlmerge.evolve import try_baselines
from vlmerge.paired import paired
from vlmerge.recording import recorded_run
from vlmerge.run_folder import RunFolder, open_run
from vlmerge.search import Distribution, Handed, Point, stages
from vlmerge.setting import Setting, begin
from vlmerge.simplify import point_of
from vlmerge.statistics import holm, paired_p
from vlmerge.store import STORE_NAME
from vlmerge.types import Genome
from vlmerge.watching import Watch

if TYPE_CHECKING:
    from vlmerge.bench import Observer
    from vlmerge.search import Stage
    from vlmerge.store import Store

KEY = "ablation"
"""Of the store."""


@dataclass(frozen=True)
class Ablated:
    """The winner with some genes set back.

    Attributes:
        what: `group` (its genes set back) or `model` (its weights set to 0).
        name: Of the group or the model.
        trial: The trial of this merge.
        difference: To the winner on the validation questions, in points of 100: below 0, the genes were good for something.
            None where the merge failed.
        low: Lower end of its paired interval; None where a single picture group says nothing of spread.
        high: Upper end.
        p: Two-sided, adjusted by Holm for all of them.
    """

    what: str
    name: str
    trial: int
    difference: float | None
    low: float | None
    high: float | None
    p: float | None

    def line(self) -> str:
        """For a terminal."""
        done = f"{self.name} set back" if self.what == "group" else f"without {self.name}"
        if self.difference is None:
            return f"{done}: failed"
        span = "" if self.low is None or self.high is None else f" [{self.low:+.1f}, {self.high:+.1f}]"
        return f"{done}: {self.difference:+.1f}{span}" + ("" if self.p is None else f", p {self.p:.3f}")


def ablate(path: Path, observer: Observer, *, lang: str = "en") -> list[Ablated]:
    """Asks what is missing, writes it down, and writes the page anew; what was asked before is not asked again.

    Args:
        path: A finished run folder.
        observer: Who watches.
        lang: Language of the page.

    Raises:
        RunFolderError: No finished run; a winner without genes; no validation questions.
    """
    if not (path / STORE_NAME).is_file():
        raise _refused("there is no run in this folder", path, "a finished run folder", f"no {STORE_NAME}")
    with open_run(path) as folder:
        store = folder.store
        if not store.get("finished"):
            raise _refused("this run is not finished", path, "a finished run", "a run that goes on, or stopped")
        if not any(task.weight for task in store.tasks("validation")):
            raise _refused("this run has no validation questions", path, "questions that the search did not see", "none")
        watch = Watch(folder, observer, lang)
        _require_genes(store, path)
        setting = begin(recorded_run(store), folder, observer)
        found = _ablate(folder, setting, watch)
        store.set(KEY, [asdict(one) for one in found])
        watch.report(final=True)
        return found


def _ablate(folder: RunFolder, setting: Setting, watch: Watch) -> list[Ablated]:
    store = folder.store
    bench = Bench(store, setting.live, setting.sets)
    ranked = try_baselines(setting, bench, watch)  # All of them are in the store: nothing is asked.
    planned = stages(setting.config, setting.layers, setting.models.host, ranked)
    winner = store.trial(int(store.get("standing")["winner"]))
    assert winner is not None
    point = point_of(winner, planned)
    if point is None:
        raise _no_genes(folder.path, winner.label)
    wanted = list(_set_back(point, _before(point, planned, store)))
    asked = sum(len(one.questions) for one in setting.sets.validation)
    watch.say(f"{len(wanted)} merges × {asked} validation questions = {len(wanted) * asked:,} answers")
    found: list[Ablated] = []
    drawn: list[float | None] = []
    with watch.step("ablation", len(wanted)):
        for what, name, genome in wanted:
            label = f"{KEY}/{what}/{name}"
            trial = bench.enter(label, "ablation", point.space.decode(genome), genome)
            score = bench.score(trial, "validation")
            watch.tried(trial, score)
            if score is None:
                found.append(Ablated(what, name, trial.trial, None, None, None, None))
                drawn.append(None)
                continue
            both = paired(store, "validation", winner.trial, trial.trial)
            span = both.points()
            drawn.append(paired_p(both.drawn, both.pictures))
            low, high = (None if end is None else round(end, 4) for end in (span.low, span.high))
            found.append(Ablated(what, name, trial.trial, round(span.mean, 4), low, high, None))
    adjusted = iter(holm([p for p in drawn if p is not None]))
    return [one if p is None else replace(one, p=round(next(adjusted), 4)) for one, p in zip(found, drawn, strict=True)]


def _before(point: Point, planned: tuple[Stage, ...], store: Store) -> Genome:
    """What the winner's stage began with, in its own space: the last mean of the stage before, or its start."""
    number = next(place for place, stage in enumerate(planned) if stage.space == point.space)
    if number:
        stage = planned[number - 1]
        mean = store.trial(stage.row)
        assert mean is not None
        assert mean.genome is not None
        return point.space.lift(Handed(stage.space, Distribution(mean.genome, 1.0))).mean
    start = planned[0].start
    return point.space.start if start is None else start


def _set_back(point: Point, before: Genome) -> Iterator[tuple[str, str, Genome]]:
    """Group after group, then model after model: what, name, genome. What would change nothing is left out."""
    pairs = list(zip(point.roles, point.genome, before, strict=True))
    for group in dict.fromkeys(role.group for role in point.roles if role.group):
        genome = tuple(old if role.group == group else value for role, value, old in pairs)
        if genome != point.genome:
            yield "group", group, genome
    weights = point.weights()
    for model in weights if len(weights) > 1 else ():
        genome = tuple(0.0 if (role.model, role.parameter) == (model, "weight") else value for role, value, _ in pairs)
        if genome != point.genome:
            yield "model", model, genome


def _require_genes(store: Store, path: Path) -> None:
    """Refuses a hand-set winner before any model is loaded."""
    rows = cast("dict[str, Any]", store.get("standing") or {})
    winner = store.trial(int(rows.get("winner", 0)))
    if winner is None or winner.genome is None:
        raise _no_genes(path, "nothing" if winner is None else winner.label)


def _no_genes(path: Path, winner: str) -> RunFolderError:
    return _refused("this run's winner has no genes that could be set back", path, "a winner found by a search", winner)


def _refused(what: str, path: Path, expected: str, found: str) -> RunFolderError:
    remedy = "name the folder of a finished run (`vlmerge evolve` finishes one) whose winner was found by its search"
    return RunFolderError(what, where=str(path), expected=expected, found=found, remedy=remedy)
