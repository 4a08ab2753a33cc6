"""What a run is made of: questions, models, the live model. Written down at the first start, held to that afterwards."""

from __future__ import annotations

import io
import platform
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vlmerge import __version__
from vlmerge.checkpoint import resolve
from vlmerge.config.model_ref import ModelRef
from vlmerge.config.run import RunConfig, RuntimeSpec, diff_runs, dump_run, parse_run
from vlmerge.errors import CheckpointError, RunFolderError
from vlmerge.merge import Prepared, prepare_models
from vlmerge.search import model_labels, stages
from vlmerge.store import ModelRecord, QuestionRecord, Split, Store, TaskRecord
from vlmerge.tasks.sets import Asked, Sets, load_sets

if TYPE_CHECKING:
    from vlmerge.anatomy import Pairing
    from vlmerge.bench import Observer
    from vlmerge.run_folder import RunFolder
    from vlmerge.runtime.live import LiveModel, Placement
    from vlmerge.types import Picture

SPLITS: tuple[Split, ...] = ("search", "validation", "holdout")
THUMBNAIL_PIXELS = 256


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
    used = _stored_config(config, store)
    sets = load_sets(config if used is None else used)
    for leak in sets.leaks:
        observer.say(f"CONTAMINATED: {leak}")
    if used is None:
        pinned = _pinned(config, observer)
        models = _prepare(pinned, cached_only=True)
        _check_disk(folder.path, models)
        placement = _placement(pinned.runtime, models, pinned)
        used = pinned.model_copy(update={"runtime": _spec(placement)})
    else:
        models = _prepare(used, cached_only=True)
        placement = _stored_placement(used, store)
    for warning in models.pairing.warnings:
        observer.say(f"note: {warning}")
    live = LiveModel.load(models, placement, template=sets.template)
    if store.get("config_asked") is None:
        _record(folder, config, used, sets, models, live)
    else:
        _check_models(store, models)
        _check_questions(store, sets)
    folder.publish()
    folder.write("run.yaml", dump_run(used))
    return Setting(used, sets, models, live)


def check_same_run(config: RunConfig, store: Store) -> None:
    """Refuses a store that belongs to another configuration.

    Raises:
        RunFolderError: With what differs.
    """
    _stored_config(config, store)


def _stored_config(config: RunConfig, store: Store) -> RunConfig | None:
    """The run as used, if the folder has begun; the run that is asked for may be given as it was asked for then, or as used."""
    asked, used = store.get("config_asked"), store.get("config")
    if asked is None or used is None:
        return None
    begun, in_use = (parse_run(yaml.safe_load(text), "run.yaml", Path("/")) for text in (asked, used))
    differences = diff_runs(begun, config)
    if differences and diff_runs(in_use, config):
        raise RunFolderError(
            "this folder holds a run with another configuration",
            where=str(store.path.parent),
            expected="the configuration that the run began with",
            found="\n    ".join(differences),
            remedy="name another folder with --out, or take the changes back to go on",
        )
    return in_use


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

        revision = resolve(ref, progress=progress).revision
        if begun:
            observer.end()
        pinned[ref] = ref if revision is None else ModelRef(ref.path, revision)

    def swapped(ref: ModelRef | None) -> ModelRef | None:
        return None if ref is None else pinned[ref]

    def block(part: Any) -> Any:
        if part is None:
            return None
        heads = {"base_model": swapped(part.base_model), "vlm": swapped(part.vlm)}
        return part.model_copy(update={"models": tuple(pinned[ref] for ref in part.models), **heads})

    return config.model_copy(update={"merge": block(config.merge), "genome": block(config.genome)})


def _prepare(config: RunConfig, *, cached_only: bool) -> Prepared:
    return prepare_models(
        config.models, vlm=config.vlm, base=config.base_model, protect=config.protect, cached_only=cached_only
    )


def _check_disk(folder: Path, models: Prepared) -> None:
    need = models.checkpoints[models.host].total_bytes
    free = shutil.disk_usage(folder).free
    if free < need * 1.05:
        raise CheckpointError(
            "the disk has no room for the model that this run will write at its end",
            where=str(folder),
            expected=f"{need * 1.05 / 1e9:.1f} GB free",
            found=f"{free / 1e9:.1f} GB free",
            remedy="free some room, or name a folder on another disk with --out",
        )


def _placement(spec: RuntimeSpec, models: Prepared, config: RunConfig) -> Placement:
    from vlmerge.runtime.live import choose_placement
    from vlmerge.types import FLOAT_DTYPES

    block = config.merge
    named = (block.out_dtype or block.dtype) if block is not None else "bfloat16"
    host = models.anatomies[models.host].dtypes
    return choose_placement(spec.device, spec.dtype, spec.batch_size, spec.threads, host_dtype=named or FLOAT_DTYPES[host[0]])


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
    size = store.get("batch_size", runtime.batch_size)
    return Placement(runtime.device, runtime.dtype, int(size), runtime.threads)


