"""What would pair and what would not, memory, disk, licences: from configs, tokenizers and tensor headers alone.

No torch for a recipe whose numbers are the same for all tensors. A run's host is to be asked, so that its processor is loaded,
too.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.adapters import open_model
from vlmerge.anatomy import PARTS, Anatomy, Pairing, TensorPair, choose_host, dissect, joined, part_of, segments_of
from vlmerge.anatomy.agreement import check_agreement
from vlmerge.anatomy.roles import is_matrix
from vlmerge.anatomy.vocabulary import overlap
from vlmerge.checkpoint import Checkpoint, MergedAdapter, RemoteCheckpoint, licence_of
from vlmerge.config.method_table import METHODS
from vlmerge.config.parameter_values import scalars
from vlmerge.config.recipe import Recipe, Source
from vlmerge.config.run import RunConfig
from vlmerge.errors import printable
from vlmerge.hybrid import first_part, second_part
from vlmerge.idle_filters import idle_filters
from vlmerge.licences import NOT_STATED, Duty, apart, duties, verdict
from vlmerge.merge import PIECE, depths_of, pair_models, stack_of, steps_to_take
from vlmerge.plan import Plan, merged_dtype, plan_of
from vlmerge.runtime.processors import PROCESSOR_FILES, lacks_processor, require_processor
from vlmerge.runtime.room import needs_of, parent_bytes, plan_room, this_machine
from vlmerge.runtime.ways import way_line, whole_because
from vlmerge.search import model_labels
from vlmerge.types import DTYPE_BYTES, FLOAT_DTYPES, size

if TYPE_CHECKING:
    from rich.console import Group

    from vlmerge.checkpoint import Progress
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.parameter_values import ParameterValue

EIGENVECTORS = 32
"""Bytes, times the square of a matrix's shorter side, that finding its singular directions takes: four matrices of float64."""
CUT_AT_ONCE = 16 << 20
"""Bytes of a matrix that is made of its directions that are there at once."""


@dataclass(frozen=True)
class AdapterRow:
    """The adapter of a model.

    Attributes:
        name: As the recipe says.
        tensors: Tensors of the model that it changes; None where only a download can tell.
        made_for: The model that it was trained on, as its config says; None where it says nothing.
        licence: As its card says; None where it says nothing.
        bytes: Size of its weight files.
        where: A folder, or `on the hub, not downloaded`.
        revision: Commit on the hub.
    """

    name: str
    tensors: int | None
    made_for: str | None
    licence: str | None
    bytes: int
    where: str
    revision: str | None


@dataclass(frozen=True)
class ModelRow:
    """One model.

    Attributes:
        name: As the recipe says.
        role: `host`, `base`, `source`, several of them with commas.
        family: Family and layout.
        parameters: Weights in its files; None where they are pickled and not here yet.
        dtypes: Of its float tensors, most frequent first.
        layers: Decoder layers.
        vocab_rows: Rows of its embedding.
        shared_tokens: Tokens of the host that it has too; None without tokenizer files.
        licence: As its card says; None where it says nothing.
        bytes: Size of its weight files.
        where: A folder, or `on the hub, not downloaded`.
        revision: Commit on the hub.
        settings: The decoder's numbers by the names of `anatomy.Facts`: what must, or should, be equal among them.
        adapter: What is merged into it as it is read; the other attributes are the model's alone.
    """

    name: str
    role: str
    family: str
    parameters: int | None
    dtypes: tuple[str, ...]
    layers: int
    vocab_rows: int
    shared_tokens: int | None
    licence: str | None
    bytes: int
    where: str
    revision: str | None
    settings: Mapping[str, Any]
    adapter: AdapterRow | None


