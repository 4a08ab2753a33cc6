"""Whether models descend from one another, from their weights: what `vlmerge check --deep` adds to what headers tell.

A source's task vector is its weights less the base's (or, without a base, the host's). Relative to the norm of what it is
taken from it is small in a fine-tuned model, far below 1; models that were trained apart differ by about √2 in norm, and the
cosine of their weights is about 0, whatever they can do. So one pass over a sample of tensors tells whether a merge can make
sense at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from vlmerge.anatomy import PARTS, Pairing, Part, TensorPair, decoder_layer, part_of
from vlmerge.anatomy.roles import vision_layer
from vlmerge.errors import MismatchError
from vlmerge.merge import Prepared, prepare
from vlmerge.search import model_labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Group
    from torch import Tensor

    from vlmerge.checkpoint import Progress
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.recipe import Recipe

LAYERS = 6
"""Decoder layers (and layers of a tower) that are compared, spread over the depth: all of them would say the same."""
BLOCKS = 4
BLOCK = 1 << 22
"""Elements that are compared at once, and how many such blocks of one tensor, spread over it. Memory is bounded by a block."""

NEAR = 0.5
"""Relative norm up to which a source counts as fine-tuned."""
APART = 0.1
"""Cosine of weights below which models count as trained apart: by chance matrices have hundredths, and less."""
ALIKE = (0.1, 0.7)
"""Cosines of task vectors up to which they count as different changes, and from which as much the same one."""

Key = TypeVar("Key")
Verdict = Literal["same", "fine-tuned", "distant", "unrelated"]


@dataclass(frozen=True)
class Distance:
    """How far a source is from the reference in one part of the model.

    Attributes:
        part: Which part.
        tensors: Tensors compared.
        relative_norm: Norm of the task vector by the norm of the reference's weights; None where those are zero.
        cosine: Between the source's weights and the reference's; 0 where either are zero.
    """

    part: Part
    tensors: int
    relative_norm: float | None
    cosine: float


@dataclass(frozen=True)
class Kin:
    """One source.

    Attributes:
        source: Its label.
        verdict: What it is to the reference.
        sentence: The same in words.
        relative_norm: Over the matrices of attention and MLP (over all that was compared, where there are none).
        cosine: Likewise.
        parts: By part.
    """

    source: str
    verdict: Verdict
    sentence: str
    relative_norm: float | None
    cosine: float
    parts: tuple[Distance, ...]


@dataclass(frozen=True)
class Likeness:
    """How alike two sources' task vectors are.

    Attributes:
        sources: Their labels.
        cosine: Over the matrices of attention and MLP; None where one of the task vectors is zero.
        parts: By part, likewise.
        sentence: What it means.
    """

    sources: tuple[str, str]
    cosine: float | None
    parts: Mapping[Part, float | None]
    sentence: str


@dataclass(frozen=True)
class Kinship:
    """What the weights tell.

    Attributes:
        reference: Whose weights task vectors are taken from.
        is_base: Whether it is the recipe's base; else (none is named, or no slice takes it) it is the host.
        sources: Every other source that meets it in some tensor.
        likenesses: Every pair of them.
        compared: Tensors of which something was read.
        mergeable: Tensors that a merge would merge.
        bytes: What was read.
        seconds: What it took.
    """

    reference: str
    is_base: bool
    sources: tuple[Kin, ...]
    likenesses: tuple[Likeness, ...]
    compared: int
    mergeable: int
    bytes: int
    seconds: float

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def kinship(recipe: Recipe, *, progress: Progress | None = None) -> Kinship:
    """Compares the weights of a recipe's sources, tensor by tensor; downloads what is missing.

    Args:
        recipe: Its models and structure count, its parameters do not.
        progress: Told of bytes downloaded and read.

    Raises:
        CheckpointError, MismatchError, ConfigError: As `merge.prepare`.
        MismatchError: Weights that are not finite.
    """
    import torch

    started = time.perf_counter()
    opened = prepare(recipe, progress=progress)
    labels = model_labels(tuple(opened.checkpoints))
    base = recipe.base_model if recipe.base_model in opened.pairing.sources else None
    reference = opened.host if base is None else base
    chosen = [each for each in sampled(opened.pairing) if reference == opened.host or reference in each.inputs]
    total = sum(_bytes(opened, each, reference) for each in chosen)
    sums, done = _Sums(), 0
    with torch.inference_mode():
        for each in chosen:
            for origin, vectors in _blocks(opened, each, reference):
                sums.add(part_of(each.role), each.name, origin, vectors)
                done += sum(tensor.nbytes for tensor in (origin, *vectors.values()))
                if progress is not None:
                    progress("comparing weights", done, total)
    refs = [ref for ref in opened.pairing.sources if ref != reference and sums.parts(ref)]
    kin = tuple(_kin(sums, ref, labels[ref], labels[reference]) for ref in refs)
    return Kinship(
        reference=labels[reference],
        is_base=base is not None,
        sources=kin,
        likenesses=tuple(_likeness(sums, one, two, kin, labels, base is not None) for one, two in combinations(refs, 2)),
        compared=len(chosen),
        mergeable=len(opened.pairing.merged),
        bytes=done,
        seconds=time.perf_counter() - started,
    )


def sampled(pairing: Pairing) -> list[TensorPair]:
    """Tensors that are compared: of LAYERS layers of the decoder and of a tower, and all that is in no layer."""
    found: list[TensorPair] = []
    for layer_of in (decoder_layer, vision_layer):
        layers = sorted({layer for each in pairing.merged if (layer := layer_of(each.role)) is not None})
        count = min(LAYERS, len(layers))
        taken = {layers[round(place * (len(layers) - 1) / max(1, count - 1))] for place in range(count)}
        found += [each for each in pairing.merged if layer_of(each.role) in taken]
    bare = [each for each in pairing.merged if decoder_layer(each.role) is None and vision_layer(each.role) is None]
    return [each for each in (*bare, *found) if math.prod(each.shape) > 0]


class _Sums:
    """Squares and products, summed in float64 by part of the model."""

    def __init__(self) -> None:
        self.tensors: dict[Part, set[str]] = {}
        self._origin: dict[tuple[Part, ModelRef], float] = {}
        self._weights: dict[tuple[Part, ModelRef], float] = {}
        self._products: dict[tuple[Part, ModelRef, ModelRef], float] = {}

    def add(self, part: Part, name: str, origin: Tensor, weights: Mapping[ModelRef, Tensor]) -> None:
        """One block of one tensor: the reference's, and the sources' at the same places."""
        self.tensors.setdefault(part, set()).add(name)
        flat = origin.float().reshape(-1)
        square = _dot(flat, flat, name)
        vectors: dict[ModelRef, Tensor] = {}
        for ref, tensor in weights.items():
            own = tensor.float().reshape(-1)
            _add(self._origin, (part, ref), square)
            _add(self._weights, (part, ref), _dot(own, own, name))
            vectors[ref] = own - flat
        for one, two in [*combinations(vectors, 2), *((ref, ref) for ref in vectors)]:
            _add(self._products, (part, one, two), _dot(vectors[one], vectors[two], name))

    def parts(self, ref: ModelRef) -> list[Part]:
        """The parts in which a source was compared."""
        found: list[Part] = [part for part in PARTS if (part, ref) in self._origin]
        return found

    def distance(self, ref: ModelRef, parts: Sequence[Part]) -> tuple[float | None, float]:
        """(relative norm of the task vector, cosine of the weights) over some parts."""
        origin = sum(self._origin[part, ref] for part in parts)
        own = sum(self._weights[part, ref] for part in parts)
        apart = sum(self._products[part, ref, ref] for part in parts)
        relative = math.sqrt(apart / origin) if origin > 0 else None if apart > 0 else 0.0
        both = math.sqrt(origin * own)
        return relative, (origin + own - apart) / 2 / both if both > 0 else 0.0

    def cosine(self, one: ModelRef, two: ModelRef, parts: Sequence[Part]) -> float | None:
        """Between two task vectors over some parts; None where one is zero, or nothing was compared."""
        known: list[Part] = [part for part in parts if (part, one, two) in self._products]
        norms = [sum(self._products[part, ref, ref] for part in known) for ref in (one, two)]
        if min(norms) <= 0:
            return None
        return sum(self._products[part, one, two] for part in known) / math.sqrt(norms[0] * norms[1])


def _dot(one: Tensor, two: Tensor, name: str) -> float:
    found = float(one.dot(two))
    if not math.isfinite(found):
        raise MismatchError(
            "weights that are compared hold NaN or infinity, or too large numbers",
            where=name,
            expected="finite weights",
            found=f"{found}",
            remedy="`vlmerge merge` names the model; fetch it again",
        )
    return found


def _add(sums: dict[Key, float], key: Key, value: float) -> None:
    sums[key] = sums.get(key, 0.0) + value


def _blocks(opened: Prepared, each: TensorPair, reference: ModelRef) -> Iterator[tuple[Tensor, dict[ModelRef, Tensor]]]:
    """Blocks of rows of one tensor: the reference's, and those of every other source."""
    import torch

    def read(ref: ModelRef, name: str) -> Tensor:
        tensor = opened.checkpoints[ref].read(name)
        return tensor.reshape(tensor.shape[0], -1) if tensor.dim() else tensor.reshape(1, 1)

    def rows(tensor: Tensor, index: NDArray[np.int64] | None, span: slice) -> Tensor:
        return tensor[span] if index is None else tensor.index_select(0, torch.as_tensor(index[span]))

    gathered = None if each.rows is None or each.rows.straight else each.rows
    of_host = reference not in each.inputs
    origin = read(reference, each.host_name if of_host else each.inputs[reference])
    others = {ref: read(ref, name) for ref, name in each.inputs.items() if ref != reference}
    places = {ref: None if gathered is None else gathered.sources[ref] for ref in each.inputs}
    if of_host:
        places[reference] = None if gathered is None else gathered.host
    for span in _spans(origin.shape[0] if each.rows is None else each.rows.merged, origin.shape[1]):
        yield (
            rows(origin, places[reference], span),
            {ref: rows(tensor, places[ref], span) for ref, tensor in others.items()},
        )