def _spec(placement: Placement) -> RuntimeSpec:
    return RuntimeSpec.model_validate(
        {
            "device": placement.device,
            "dtype": placement.dtype,
            "batch_size": placement.batch_size,
            "threads": placement.threads,
        }
    )


def _record(folder: RunFolder, asked: RunConfig, used: RunConfig, sets: Sets, models: Prepared, live: LiveModel) -> None:
    pictures = {
        picture.digest: picture
        for split in SPLITS
        for task in sets[split]
        for question in task.questions
        for picture in question.pictures
    }
    layers = models.anatomies[models.host].layers
    planned = stages(used, layers, models.host)
    folder.store.record_setting(
        models=_model_records(models, used),
        tasks=[_task_record(split, task, live) for split in SPLITS for task in sets[split]],
        questions=list(_question_records(sets)),
        thumbnails={digest: (picture.origin, _thumbnail(picture)) for digest, picture in pictures.items()},
        meta={
            "config_asked": dump_run(asked),
            "config": dump_run(used),
            "name": folder.path.name,
            "contaminated": [str(leak) for leak in sets.leaks],
            "seed": used.search.seed,
            "budget": sum(stage.budget for stage in planned),
            "stages": [{"name": stage.name, "budget": stage.budget} for stage in planned],
            "batch_size": live.batch_size,
            "layers": layers,
            "notes": _notes(models.pairing),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "vlmerge": __version__,
            "machine": _machine(live),
        },
    )


def _model_records(models: Prepared, config: RunConfig) -> list[ModelRecord]:
    labels = model_labels(tuple(models.checkpoints))
    return [
        ModelRecord(
            name=str(ref),
            label=labels[ref],
            is_host=ref == models.host,
            is_base=ref == config.base_model,
            path=str(checkpoint.path),
            revision=checkpoint.revision,
            fingerprint=checkpoint.fingerprint(),
            licence=checkpoint.licence,
            family=models.anatomies[ref].family.name,
            parameters=models.anatomies[ref].parameters,
        )
        for ref, checkpoint in models.checkpoints.items()
    ]


def _task_record(split: Split, asked: Asked, live: LiveModel) -> TaskRecord:
    return TaskRecord(
        split=split,
        task=asked.task.name,
        metric=asked.task.metric,
        weight=asked.weight,
        label=asked.label,
        decoding=asked.decoding.describe(),
        prompt=live.prompt(asked.questions[0]),
        source=asked.task.source,
    )


def _question_records(sets: Sets) -> Iterable[QuestionRecord]:
    for split in SPLITS:
        for asked in sets[split]:
            for question in asked.questions:
                yield QuestionRecord(
                    split=split,
                    task=asked.task.name,
                    question=question.id,
                    text=question.text,
                    references=question.references,
                    kind=question.kind,
                    group=question.group,
                    pictures=tuple(picture.digest for picture in question.pictures),
                )


def _thumbnail(picture: Picture) -> bytes:
    image = picture.open()
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _notes(pairing: Pairing) -> Mapping[str, Any]:
    kept: dict[str, int] = {}
    for one in pairing.tensors:
        if one.reason is not None:
            kept[one.reason] = kept.get(one.reason, 0) + 1
    dropped: dict[str, dict[str, int]] = {}
    for ref, tensors in pairing.dropped.items():
        for reason in tensors.values():
            counts = dropped.setdefault(str(ref), {})
            counts[reason] = counts.get(reason, 0) + 1
    return {"kept": kept, "dropped": dropped, "tensors_merged": len(pairing.merged), "warnings": list(pairing.warnings)}


def _machine(live: LiveModel) -> Mapping[str, Any]:
    import torch
    import transformers

    device = live.placement.device
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        "dtype": live.placement.dtype,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "system": platform.system(),
    }


def _check_questions(store: Store, sets: Sets) -> None:
    stored = store.questions()
    found = list(_question_records(sets))
    if stored != found:
        places = (place for place, pair in enumerate(zip(stored, found, strict=False)) if pair[0] != pair[1])
        place = next(places, min(len(stored), len(found)))
        first = (stored + found)[place] if place >= len(stored) else stored[place]
        raise RunFolderError(
            "the questions have changed since this run began",
            where=f"{first.split}, task {first.task!r}, question {first.question!r}",
            expected=f"the {len(stored)} questions that the run began with",
            found=f"{len(found)} questions, the first difference at this one",
            remedy="put the questions back as they were, or start anew in another folder",
        )


def _check_models(store: Store, models: Prepared) -> None:
    stored = {record.name: record for record in store.models()}
    for ref, checkpoint in models.checkpoints.items():
        record = stored[str(ref)]
        if checkpoint.fingerprint() != record.fingerprint:
            raise RunFolderError(
                "a model has changed since this run began",
                where=str(checkpoint.path),
                expected=f"contents with the fingerprint {record.fingerprint[:16]}…",
                found=f"{checkpoint.fingerprint()[:16]}…",
                remedy="put the model back as it was, or start anew in another folder",
            )
