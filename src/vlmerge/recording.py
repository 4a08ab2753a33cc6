"""A run's setting in its store: written down at the first start, held to afterwards."""

from __future__ import annotations

import io
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vlmerge import __version__
from vlmerge.aims.wanted import KEY, written
from vlmerge.checkpoint import licence_of
from vlmerge.config.judge_block import MAY_CHANGE
from vlmerge.config.run import RunConfig, diff_runs, dump_run, parse_run
from vlmerge.errors import RunFolderError
from vlmerge.evaluate import example_prompt
from vlmerge.run_folder import CONFIG_NAME
from vlmerge.search import model_labels, stages, understood
from vlmerge.store import SPLITS, ModelRecord, QuestionRecord, Split, Store, TaskRecord

if TYPE_CHECKING:
    from vlmerge.anatomy import Pairing
    from vlmerge.checkpoint import Checkpoint
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.run import TaskSpec
    from vlmerge.merge import Prepared
    from vlmerge.run_folder import RunFolder
    from vlmerge.runtime.live import LiveModel
    from vlmerge.search import SearchSpace
    from vlmerge.tasks.sets import Asked, Sets
    from vlmerge.types import Picture

THUMBNAIL_PIXELS = 256


def stored_config(config: RunConfig, store: Store) -> RunConfig | None:
    """The run as used, if the folder has begun: the one that is asked for may be given as it was asked for then, or as used.

    Loggers are no part of what a run is: those of the one that is asked for count.

    Raises:
        RunFolderError: It is another one; with what differs.
    """
    if store.get("config_asked") is None:
        return None
    begun, in_use = (_with_loggers(each, config) for each in (_parsed(store, "config_asked"), recorded_run(store)))
    differences = diff_runs(begun, _with_judges_of(config, begun))
    if differences and diff_runs(in_use, _with_smaller_batches(_with_judges_of(config, in_use), in_use)):
        raise RunFolderError(
            "this folder holds a run with another configuration",
            where=str(store.path.parent),
            expected="the configuration that the run began with",
            found="\n    ".join(differences),
            remedy="name another folder with --out, or take the changes back to go on",
        )
    return _with_judges_of(in_use, config)


def recorded_run(store: Store) -> RunConfig:
    """The run as used, of a folder that has begun."""
    return _parsed(store, "config")


def remember_loggers(store: Store, used: RunConfig) -> None:
    """Of a run that goes on with other loggers or budgets of judges; who goes on with its run.yaml next has them too."""
    text = dump_run(used)
    if store.get("config") != text:
        store.set("config", text)


def write_run(folder: RunFolder) -> None:
    """Writes run.yaml, the run as used, from the store."""
    folder.write_yaml(CONFIG_NAME, folder.store.get("config"))


def remember_batch_size(store: Store, size: int) -> None:
    """Out of memory halves it; a run that goes on must ask in the same batches."""
    used = recorded_run(store)
    store.set("config", dump_run(_with_batch_size(used, size)))


def record_setting(
    store: Store, name: str, asked: RunConfig, used: RunConfig, sets: Sets, models: Prepared, live: LiveModel
) -> None:
    """Writes down what the run is made of.

    Args:
        store: The run's store.
        name: How the page calls the run.
        asked: The run as it was asked for.
        used: The same with everything decided.
        sets: Its questions.
        models: Its models.
        live: The live model, for a real prompt of each task and the machine.
    """
    pictures = {
        picture.digest: picture
        for split in SPLITS
        for task in sets[split]
        for question in task.questions
        for picture in question.pictures
    }
    layers = models.anatomies[models.host].layers
    planned = stages(used, layers, models.host)
    store.record_setting(
        models=_model_records(models, used),
        tasks=[_task_record(split, task, live) for split in SPLITS for task in sets[split]],
        questions=list(_question_records(sets)),
        thumbnails={digest: (picture.origin, _thumbnail(picture)) for digest, picture in pictures.items()},
        meta={
            "config_asked": dump_run(asked),
            "config": dump_run(used),
            "name": name,
            "data_sets": dict(sets.commits),
            "contaminated": [str(leak) for leak in sets.leaks],
            "seed": used.search.seed,
            "budget": sum(stage.budget for stage in planned),
            "stages": [{"name": stage.name, "budget": stage.budget} for stage in planned],
            "genes": [gene_facts(stage.space) for stage in planned],
            "layers": layers,
            KEY: written(used.search),
            "notes": _notes(models.pairing),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "vlmerge": __version__,
            "machine": _machine(live),
        },
    )