@dataclass(frozen=True)
class CheckResult:
    """What a merge or a run would do.

    Attributes:
        models: Every model.
        host: Whose tower, processor, names and config the result has.
        host_sees: Whether it is a VLM.
        host_tokens: Tokens of the host's tokenizer; None without tokenizer files.
        merged: Tensors that would be merged, wholly or in some rows; None where names are not known before a download.
        merged_parts: The same by part of the model (attention, MLP, …).
        kept: Why → number of tensors of the result that (in part) are the host's.
        dropped: Model → why → number of its tensors that give nothing to the result.
        warnings: What a person should know.
        unconfirmed: Models whose tensors, or those of whose adapter, can be named only after a download.
        download_bytes: What is still to be fetched.
        output_bytes: Size of the result's weights.
        memory_bytes: For a run: the live model and the parents' tensors beside it. For a merge: its buffers.
        licences: All licences that take part; `not stated` among them where a model has none.
        terms: The strictest of what they ask together, in one sentence.
        duties: All that they ask, the strictest first.
        plan: What a run would do.
        answers: Which way the host's answers would go in a run, and why, in one line; None for a merge.
        room: How the GPU of this machine would be shared out, line by line; empty without one, and for a merge.
    """

    models: tuple[ModelRow, ...]
    host: str
    host_sees: bool
    host_tokens: int | None
    merged: int | None
    merged_parts: Mapping[str, int]
    kept: Mapping[str, int]
    dropped: Mapping[str, Mapping[str, int]]
    warnings: tuple[str, ...]
    unconfirmed: tuple[str, ...]
    download_bytes: int
    output_bytes: int
    memory_bytes: int
    licences: tuple[str, ...]
    terms: str
    duties: tuple[Duty, ...]
    plan: Plan | None
    answers: str | None
    room: tuple[str, ...]


def check(what: Recipe | RunConfig, *, progress: Progress | None = None) -> CheckResult:
    """Looks at the models of a recipe or a run; downloads configs and tokenizers, no weights.

    Raises:
        CheckpointError: A model that is missing, gated, incomplete or unsafe; a run's host that cannot be asked.
        MismatchError: Models that do not fit together.
        ConfigError: Slices that do not fit the models; a tensor without a value, or with values that give no result.
    """
    if isinstance(what, RunConfig) and what.hybrid:
        return _both_parts(what, progress)
    recipe = recipe_of(what)
    refs = recipe.opened_refs()
    opened = {ref: open_model(ref, headers_only=True, progress=progress) for ref in refs}
    anatomies = {ref: dissect(checkpoint) for ref, checkpoint in opened.items()}
    host = choose_host(recipe.model_refs(), anatomies, vlm=recipe.vlm, base=recipe.base_model)
    if isinstance(what, RunConfig) and what.path is not None:
        recipe, what = stack_of(what.path, anatomies, opened), what.with_layers(depths_of(anatomies))
    segments = joined(segments_of(recipe, {ref: anatomy.layers for ref, anatomy in anatomies.items()}, host))
    unconfirmed = tuple(
        str(ref)
        for ref, each in opened.items()
        if not each.tensors or (each.adapter is not None and each.adapter.changed is None)
    )
    if any(anatomy.layout is None for anatomy in anatomies.values()):
        pairing = None
        warnings = tuple(check_agreement(anatomies, host, segments))
    else:
        pairing = pair_models(recipe, anatomies, host, segments)
        warnings = pairing.warnings
        if isinstance(what, Recipe):
            warnings += tuple(idle_filters(what, pairing))
            if _values_differ(what):
                steps_to_take(what, pairing)
    warnings += tuple(_made_for_others(opened))
    if isinstance(what, RunConfig):
        require_processor(opened[host], anatomies[host])
    elif anatomies[host].is_vlm and not anatomies[host].family.original_llava and lacks_processor(opened[host].path):
        warnings += (f"{host} has no {' and no '.join(PROCESSOR_FILES)}: its merges cannot be asked about pictures",)
    output = _output_bytes(recipe, opened[host], pairing)
    labels = model_labels(tuple(opened))
    adapters = [each.adapter.files for each in opened.values() if each.adapter is not None]
    asked = duties({labels[ref]: licence_of(each) for ref, each in opened.items()})
    licences = dict.fromkeys(licence or NOT_STATED for each in opened.values() for licence in apart(licence_of(each)))
    return CheckResult(
        models=tuple(_row(ref, opened[ref], anatomies, host, recipe) for ref in refs),
        host=str(host),
        host_sees=anatomies[host].is_vlm,
        host_tokens=len(anatomies[host].vocabulary.ids or ()) or None,
        merged=None if pairing is None else len(pairing.merged),
        merged_parts={} if pairing is None else by_part(each.role for each in pairing.merged),
        kept=_counted(each.reason for each in pairing.tensors if each.reason is not None) if pairing is not None else {},
        dropped={str(ref): _counted(lost.values()) for ref, lost in pairing.dropped.items()} if pairing is not None else {},
        warnings=warnings,
        unconfirmed=unconfirmed,
        download_bytes=sum(each.total_bytes for each in opened.values() if isinstance(each, RemoteCheckpoint))
        + sum(files.total_bytes for files in adapters if not files.is_here),
        output_bytes=output,
        memory_bytes=output + sum(parent_bytes(opened, anatomies, host).values()) + _remembered(what, pairing)
        if isinstance(what, RunConfig)
        else _buffers(recipe, pairing, anatomies, opened),
        licences=tuple(licences),
        terms=verdict(asked),
        duties=asked,
        plan=plan_of(what, host, anatomies[host].layers) if isinstance(what, RunConfig) else None,
        answers=way_line(anatomies[host], opened[host].config) if isinstance(what, RunConfig) else None,
        room=_room(what, opened, anatomies, host, None if pairing is None else pairing.layers)
        if isinstance(what, RunConfig)
        else (),
    )


