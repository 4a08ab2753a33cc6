"""The winner of a run, or any of its trials, as a checkpoint with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlmerge.config.recipe import read_recipe
from vlmerge.errors import RunFolderError
from vlmerge.merge import Prepared, merge, prepare
from vlmerge.recording import check_models
from vlmerge.run_folder import RunFolder, settle
from vlmerge.store import STORE_NAME, Store, Trial

if TYPE_CHECKING:
    from vlmerge.checkpoint import Progress

MODEL_FOLDER = "model"


def export(run: Path, out: Path, trial: int | None = None, *, progress: Progress | None = None) -> Trial:
    """Writes a trial of a run folder as a checkpoint. Models come from where the run found them; the hub is not asked.

    Args:
        run: The run folder.
        out: The folder to make; absent or empty.
        trial: Number of the trial; None: the winner.
        progress: Told of bytes written.

    Returns:
        The trial.

    Raises:
        RunFolderError: No such trial, or no winner yet; a model has changed.
        CheckpointError: A model is gone; the output cannot be written.
    """
    settle(run)
    with Store.read_only(run / STORE_NAME) as store:
        chosen = _choose(store, trial, run)
        recipe = read_recipe(chosen.recipe, chosen.label)
        prepared = prepare(recipe, cached_only=True)
        check_models(store, prepared.checkpoints)
        _write(store, chosen, out, prepared, progress)
        return chosen


def export_winner(folder: RunFolder, winner: Trial, models: Prepared, progress: Progress | None = None) -> None:
    """Writes a run's own model/ from the models that it has open; one that is there already is whole, and stays."""
    out = folder.path / MODEL_FOLDER
    if not out.exists():
        _write(folder.store, winner, out, models, progress)


def _write(store: Store, trial: Trial, out: Path, prepared: Prepared, progress: Progress | None) -> None:
    from vlmerge.report import CARD, card_pictures, model_card

    recipe = read_recipe(trial.recipe, trial.label)
    standing = store.get("standing")
    # They are about the winner, not about any other trial.
    pictures = card_pictures(store) if standing and int(standing["winner"]) == trial.trial else {}
    card = model_card(store, trial.trial, pictures)
    merge(recipe, out, prepared=prepared, texts={CARD: card, **pictures}, progress=progress)


def _choose(store: Store, number: int | None, run: Path) -> Trial:
    if number is None:
        standing = store.get("standing")
        if not standing:
            raise RunFolderError(
                "this run has no winner yet",
                where=str(run),
                expected="a finished run, or --trial with the number of a trial",
                found=f"{store.next_trial() - 1} trials",
                remedy="run `vlmerge evolve` again to finish it, or choose a trial",
            )
        number = int(standing["winner"])
    found = store.trial(number)
    if found is None or found.status == "failed":
        scored = [trial.trial for trial in store.trials() if trial.status == "scored"]
        raise RunFolderError(
            f"trial {number} cannot be exported",
            where=str(run),
            expected=f"a scored trial, {scored[0]} to {scored[-1]}" if scored else "a scored trial",
            found="no such trial" if found is None else f"it failed: {found.reason}",
            remedy="choose another number",
        )
    return found