def _spans(rows: int, width: int) -> list[slice]:
    """Blocks of rows, spread over them; all of them where they are few."""
    height = max(1, BLOCK // max(1, width))
    if rows <= BLOCKS * height:
        return [slice(start, min(start + height, rows)) for start in range(0, rows, height)]
    starts = [round(place * (rows - height) / (BLOCKS - 1)) for place in range(BLOCKS)]
    return [slice(start, start + height) for start in starts]


def _bytes(opened: Prepared, each: TensorPair, reference: ModelRef) -> int:
    """What `_blocks` will give, in bytes."""
    width = math.prod(each.shape[1:])
    rows = (each.shape[0] if each.shape else 1) if each.rows is None else each.rows.merged
    elements = sum(span.stop - span.start for span in _spans(rows, width)) * width
    names = {reference: each.host_name, **each.inputs}
    infos = [opened.anatomies[ref].tensors[name] for ref, name in names.items()]
    return sum(elements * info.bytes // max(1, math.prod(info.shape)) for info in infos)


def _matrices(parts: Sequence[Part]) -> list[Part]:
    """The parts that tell of an ancestor. Norms are near one in every model; embeddings may have been made anew."""
    found: list[Part] = [part for part in parts if part in ("attention", "MLP")]
    return found or list(parts)


def _kin(sums: _Sums, ref: ModelRef, label: str, reference: str) -> Kin:
    parts = sums.parts(ref)
    distances = tuple(Distance(part, len(sums.tensors[part]), *sums.distance(ref, [part])) for part in parts)
    relative, cosine = sums.distance(ref, _matrices(parts))
    verdict = _verdict(relative, cosine, same=all(each.relative_norm == 0 for each in distances))
    return Kin(label, verdict, _sentence(verdict, label, reference, relative, cosine), relative, cosine, distances)


def _verdict(relative: float | None, cosine: float, *, same: bool) -> Verdict:
    if same:
        return "same"
    if relative is None or cosine < APART:
        return "unrelated"
    return "fine-tuned" if relative <= NEAR else "distant"


def _sentence(verdict: Verdict, label: str, reference: str, relative: float | None, cosine: float) -> str:
    share = "all" if relative is None else f"{relative:.2g}"
    apart = f"differs from {reference} by {share} of its norm (cosine of the weights {cosine:.2f})"
    return {
        "same": f"{label} equals {reference} in every weight that was compared",
        "fine-tuned": f"{label} shares an ancestor with {reference}: it {apart}, as fine-tuned models do",
        "distant": f"{label} may share an ancestor with {reference}, but is far from it: it {apart}; "
        "long further training does that, and merges of such models often fail",
        "unrelated": f"{label} shares no ancestor with {reference}: it {apart}, as models do that were trained apart; "
        "a merge of them gives noise",
    }[verdict]


def _likeness(
    sums: _Sums, one: ModelRef, two: ModelRef, kin: Sequence[Kin], labels: Mapping[ModelRef, str], from_base: bool
) -> Likeness:
    parts: list[Part] = [part for part in sums.parts(one) if part in sums.parts(two)]
    cosine = sums.cosine(one, two, _matrices(parts))
    names = (labels[one], labels[two])
    related = all(each.verdict != "unrelated" for each in kin if each.source in names)
    return Likeness(
        sources=names,
        cosine=cosine,
        parts={part: sums.cosine(one, two, [part]) for part in parts},
        sentence=_likeness_sentence(" and ".join(names), cosine, related=related, from_base=from_base),
    )


def _likeness_sentence(names: str, cosine: float | None, *, related: bool, from_base: bool) -> str:
    if cosine is None:
        return f"{names}: one of them changed nothing"
    said = f"{names}: cosine of the task vectors {cosine:.2f}, "
    if not related:
        return said + "which says nothing where one shares no ancestor with the rest"
    if not from_base:
        # Both differences hold the host's own change: of equal lengths and independent, they meet at 60 degrees.
        return said + "which says little without a base: independent changes of one size have 0.5"
    if cosine < -ALIKE[0]:
        return said + "they changed the same weights in opposite ways"
    if cosine < ALIKE[0]:
        return said + "they changed different things, which merges well"
    if cosine < ALIKE[1]:
        return said + "they have changes in common: from the same data, or an ancestor of their own"
    return said + "they changed much the same: one of them may descend from the other"


def render(found: Kinship) -> Group:
    """Tables and sentences for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts = [part for part in PARTS if any(part == each.part for kin in found.sources for each in kin.parts)]
    kind = "base" if found.is_base else "host; the recipe names no base"
    table = Table("task vectors", *parts)
    for kin in found.sources:
        norms = {each.part: "–" if each.relative_norm is None else f"{each.relative_norm:.3g}" for each in kin.parts}
        table.add_row(Text(f"{kin.source}: relative norm"), *(norms.get(part, "–") for part in parts))
    for like in found.likenesses:
        cosines = {part: "–" if value is None else f"{value:.2f}" for part, value in like.parts.items()}
        table.add_row(Text(f"{' and '.join(like.sources)}: cosine"), *(cosines.get(part, "–") for part in parts))
    if not found.sources:
        return Group(Text(f"no weights of another model meet those of {found.reference}: nothing to compare"))
    lines = [f"taken from {found.reference} (the {kind}); {found.compared} of {found.mergeable} tensors compared"]
    lines += [f"- {kin.sentence}" for kin in found.sources]
    lines += [f"- {like.sentence}" for like in found.likenesses]
    return Group(table, *map(Text, lines))