def _both_parts(run: RunConfig, progress: Progress | None) -> CheckResult:
    """A run of two parts; what the first one finds is as its host is, but for its weights."""
    first = check(first_part(run), progress=progress)
    host = next(ref for ref in run.models if str(ref) == first.host)
    second = check(second_part(run, host, host), progress=progress)
    assert first.plan is not None
    assert second.plan is not None
    known = {row.name for row in first.models}
    return replace(
        first,
        models=(*first.models, *(row for row in second.models if row.name not in known)),
        warnings=tuple(dict.fromkeys((*first.warnings, *second.warnings))),
        download_bytes=max(first.download_bytes, second.download_bytes),
        output_bytes=first.output_bytes + second.output_bytes,
        memory_bytes=max(first.memory_bytes, second.memory_bytes),
        plan=first.plan.followed_by(second.plan),
        room=(*first.room, *(f"paths, {line}" for line in second.room)),
    )


def to_json(result: CheckResult) -> dict[str, Any]:
    """The result as plain values, keys as the attributes are called."""
    return asdict(result)


def render(result: CheckResult) -> Group:
    """The result as tables for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def short(text: str) -> Text:
        # At once, the longest first: one model's name may be the beginning of another's.
        return Text(printable(named.sub(lambda found: labels[found[0]], text)))

    labels = _labels(result.models)
    named = re.compile("|".join(map(re.escape, sorted(labels, key=len, reverse=True))))
    models = Table("model", "role", "family", "weights", "layers, rows", "host's tokens", "licence")
    for row in result.models:
        shared = "no tokenizer" if row.shared_tokens is None else f"{row.shared_tokens} of {result.host_tokens}"
        weights = "pickled" if row.parameters is None else f"{row.parameters / 1e6:,.1f} M {'+'.join(row.dtypes)}"
        cells = (
            row.name,
            row.role,
            row.family,
            f"{weights}, {size(row.bytes)}" + ("" if Path(row.where).is_dir() else ", not here yet"),
            f"{row.layers}, {row.vocab_rows}",
            shared,
            (row.licence or NOT_STATED).partition(" (")[0],
        )
        models.add_row(*map(short, cells))
    tensors = Table("tensors", "of", "what becomes of them")
    if result.merged is not None:
        parts = ", ".join(f"{count} {part}" for part, count in result.merged_parts.items())
        tensors.add_row(str(result.merged), "result", f"merged: {parts}")
    for reason, count in result.kept.items():
        tensors.add_row(str(count), "result", short(f"the host's: {reason}"))
    for name, reasons in result.dropped.items():
        for reason, count in reasons.items():
            tensors.add_row(str(count), short(name), short(f"left out: {reason}"))
    asked = Table("terms", "what is asked", "by")
    for duty in result.duties:
        asked.add_row(*map(short, (duty.kind, duty.asks, f"{duty.licence.partition(' (')[0]}: {', '.join(duty.models)}")))
    lines = [line for row in result.models if row.adapter is not None for line in _adapter_lines(row, row.adapter)]
    lines += [
        f"terms: {result.terms}",
        "       (a reading aid, no legal advice: what counts are the licences' texts)",
        f"to download {size(result.download_bytes)}; result {size(result.output_bytes)}; memory {size(result.memory_bytes)}",
    ]
    lines += result.plan.lines() if result.plan is not None else []
    lines += [result.answers] if result.answers is not None else []
    lines += result.room
    lines += [f"confirmed only after its download (pickled weights): {name}" for name in result.unconfirmed]
    lines += [f"note: {warning}" for warning in result.warnings]
    return Group(models, tensors, asked, *map(short, lines))


def _labels(rows: Sequence[ModelRow]) -> dict[str, str]:
    """What the tables call models and adapters: folders by their last part, where that is nobody else's."""
    found: dict[str, str] = {}
    for row in rows:
        if row.adapter is None:
            found[row.name] = _last_part(row.name)
            continue
        own, adapter = row.name.removesuffix(f"+{row.adapter.name}"), row.adapter.name
        short = {each: _last_part(each) for each in (own, adapter)}
        found |= short | {row.name: f"{short[own]}+{short[adapter]}"}
    times = Counter(found.values())
    return {name: label if times[label] == 1 else name for name, label in found.items()}


