"""What a run would do, before it does: its stages and baselines; and whether the disk has room for what it writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vlmerge.checkpoint.beside import free_bytes
from vlmerge.errors import CheckpointError
from vlmerge.fitness import FRONT_LIMIT
from vlmerge.search import MOST_STEPS, baselines, decided, notes, read_start, stages
from vlmerge.search.noise import MOST
from vlmerge.tasks.sets import aims_without_holdout
from vlmerge.types import FLOAT_DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.run import RunConfig

ROOM = 1.05
"""Free room that is asked for, in sizes of the model: beside its weights come tokenizer, figures and the record."""


@dataclass(frozen=True)
class PlannedStage:
    """One search: its name, how many numbers it varies, and how many candidates it tries."""

    name: str
    genes: int
    candidates: int


@dataclass(frozen=True)
class Plan:
    """A run's plan.

    Attributes:
        stages: Searches, in order.
        baselines: Rows of hand-set merges that are scored beside.
        baseline_merges: Merges that these rows take; the best of a row is shown.
        left_out: Row → why it cannot be.
        notes: What else there is to say of the stages.
        layers: Decoder layers of the host.
        simpler: Recipes at most that are tried after the election, simpler than the winner's.
        finalists: Searched candidates that stand for election, at most.
        in_parts: Whether candidates may be asked less than all search questions: in races, or where questions rotate.
        front: Members at most of the front, of a run with objectives: all of them are asked validation and holdout.
    """

    stages: tuple[PlannedStage, ...]
    baselines: tuple[str, ...]
    baseline_merges: int
    left_out: Mapping[str, str]
    notes: tuple[str, ...] = ()
    layers: int = 0
    simpler: int = 0
    finalists: int = 1
    in_parts: bool = False
    front: int = 0

    @property
    def candidates(self) -> int:
        """Candidates of all stages."""
        return sum(stage.candidates for stage in self.stages)

    def followed_by(self, other: Plan) -> Plan:
        """This plan, and then another run's stages and rows."""
        return replace(
            self,
            stages=(*self.stages, *other.stages),
            baselines=tuple(dict.fromkeys((*self.baselines, *other.baselines))),
            baseline_merges=self.baseline_merges + other.baseline_merges,
            notes=(*self.notes, *other.notes),
        )

    def lines(self) -> list[str]:
        """For people."""
        searches = "; ".join(f"{stage.name}, {stage.genes} genes, {stage.candidates} candidates" for stage in self.stages)
        lines = [f"search: {searches}", f"baselines ({self.baseline_merges} merges): {', '.join(self.baselines)}"]
        lines += [f"left out: {row}, {reason}" for row, reason in self.left_out.items()]
        if self.simpler:
            lines.append(f"after the election: at most {self.simpler} simpler recipes × the validation questions")
        lines += [f"note: {note}" for note in self.notes]
        return lines


def plan_of(run: RunConfig, host: ModelRef, layers: int, questions: int | None = None) -> Plan:
    """The plan of a run over models whose host has that many decoder layers.

    Args:
        run: The run.
        host: Its host.
        layers: Decoder layers.
        questions: Search questions that count; None: not known, so that of `space: auto` the first space is planned alone.

    Raises:
        ConfigError: The search's space does not fit the number of layers, or cannot say the start.
    """
    run = read_start(run)
    found = run if questions is None else decided(run, layers, host, questions)
    searches = stages(found, layers, host)
    searches[0].optimizer()  # Refuses an algorithm, or an option of it, that cannot be.
    planned = tuple(PlannedStage(stage.name, len(stage.space.genes), stage.budget) for stage in searches)
    hand_set = baselines(run, host)
    can_be = [each for each in hand_set if each.recipe is not None]
    return Plan(
        stages=planned,
        baselines=tuple(dict.fromkeys(each.row for each in can_be)),
        baseline_merges=len(can_be),
        left_out={each.row: each.reason or "" for each in hand_set if each.recipe is None},
        notes=(*notes(run, layers, host, questions), *_adapting(run), *aims_without_holdout(run)),
        layers=layers,
        simpler=MOST_STEPS if _simplifies(found) else 0,
        finalists=run.search.finalists,
        in_parts=run.may_race or run.search.rotate != 1,
        front=FRONT_LIMIT if run.search.objectives else 0,
    )


def _adapting(run: RunConfig) -> tuple[str, ...]:
    """What `noise: adapt` may do."""
    if run.search.noise != "adapt":
        return ()
    more = "" if run.search.rotate == 1 else "a generation whose ranks are unreliable is asked more of the search questions; "
    return (
        f"noise: adapt: {more}where all search questions do not tell its candidates apart, the next one is larger, up to "
        f"{MOST} times the first; the number of candidates in all stays",
    )


def _simplifies(run: RunConfig) -> bool:
    """Whether simpler recipes may be tried: there is one score, validation to compare on, and genes whose roles are known."""
    compared = run.validation.tasks or run.validation.fraction
    return bool(run.search.simplify and compared and not run.search.objectives and run.path is None)


def merged_dtype(run: RunConfig, stored: Sequence[str]) -> str:
    """torch's name of the dtype that a run's merges have.

    Args:
        run: The run.
        stored: dtypes of the host's float tensors, as safetensors spells them, the most frequent first.
    """
    block = run.merge or run.path
    named = (block.out_dtype or block.dtype) if block is not None else "bfloat16"
    return named or FLOAT_DTYPES[stored[0]]


def check_room(folder: Path, model_bytes: int) -> None:
    """Raises CheckpointError if the disk of a run folder (which need not be there yet) has no room for the run's model."""
    need, free = model_bytes * ROOM, free_bytes(folder)
    if free < need:
        raise CheckpointError(
            "the disk has no room for the model that this run will write at its end",
            where=str(folder),
            expected=f"{need / 1e9:.1f} GB free",
            found=f"{free / 1e9:.1f} GB free",
            remedy="free some room, or name a folder on another disk with --out",
        )
