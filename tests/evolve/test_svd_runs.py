"""A run whose differences are cut to some of their singular directions: found once, and exported as scored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vlmerge.config.recipe import load_recipe, read_recipe
from vlmerge.evolve import evolve
from vlmerge.export import export
from vlmerge.methods import low_rank
from vlmerge.store import Store

from .conftest import FAMILY, Quiet, load, small_run, task


@pytest.mark.slow
def test_directions_are_found_once_and_no_thread_changes_what_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []
    real = low_rank.factors

    def counted(one: torch.Tensor, base: torch.Tensor, rank: int, work: torch.dtype) -> low_rank.Factors:
        asked.append(tuple(one.shape))
        return real(one, base, rank, work)

    monkeypatch.setattr(low_rank, "factors", counted)
    run = small_run(
        merge={
            "models": [str(FAMILY / name) for name in ("vlm", "ja")],
            "base_model": str(FAMILY / "base"),
            "method": "svd_linear",
            "parameters": {"rank": 0.3},
        },
        tasks=[task("search", 2)],
        validation=[task("validation", 2)],
        holdout=None,
        search={"max_fevals": 8, "global_fevals": 4, "population": 4},
        decoding={"max_new_tokens": 4},
    )
    folder = evolve(load(tmp_path, run), tmp_path / "run", Quiet())
    with Store.read_only(folder / "run.sqlite") as store:
        searched = [trial for trial in store.trials() if trial.kind == "searched"]
    assert len(searched) == 8
    assert {trial.status for trial in searched} == {"scored"}
    recipes = [read_recipe(trial.recipe, trial.label) for trial in searched]
    assert {recipe.merge_method for recipe in recipes} == {"svd_linear"}
    assert {recipe.parameters["rank"] for recipe in recipes} == {0.3}
    # Six layers of seven matrices, two sources: once for all candidates. The winner's export finds them for itself.
    own = load_recipe(folder / "recipe.yaml").merge_method == "svd_linear"
    assert len(asked) == 6 * 7 * 2 * (1 + own)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            export(folder, tmp_path / f"by {threads}", searched[-1].trial)
    finally:
        torch.set_num_threads(before)
    one, two = ((tmp_path / f"by {threads}" / "model.safetensors").read_bytes() for threads in (1, 2))
    assert one == two