def gene_facts(space: SearchSpace) -> list[dict[str, Any]] | None:
    """What the genes of a space are about, for whoever looks back; None where nobody here knows."""
    point = understood(space, space.start)
    if point is None:
        return None
    return [
        {"name": gene.name, "group": role.group, "model": role.model, "parameter": role.parameter, "choices": len(gene.choices)}
        for gene, role in zip(space.genes, point.roles, strict=True)
    ]


def _model_records(models: Prepared, config: RunConfig) -> list[ModelRecord]:
    labels = model_labels(tuple(models.checkpoints))
    return [
        ModelRecord(
            name=str(ref),
            label=labels[ref],
            is_host=ref == models.host,
            is_base=ref == config.base_model,
            path=_place(checkpoint),
            revision=checkpoint.revision,
            fingerprint=checkpoint.fingerprint(),
            licence=licence_of(checkpoint),
            family=models.anatomies[ref].family.name,
            parameters=models.anatomies[ref].parameters,
        )
        for ref, checkpoint in models.checkpoints.items()
    ]


def _place(checkpoint: Checkpoint) -> str:
    own = str(checkpoint.path)
    return own if checkpoint.adapter is None else f"{own}+{checkpoint.adapter.files.path}"


def _task_record(split: Split, asked: Asked, live: LiveModel) -> TaskRecord:
    return TaskRecord(
        split=split,
        task=asked.task.name,
        metric=asked.task.metric,
        weight=asked.weight,
        label=asked.label,
        decoding=asked.protocol,
        prompt=example_prompt(live, asked),
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


def check_questions(store: Store, sets: Sets) -> None:
    """Refuses questions that are not what the run began with.

    Raises:
        RunFolderError: With the first that differs.
    """
    sources = {(split, asked.task.name): asked.task.source for split in SPLITS for asked in sets[split]}
    for task in store.tasks():
        if task.source != sources.get((task.split, task.task), task.source):
            raise RunFolderError(
                "a task has changed since this run began",
                where=f"{task.split}, task {task.task!r}",
                expected=task.source,
                found=sources[task.split, task.task],
                remedy="put the task and its library back as they were, or start anew in another folder",
            )
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


def check_models(store: Store, checkpoints: Mapping[ModelRef, Checkpoint]) -> None:
    """Refuses models that are not what the run began with.

    Raises:
        RunFolderError: One has changed.
    """
    known = {record.name: record.fingerprint for record in store.models()}
    for ref, checkpoint in checkpoints.items():
        if checkpoint.fingerprint() != known[str(ref)]:
            raise RunFolderError(
                "a model has changed since this run began",
                where=_place(checkpoint),
                expected=f"contents with the fingerprint {known[str(ref)][:16]}…",
                found=f"{checkpoint.fingerprint()[:16]}…",
                remedy="put the model back as it was: another one is not what was scored. Or start anew in another folder",
            )


def _parsed(store: Store, key: str) -> RunConfig:
    return parse_run(yaml.safe_load(store.get(key)), "run.yaml", Path("/"))


def _with_batch_size(config: RunConfig, size: object) -> RunConfig:
    return config.model_copy(update={"runtime": config.runtime.model_copy(update={"batch_size": size})})


def _with_loggers(config: RunConfig, other: RunConfig) -> RunConfig:
    return config.model_copy(update={"loggers": other.loggers})


def _with_smaller_batches(config: RunConfig, in_use: RunConfig) -> RunConfig:
    """The configuration with the batches in use, where it names larger ones: a run.yaml of before they were halved."""
    given, now = config.runtime.batch_size, in_use.runtime.batch_size
    return _with_batch_size(config, now) if isinstance(given, int) and isinstance(now, int) and given > now else config


def _with_judges_of(config: RunConfig, other: RunConfig) -> RunConfig:
    """The configuration with what changes no verdict (budget, price, …) as another one has it, task by task."""

    def tasks(ours: tuple[TaskSpec, ...], theirs: tuple[TaskSpec, ...]) -> tuple[TaskSpec, ...]:
        alike = (task(one, two) for one, two in zip(ours, theirs, strict=False))
        return (*alike, *ours[len(theirs) :])

    def task(ours: TaskSpec, theirs: TaskSpec) -> TaskSpec:
        if ours.judge is None or theirs.judge is None:
            return ours
        changed = {key: getattr(theirs.judge, key) for key in MAY_CHANGE}
        return ours.model_copy(update={"judge": ours.judge.model_copy(update=changed)})

    validation = config.validation
    if validation.tasks and other.validation.tasks:
        validation = validation.model_copy(update={"tasks": tasks(validation.tasks, other.validation.tasks)})
    changed = {"tasks": tasks(config.tasks, other.tasks), "holdout": tasks(config.holdout, other.holdout)}
    return config.model_copy(update={**changed, "validation": validation})
