"""What a run is made of, opened: questions, models at pinned commits, and the live model on a decided device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vlmerge.adapters import open_model
from vlmerge.anatomy import choose_host, dissect
from vlmerge.budgets import forecast, require_keys, with_purses
from vlmerge.checkpoint import pinned_ref
from vlmerge.config.run import RunConfig, RuntimeSpec
from vlmerge.errors import RunFolderError
from vlmerge.merge import Prepared, depths_of, prepare_run
from vlmerge.plan import check_room, merged_dtype, plan_of
from vlmerge.raced import race_note, with_races
from vlmerge.recording import (
    check_models,
    check_questions,
    record_setting,
    remember_loggers,
    stored_config,
    write_run,
)
from vlmerge.runtime.processors import require_processor
from vlmerge.search import decided, read_start, stages, with_start
from vlmerge.store import Store
from vlmerge.tasks.sets import Sets, aims_without_holdout, check_eyes, load_sets

if TYPE_CHECKING:
    from vlmerge.bench import Observer
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.path_blocks import PathSpec
    from vlmerge.run_folder import RunFolder
    from vlmerge.runtime.live import LiveModel, Placement


@dataclass(frozen=True)
class Setting:
    """Everything that stays the same through a run.

    Attributes:
        config: The run as used: revisions pinned, device and batch size decided.
        sets: Its questions.
        models: Its models, opened and paired.
        live: The live model, parents in memory.
    """

    config: RunConfig
    sets: Sets
    models: Prepared
    live: LiveModel

    @property
    def layers(self) -> int:
        """Decoder layers of the host."""
        return self.models.anatomies[self.models.host].layers


def begin(config: RunConfig, folder: RunFolder, observer: Observer) -> Setting:
    """Opens everything a run needs; writes it down the first time, and afterwards refuses what differs.

    Raises:
        RunFolderError: The folder belongs to another configuration, or its models have changed.
        UserError: Questions or models that cannot be used.
    """
    from vlmerge.runtime.live import LiveModel

    store = folder.store
    used = stored_config(config, store)
    _require_askable(config if used is None else used, cached_only=used is not None)
    sets = with_purses(load_sets(config if used is None else used, store.get("data_sets")), store)
    require_keys(sets)
    for leak in sets.leaks:
        observer.say(f"CONTAMINATED: {leak}")
    for note in aims_without_holdout(config):
        observer.say(f"note: {note}")
    if used is None:
        pinned = _pinned(read_start(config), observer)
        models = prepare_run(pinned, cached_only=True)
        longer = max(1.0, models.pairing.layers / models.anatomies[models.host].layers)
        check_room(folder.path, int(longer * models.checkpoints[models.host].total_bytes))
        placement = _placement(pinned.runtime, models, pinned)
        used = pinned.model_copy(update={"runtime": _spec(placement)}).with_layers(depths_of(models.anatomies))
        layers = models.anatomies[models.host].layers
        used = with_races(decided(used, layers, models.host, sets.counted("search")), sets)
        stages(used, layers, models.host)[0].optimizer()  # Refuses an algorithm that cannot be, before anything is loaded.
    else:
        models = prepare_run(used, cached_only=True)
        placement = _stored_placement(used, store)
    if not models.anatomies[models.host].is_vlm:
        check_eyes(sets, str(models.host))
    for warning in (*models.pairing.warnings, race_note(sets, config.search.racing, used.search.racing)):
        if warning is not None:
            observer.say(f"note: {warning}")
    for judged in forecast(sets, plan_of(used, models.host, models.anatomies[models.host].layers)):
        observer.say(judged.line())
    live = LiveModel.load(models, placement, template=sets.template)
    if store.get("config_asked") is None:
        record_setting(store, folder.path.name, config, used, sets, models, live)
    else:
        check_models(store, models.checkpoints)
        check_questions(store, sets)
        remember_loggers(store, used)
    write_run(folder)
    folder.publish()
    return Setting(used, sets, models, live)


def _require_askable(config: RunConfig, *, cached_only: bool) -> None:
    """Refuses a host that could not be asked, before questions are read and weights are downloaded."""
    opened = {ref: open_model(ref, headers_only=True, cached_only=cached_only) for ref in config.models}
    anatomies = {ref: dissect(each) for ref, each in opened.items()}
    host = choose_host(config.models, anatomies, vlm=config.vlm, base=config.base_model)
    require_processor(opened[host], anatomies[host])


def _pinned(config: RunConfig, observer: Observer) -> RunConfig:
    """The run with every hub model at the commit that was found, downloaded: nothing asks the hub again."""
    pinned: dict[ModelRef, ModelRef] = {}
    for ref in config.models:
        begun = False

        def progress(label: str, done: int, total: int) -> None:
            nonlocal begun
            if not begun:
                observer.begin(label, total or None)
                begun = True
            observer.advance(0, f"{label} {done / 1e9:.1f} of {total / 1e9:.1f} GB")

        opened = open_model(ref, progress=progress)
        if begun:
            observer.end()
        pinned[ref] = pinned_ref(opened)

    def swapped(ref: ModelRef | None) -> ModelRef | None:
        return None if ref is None else pinned[ref]

    def block(part: Any) -> Any:
        if part is None:
            return None
        heads = {"base_model": swapped(part.base_model), "vlm": swapped(part.vlm)}
        return part.model_copy(update={"models": tuple(pinned[ref] for ref in part.models), **heads})

    def path(spec: PathSpec | None) -> PathSpec | None:
        if spec is None:
            return None
        models, beside = (tuple(pinned[ref] for ref in refs) for refs in (spec.models, spec.beside))
        return spec.model_copy(update={"models": models, "beside": beside, "vlm": swapped(spec.vlm)})

    given = config.search.start
    moved = config.model_copy(update={"merge": block(config.merge), "genome": block(config.genome), "path": path(config.path)})
    return moved if isinstance(given, str) else with_start(moved, given.rewritten(ref=lambda ref: pinned.get(ref, ref)))


def _placement(spec: RuntimeSpec, models: Prepared, config: RunConfig) -> Placement:
    from vlmerge.runtime.live import choose_placement

    host = models.anatomies[models.host]
    return choose_placement(
        spec.device,
        spec.dtype,
        spec.batch_size,
        spec.threads,
        host_dtype=merged_dtype(config, host.dtypes),
        facts=host.facts,
        models=models,
    )


def _stored_placement(config: RunConfig, store: Store) -> Placement:
    import torch

    from vlmerge.runtime.live import Placement

    runtime = config.runtime
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise RunFolderError(
            "this run began on a GPU, and there is none here",
            where=str(store.path.parent),
            expected="the device that the run began on: answers may differ between devices",
            found="no CUDA device",
            remedy="go on on a machine with a GPU, or start anew in another folder",
        )
    return Placement(runtime.device, runtime.dtype, int(runtime.batch_size), runtime.threads)


def _spec(placement: Placement) -> RuntimeSpec:
    return RuntimeSpec.model_validate(
        {
            "device": placement.device,
            "dtype": placement.dtype,
            "batch_size": placement.batch_size,
            "threads": placement.threads,
        }
    )
