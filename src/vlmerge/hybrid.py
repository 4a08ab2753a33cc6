"""A run of two parts: weights are merged (`merge:`), then paths are searched through the layers of what was found (`path:`).

The first part is a whole run in a folder of its own within the run folder. It has no holdout, which is looked
at once, at the end.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.budgets import COUNTS
from vlmerge.config.judge_block import budgets_of
from vlmerge.config.model_ref import ModelRef
from vlmerge.config.path_blocks import WINNER
from vlmerge.config.run import RunConfig, SearchSpec, TaskSpec, dump_run
from vlmerge.recording import recorded_run
from vlmerge.run_folder import BEGUN, CONFIG_NAME, MERGED, readable_store
from vlmerge.search import FOUND
from vlmerge.search.starts import as_named
from vlmerge.store import Store
from vlmerge.tasks.sets import load_sets

if TYPE_CHECKING:
    from vlmerge.run_folder import RunFolder

KEPT = ("constraints", "finalists", "racing", "rotate", "sharing", "simplify", "margin")
"""Of `search:`, what holds for both parts; the rest is about weights."""


def first_part(config: RunConfig) -> RunConfig:
    """The run that merges weights. A judge keeps the budget that only the holdout says: it is for the whole run."""
    budgets = budgets_of(spec.judge for spec in config.every_task if spec.judge is not None)

    def task(spec: TaskSpec) -> TaskSpec:
        judge = spec.judge
        return spec.model_copy(update={"judge": judge and judge.model_copy(update={"budget": budgets[judge.who]})})

    between = config.validation
    validation = between.model_copy(update={"tasks": between.tasks and tuple(map(task, between.tasks))})
    asked = {"tasks": tuple(map(task, config.tasks)), "validation": validation, "holdout": ()}
    return config.model_copy(update={**asked, "path": None})


def second_part(config: RunConfig, winner: ModelRef, host: ModelRef, used: Sequence[ModelRef] = ()) -> RunConfig:
    """The run over paths, with rows beside: `host` and `merged`, whichever of the two is not the host of the paths.

    Args:
        config: The run of two parts.
        winner: What the first part found.
        host: What it began with.
        used: Its models as it used them: models that both parts name are read at the same commits in both.
    """

    def same(ref: ModelRef) -> ModelRef:
        return winner if ref == WINNER else as_named(ref, used) if ref in config.models else ref

    spec, search = config.path, config.search
    assert spec is not None
    models = dict.fromkeys(map(same, spec.models))
    vlm = same(spec.vlm or WINNER)
    beside = (host,) if vlm == winner else (vlm, winner)
    path = spec.model_copy(update={"models": tuple(models), "vlm": vlm, "beside": beside, "max_fevals": None})
    kept = {key: getattr(search, key) for key in KEPT}
    budget = SearchSpec(max_fevals=spec.max_fevals or search.max_fevals, seed=search.seed, **kept)
    return config.model_copy(update={"merge": None, "path": path, "search": budget}).completed()


def after_merging(config: RunConfig, folder: RunFolder, run: Callable[[RunConfig, Path], Path]) -> RunConfig:
    """The run over paths that is left when weights are merged; a run of one part is itself.

    Args:
        config: The run.
        folder: Its folder, locked.
        run: Runs the first part in a folder, or goes on with it; on a finished one it does nothing but refuse another one.
    """
    if not config.hybrid:
        return config
    inside = folder.path / MERGED
    if folder.store.get("config_asked") is None or inside.is_dir():
        if not inside.is_dir():
            load_sets(config)  # Refuses a holdout that was searched now, not when half of the run is done.
        if folder.store.get("config_asked") is None:
            folder.write(CONFIG_NAME, dump_run(config))  # The whole run, for whoever goes on with it from its folder.
        try:
            run(first_part(config), inside)
            _free()
        finally:
            if inside.is_dir() and not folder.store.get(BEGUN):
                folder.store.set(BEGUN, str(folder.path))
        with Store.read_only(readable_store(inside)) as store:
            named = next(model.name for model in store.models() if model.is_host)
            used = recorded_run(store).models
            if folder.store.get(COUNTS) is None:  # A judge's budget is for both parts: the second counts on.
                folder.store.set(COUNTS, store.get(COUNTS, {}))
            host = next(ref for ref in used if str(ref) == named)
    else:  # The first part's folder was taken away to save room.
        recorded = recorded_run(folder.store)
        spec, used = recorded.path, recorded.models
        # Of a run of one part, which is another one and refused for it, there is nothing beside.
        host = spec.beside[0] if spec is not None and spec.beside else config.models[0]
    return second_part(config, ModelRef(str(inside / FOUND)), host, used)


def _free() -> None:
    """Gives the first part's memory back, before the second measures what is free: models hold themselves in circles."""
    gc.collect()
    torch: Any = sys.modules.get("torch")  # Not loaded where the first part was finished before.
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