def _last_part(name: str) -> str:
    return Path(name).name if Path(name).is_dir() else name


def recipe_of(what: Recipe | RunConfig) -> Recipe:
    """The recipe itself; for a run a merge of all its models: what pairs there pairs in every candidate over all of them."""
    return what if isinstance(what, Recipe) else _as_recipe(what)


def _values_differ(recipe: Recipe) -> bool:
    """Whether only the tensors can tell if all of its values have a result: filters, gradients, what is added to a density."""
    spec = METHODS[recipe.merge_method]
    return not spec.parameters.keys().isdisjoint(("epsilon", "eps")) or any(
        isinstance(value, tuple) for given in recipe.parameter_sets() for value in given.values()
    )


def _adapter_lines(row: ModelRow, adapter: AdapterRow) -> list[str]:
    changes = "tensors that a download will name" if adapter.tensors is None else f"{adapter.tensors} tensors"
    here = "" if Path(adapter.where).is_dir() else ", not here yet"
    return [
        f"adapter {adapter.name}, {size(adapter.bytes)}{here}, licence {adapter.licence or NOT_STATED}: "
        f"changes {changes} of {row.name.removesuffix(f'+{adapter.name}')}"
    ]


def _made_for_others(opened: Mapping[ModelRef, Checkpoint | RemoteCheckpoint]) -> list[str]:
    """What to say of adapters that name another model than the one they are merged into; the last part of a name counts."""
    return [
        f"{each.adapter.files.ref} was trained on {trained}, and is merged into {ref.alone}"
        for ref, each in opened.items()
        if each.adapter is not None
        and (trained := _trained_on(each.adapter)) is not None
        and Path(trained).name.casefold() != Path(ref.path).name.casefold()
    ]


def _trained_on(adapter: MergedAdapter) -> str | None:
    name = adapter.files.config.get("base_model_name_or_path")
    return name if isinstance(name, str) and name else None


def _as_recipe(run: RunConfig) -> Recipe:
    block = run.merge or run.path
    listed = (run.merge or run.genome or run).models
    sources = tuple(Source(model=ref) for ref in listed)
    return Recipe(
        merge_method="linear",
        models=sources,
        base_model=run.base_model,
        vlm=run.vlm,
        protect=tuple(run.protect),
        dtype=block.dtype if block is not None else "bfloat16",
        out_dtype=block.out_dtype if block is not None else None,
    )


