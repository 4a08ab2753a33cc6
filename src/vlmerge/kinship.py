"""Whether models descend from one another, from their weights: what `vlmerge check --deep` adds to what headers tell.

A source's task vector is its weights less the base's (or, without a base, the host's). Relative to the norm of what it is
taken from it is small in a fine-tuned model, far below 1; models that were trained apart differ by about √2 in norm, and the
cosine of their weights is about 0, whatever they can do. So one pass over a sample of tensors tells whether a merge can make
sense at all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

from vlmerge.anatomy import PARTS, Part
from vlmerge.merge import prepare
from vlmerge.search import model_labels
from vlmerge.task_vectors import Sums, measure

if TYPE_CHECKING:
    from rich.console import Group

    from vlmerge.checkpoint import Progress
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.recipe import Recipe

NEAR = 0.5
"""Relative norm up to which a source counts as fine-tuned."""
APART = 0.1
"""Cosine of weights below which models count as trained apart: by chance matrices have hundredths, and less."""
ALIKE = (0.1, 0.7)
"""Cosines of task vectors up to which they count as different changes, and from which as much the same one."""

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
    started = time.perf_counter()
    opened = prepare(recipe, progress=progress)
    labels = model_labels(tuple(opened.checkpoints))
    base = recipe.base_model if recipe.base_model in opened.pairing.sources else None
    reference = opened.host if base is None else base
    found = measure(opened, reference, progress)
    sums = found.sums
    refs = [ref for ref in opened.pairing.sources if ref != reference and sums.parts(ref)]
    kin = tuple(_kin(sums, ref, labels[ref], labels[reference]) for ref in refs)
    return Kinship(
        reference=labels[reference],
        is_base=base is not None,
        sources=kin,
        likenesses=tuple(_likeness(sums, one, two, kin, labels, base is not None) for one, two in combinations(refs, 2)),
        compared=found.tensors,
        mergeable=len(opened.pairing.merged),
        bytes=found.bytes,
        seconds=time.perf_counter() - started,
    )


def _matrices(parts: Sequence[Part]) -> list[Part]:
    """The parts that tell of an ancestor. Norms are near one in every model; embeddings may have been made anew."""
    found: list[Part] = [part for part in parts if part in ("attention", "MLP")]
    return found or list(parts)


def _kin(sums: Sums, ref: ModelRef, label: str, reference: str) -> Kin:
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
    sums: Sums, one: ModelRef, two: ModelRef, kin: Sequence[Kin], labels: Mapping[ModelRef, str], from_base: bool
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
