"""Who answers on the page of `vlmerge ask --web`: models that stand alone, and merges of a run, made in place by turns."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vlmerge.ask import failing_as_error, load_model
from vlmerge.config.recipe import read_recipe
from vlmerge.errors import CheckpointError, RunFolderError
from vlmerge.merge import prepare_run
from vlmerge.plan import merged_dtype
from vlmerge.recording import check_models, recorded_run
from vlmerge.run_folder import readable_store, settle
from vlmerge.standing import leaders, set_score
from vlmerge.store import Split, Store, Trial
from vlmerge.tasks.sets import template_of
from vlmerge.types import Answer, Decoding, Question

if TYPE_CHECKING:
    from vlmerge.checkpoint import Progress
    from vlmerge.config.run import RuntimeSpec
    from vlmerge.runtime.live import LiveModel

Role = Literal["winner", "best", "host", "baseline", "model", "beside"]


@dataclass(frozen=True)
class Speaker:
    """One who answers.

    Attributes:
        role: What it is to the others.
        row: Its row in the run's tables (`host`, `swap:NAME`, …), or the name of the model.
        answer: Asks it; raises UserError where it cannot answer.
    """

    role: Role
    row: str
    answer: Callable[[Question, Decoding], Answer]


class Panel:
    """Speakers, of whom one is asked at a time: they share a device."""

    def __init__(self, speakers: Sequence[Speaker]) -> None:
        self.speakers = tuple(speakers)
        self._turn = threading.Lock()

    def answer(self, place: int, question: Question, decoding: Decoding) -> Answer:
        """What a speaker says.

        Raises:
            CheckpointError: It cannot answer.
        """
        with self._turn:
            return self.speakers[place].answer(question, decoding)


def model_speaker(model: str, role: Role, runtime: RuntimeSpec, progress: Progress | None = None) -> Speaker:
    """A checkpoint, loaded.

    Args:
        model: A folder or a hub id.
        role: What it is to the others.
        runtime: Where it runs.
        progress: Told of bytes downloaded.

    Raises:
        CheckpointError: It cannot be opened, or memory is short.
    """
    with _enough_memory(model):
        live = load_model(model, runtime, progress=progress)

    def answer(question: Question, decoding: Decoding) -> Answer:
        with failing_as_error(model):
            return next(live.answer([question], decoding))

    return Speaker(role, model, answer)


def run_speakers(run: Path, runtime: RuntimeSpec) -> list[Speaker]:
    """A run's winner (or best candidate so far), its host, and its best merge without a search: one live model, merged anew.

    Args:
        run: The run folder.
        runtime: Where it runs; dtype and threads are the run's own.

    Raises:
        RunFolderError: Nothing was scored yet; a model has changed.
        CheckpointError: A model is gone, or memory is short.
    """
    from vlmerge.runtime.live import LiveModel, choose_placement

    settle(run)
    with Store.read_only(readable_store(run)) as store:
        chosen = _chosen(store, run)
        used = recorded_run(store)
        models = prepare_run(used, cached_only=True)
        check_models(store, models.checkpoints)
    host = models.anatomies[models.host]
    placement = choose_placement(
        runtime.device,
        "auto",
        1,
        used.runtime.threads,
        host_dtype=merged_dtype(used, host.dtypes),
        facts=host.facts,
        models=models,
    )
    with _enough_memory(str(run)):
        live = LiveModel.load(models, placement, template=template_of(used.every_task, used.preset))
    merged = _Merged(live)
    return [Speaker(role, row, merged.speaks(trial, f"{run}, {row}")) for role, row, trial in chosen]


class _Merged:
    """One live model that is each of several merges in turn."""

    def __init__(self, live: LiveModel) -> None:
        self._live = live
        self._recipe: str | None = None

    def speaks(self, trial: Trial, name: str) -> Callable[[Question, Decoding], Answer]:
        def answer(question: Question, decoding: Decoding) -> Answer:
            with failing_as_error(name):
                if self._recipe != trial.recipe:
                    self._recipe = None
                    self._live.merge(read_recipe(trial.recipe, trial.label))
                    self._recipe = trial.recipe
                return next(self._live.answer([question], decoding))

        return answer


def _chosen(store: Store, run: Path) -> list[tuple[Role, str, Trial]]:
    """Who speaks for the run, no merge twice. Without a winner the best candidate so far does."""
    standing: dict[str, int] = store.get("standing") or {}
    split: Split = store.get("elected_on") or "search"
    best = {row: trial for row, (_, trial) in leaders(store, searched=True).items()}
    winner = best.get("best") if "winner" not in standing else store.trial(standing["winner"])
    by_hand = {row: trial for row, trial in best.items() if trial.kind == "baseline"}
    scored = {row: score for row, trial in by_hand.items() if (score := set_score(store, trial, split)) is not None}
    found: list[tuple[Role, str, Trial]] = []
    if winner is not None:
        found.append(("winner", "winner", winner) if standing else ("best", "best", winner))
    if "host" in by_hand:
        found.append(("host", "host", by_hand["host"]))
    if scored:
        row = max(scored, key=lambda name: scored[name])
        found.append(("baseline", row, by_hand[row]))
    if not found:
        raise RunFolderError(
            "nothing of this run can be asked yet",
            where=str(run),
            expected="a candidate that was scored",
            found=f"{store.next_trial() - 1} trials",
            remedy="wait for the first candidates, or go on with the run: `vlmerge evolve`",
        )
    recipes: set[str] = set()
    alone: list[tuple[Role, str, Trial]] = []
    for role, row, trial in found:
        if trial.recipe not in recipes:
            recipes.add(trial.recipe)
            alone.append((role, row, trial))
    return alone


@contextlib.contextmanager
def _enough_memory(model: str) -> Generator[None]:
    """A model that does not fit becomes an error that says what to do."""
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise CheckpointError(
            "there is no memory for this model beside the others",
            where=model,
            expected="room for every model that is to answer",
            found=(str(error).splitlines() or ["out of memory"])[0],
            remedy="ask it alone (without --beside and --run), or use --device cpu",
        ) from error