def _row(
    ref: ModelRef, opened: Checkpoint | RemoteCheckpoint, anatomies: Mapping[ModelRef, Anatomy], host: ModelRef, recipe: Recipe
) -> ModelRow:
    anatomy = anatomies[ref]
    both = overlap(anatomies[host].vocabulary, anatomy.vocabulary)
    roles = [
        word
        for word, holds in (
            ("host", ref == host),
            ("base", ref == recipe.base_model),
            ("source", ref in recipe.model_refs()),
        )
        if holds
    ]
    return ModelRow(
        name=str(ref),
        role=", ".join(roles),
        family=anatomy.family.name
        + (f" ({anatomy.layout.name})" if anatomy.layout and len(anatomy.family.layouts) > 1 else ""),
        parameters=anatomy.parameters if anatomy.layout is not None else None,
        dtypes=anatomy.dtypes or ((anatomy.facts.dtype,) if anatomy.facts.dtype else ()),
        layers=anatomy.layers,
        vocab_rows=anatomy.facts.vocab_rows,
        shared_tokens=None if both is None else both[0],
        licence=opened.licence,
        bytes=opened.total_bytes,
        where="on the hub, not downloaded" if isinstance(opened, RemoteCheckpoint) else str(opened.path),
        revision=opened.revision,
        settings=asdict(anatomy.facts),
        adapter=None if opened.adapter is None else _adapter_row(opened.adapter),
    )


def _adapter_row(adapter: MergedAdapter) -> AdapterRow:
    files = adapter.files
    return AdapterRow(
        name=str(files.ref),
        tensors=None if adapter.changed is None else len(adapter.changed),
        made_for=_trained_on(adapter),
        licence=files.licence,
        bytes=files.total_bytes,
        where=str(files.path) if files.is_here else "on the hub, not downloaded",
        revision=files.revision,
    )


def by_part(roles: Iterable[str]) -> dict[str, int]:
    """Part of the model → how many of the roles belong to it, in the order of parts."""
    counts = Counter(map(part_of, roles))
    return {part: counts[part] for part in PARTS if part in counts}


def _counted(reasons: Iterable[str]) -> dict[str, int]:
    return dict(Counter(reasons))


def _width(recipe: Recipe, each: TensorPair) -> int:
    """Bytes per element in the result; `methods.output_dtype` says the same in torch's words."""
    wanted = recipe.out_dtype or recipe.dtype
    if wanted is None or each.dtype not in FLOAT_DTYPES or each.is_buffer:
        return DTYPE_BYTES[each.dtype]
    return _width_of(wanted)


def _width_of(dtype: str) -> int:
    return next(DTYPE_BYTES[spelling] for spelling, name in FLOAT_DTYPES.items() if name == dtype)


def _output_bytes(recipe: Recipe, host: Checkpoint | RemoteCheckpoint, pairing: Pairing | None) -> int:
    if pairing is None:
        return host.total_bytes
    return sum(math.prod(each.shape) * _width(recipe, each) for each in pairing.tensors)


def _buffers(
    recipe: Recipe,
    pairing: Pairing | None,
    anatomies: Mapping[ModelRef, Anatomy],
    opened: Mapping[ModelRef, Checkpoint | RemoteCheckpoint],
) -> int:
    """What a merge to disk holds beside mapped files: two pieces of each dtype that results have; of one tensor also casts that
    are made whole, vocabulary rows that are gathered, and inputs that an adapter changes."""
    if pairing is None:
        return 0
    pieces: dict[int, int] = {}
    for each in pairing.tensors:
        width = _width(recipe, each)
        pieces[width] = max(pieces.get(width, 0), min(PIECE, math.prod(each.shape)))
    whole = max((_adapted_bytes(each, pairing, opened) for each in pairing.tensors), default=0)
    for each in pairing.merged:
        length, held = math.prod(each.shape), _adapted_bytes(each, pairing, opened)
        gathers = each.rearranged is not None or (each.rows is not None and not each.rows.straight)
        if recipe.dtype is not None and (gathers or not METHODS[recipe.merge_method].by_element):
            given = (FLOAT_DTYPES.get(anatomies[ref].tensors[name].dtype) for ref, name in each.inputs.items())
            held = sum(length * _width_of(recipe.dtype) for dtype in given if dtype != recipe.dtype)
        if gathers:
            held += (len(each.inputs) + 2) * length * _width(recipe, each)
        held += _cut_bytes(recipe, each)
        whole = max(whole, held)
    return sum(2 * length * width for width, length in pieces.items()) + whole


def _remembered(run: RunConfig, pairing: Pairing | None) -> int:
    """What a run holds, beside parents, of differences that are cut to some of their directions."""
    if pairing is None or run.merge is None:
        return 0
    merge = run.merge
    method = next((name for name in merge.methods if METHODS[name].by_matrix), None)
    if method is None:
        return 0
    highest = [space.parameters["rank"].searched("rank").high for space in merge.spaces if "rank" in space.parameters]
    share = max([number for number in highest if number is not None] or [_largest_rank(method, [merge.parameters])])
    sources = len(merge.searched_by(method))
    return sum(_factor_bytes(each, share, sources) for each in pairing.merged if is_matrix(each.role, each.shape))


def _cut_bytes(recipe: Recipe, each: TensorPair) -> int:
    """What cutting one tensor takes in a merge to disk."""
    if not METHODS[recipe.merge_method].by_matrix or not is_matrix(each.role, each.shape):
        return 0
    share = _largest_rank(recipe.merge_method, recipe.parameter_sets())
    if share >= 1:
        return 0
    factors = _factor_bytes(each, share, len(each.inputs_but(recipe.base_model)))
    return factors + EIGENVECTORS * min(each.shape) ** 2 + min(CUT_AT_ONCE, 4 * math.prod(each.shape))


def _largest_rank(method: str, levels: Sequence[Mapping[str, ParameterValue]]) -> float:
    """The largest that is given anywhere."""
    given = [float(number) for level in levels if "rank" in level for number in scalars(level["rank"])]
    return max(given, default=float(METHODS[method].parameters["rank"].default or 0.0))


def _factor_bytes(each: TensorPair, share: float, sources: int) -> int:
    """Both factors of every source, in float32."""
    return 0 if share >= 1 else 4 * sources * max(1, int(share * min(each.shape))) * sum(each.shape)


def _adapted_bytes(each: TensorPair, pairing: Pairing, opened: Mapping[ModelRef, Checkpoint | RemoteCheckpoint]) -> int:
    """Of the tensors that go into one of the result, those that are computed when they are read."""
    read = {pairing.host: each.host_name, **each.inputs} if not each.merged or each.rows is not None else each.inputs
    return sum(
        opened[ref].tensors[name].bytes
        for ref, name in read.items()
        if (adapter := opened[ref].adapter) is not None and adapter.changes(name)
    )


def _room(
    run: RunConfig,
    opened: Mapping[ModelRef, Checkpoint | RemoteCheckpoint],
    anatomies: Mapping[ModelRef, Anatomy],
    host: ModelRef,
    layers: int | None,
) -> tuple[str, ...]:
    """The GPU's share-out, and whether its fast path is taken; nothing where the run is told to use the CPU."""
    from vlmerge.runtime.familiar import unfamiliar_in

    machine = this_machine() if run.runtime.device != "cpu" else None
    if machine is None or machine.card is None:
        return ()
    batch = run.runtime.batch_size
    named = run.runtime.dtype if run.runtime.dtype != "auto" else merged_dtype(run, anatomies[host].dtypes or ("F16",))
    scaled = run.path is not None and run.path.scale is not None
    needs = needs_of(opened, anatomies, host, _width_of(named), layers, scaled=scaled)
    room = plan_room(needs, machine, None if batch == "auto" else batch)
    lines = room.lines(machine.name)
    if named == "bfloat16" and run.runtime.dtype == "auto" and not machine.bfloat16:
        lines.append("note: this card does not reckon in bfloat16: answers are scored in float16, the result is bfloat16")
    config = opened[host].config
    reason = unfamiliar_in(anatomies[host], config) if whole_because(anatomies[host], config) is None else None
    if reason is not None:
        lines.append(f"note: answers take the plain path: the fast one does not know {reason}")
    return tuple(lines)
