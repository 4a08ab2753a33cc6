"""recipe → checkpoint on disk. Everything is resolved, paired and planned before the first byte is written."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vlmerge.adapters import open_model
from vlmerge.anatomy import (
    Anatomy,
    Pairing,
    Segment,
    TensorPair,
    choose_host,
    dissect,
    joined,
    pair,
    require_stackable,
    segments_of,
)
from vlmerge.checkpoint import Checkpoint, Progress, Verified, licence_of, write_checkpoint
from vlmerge.config.recipe import Recipe, Source, dump_recipe
from vlmerge.errors import CandidateFailure, ConfigError, MismatchError, NoResult
from vlmerge.idle_filters import idle_filters
from vlmerge.licences import duties, verdict
from vlmerge.result_config import edited_config
from vlmerge.result_tokenizer import tokenizer_of, vocabulary_of
from vlmerge.search import every_layer, model_labels
from vlmerge.types import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.checkpoint import RemoteCheckpoint
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.config.path_blocks import PathSpec
    from vlmerge.config.run import RunConfig
    from vlmerge.methods import Read, Scratch, Step

RECIPE_NAME = "recipe.yaml"
REMEMBERED = 64
"""Pairings of a run that are kept: one serves all candidates of a search of weights, while every path has its own."""
PIECE = 1 << 23
"""Elements that a merge to disk computes at once: long beside what a call of a kernel costs. It holds two of each dtype."""


@dataclass(frozen=True)
class Prepared:
    """Models opened, taken apart and paired; what the merge to disk and a run share.

    Attributes:
        checkpoints: Every model, the host among them, weights on this machine.
        anatomies: The same models taken apart.
        host: Whose names, tower, processor and config the result has.
        pairing: Of the recipe (or the list of models) that they were prepared for.
        scaled: Whether they were prepared for paths with factors between layers.
    """

    checkpoints: Mapping[ModelRef, Checkpoint]
    anatomies: Mapping[ModelRef, Anatomy]
    host: ModelRef
    pairing: Pairing
    scaled: bool = False
    _known: dict[object, Pairing] = field(default_factory=dict[object, Pairing], repr=False, compare=False)

    def pairing_for(self, recipe: Recipe) -> Pairing:
        """The pairing of another recipe over the same models (a baseline may use fewer of them); remembered by structure."""
        segments = joined(segments_of(recipe, depths_of(self.anatomies), self.host))
        key = _structure(recipe, segments)
        if key not in self._known:
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[key] = pair_models(recipe, self.anatomies, self.host, segments)
        return self._known[key]


@dataclass(frozen=True)
class MergeSummary:
    """What a merge did.

    Attributes:
        out: The folder written.
        pairing: What was merged, kept and dropped, with reasons.
        parameters: Weights of the result.
        bytes: Size of its tensors.
        seconds: To the rename, from the opening of the models, or from what was prepared.
        verified: What was found on the disk, before the rename. That every tensor is finite, and that none came to a single
            number although its parents did not, was found while they were computed: else there is no summary.
        terms: The strictest terms of the parents' licences together, in one sentence.
        zeroed: Tensors that are zero because the recipe's own numbers make them so.
        idle: What the recipe says of its filters that met no tensor.
    """

    out: Path
    pairing: Pairing
    parameters: int
    bytes: int
    seconds: float
    verified: Verified
    terms: str
    zeroed: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know."""
        return (*self.pairing.warnings, *self.idle)

    @property
    def notes(self) -> tuple[str, ...]:
        """The warnings, and in a line more which tensors the recipe's own numbers make zero."""
        if not self.zeroed:
            return self.warnings
        first, *others = self.zeroed
        more = f" and {len(others)} more" if others else ""
        return (*self.warnings, f"zero, as the recipe's weights say: {first}{more}")

    @property
    def merged(self) -> int:
        """Tensors that were merged, wholly or in some rows."""
        return len(self.pairing.merged)

    @property
    def kept(self) -> int:
        """Tensors that are the host's."""
        return len(self.pairing.tensors) - self.merged

    def verified_line(self) -> str:
        """What was verified, for a terminal."""
        found = self.verified
        files = "1 file" if found.files == 1 else f"{found.files} files"
        return f"verified in {found.seconds:.2f} s: {found.tensors} tensors in {files}, as announced, in place, and finite"


def merge(
    recipe: Recipe,
    out: Path,
    *,
    prepared: Prepared | None = None,
    texts: Mapping[str, str | bytes] | None = None,
    progress: Progress | None = None,
) -> MergeSummary:
    """Merges to disk.

    Args:
        recipe: What to merge.
        out: The folder to make; absent or empty.
        prepared: The models, where they are open already (export does not resolve them again).
        texts: Further files of the result, name → contents, e.g. README.md. recipe.yaml is added always.
        progress: Told of bytes downloaded and written.

    Raises:
        ConfigError: Values with which there is no result.
        CheckpointError: A model that cannot be opened, or an output that cannot be written.
        MismatchError: Models that do not fit together; NaN in a parent; a result that the output dtype cannot hold, or that
            holds a single number although its parents do not.
    """
    import torch

    from vlmerge.methods import Scratch, output_dtype, spelling

    started = time.perf_counter()
    opened = prepared if prepared is not None else prepare(recipe, progress=progress)
    pairing = opened.pairing_for(recipe)
    steps = steps_to_take(recipe, pairing)
    infos = [TensorInfo(each.name, spelling(output_dtype(recipe, each)), each.shape, "") for each in pairing.tensors]
    side_files, edited = tokenizer_of(recipe, pairing, opened.checkpoints)
    labels = model_labels(tuple(opened.checkpoints))
    parents = dict.fromkeys((opened.host, *recipe.opened_refs()))
    zeroed: list[str] = []
    with torch.inference_mode():
        verified = write_checkpoint(
            out,
            infos,
            _stream(recipe, opened, pairing, steps, Scratch(), zeroed),
            config=edited_config(recipe, pairing, opened.anatomies[opened.host], opened.checkpoints),
            side_files=side_files,
            texts={**edited, **(texts or {}), RECIPE_NAME: dump_recipe(recipe)},
            progress=progress,
        )
    return MergeSummary(
        out=out,
        pairing=pairing,
        parameters=sum(math.prod(info.shape) for info in infos if info.is_float),
        bytes=sum(info.bytes for info in infos),
        seconds=time.perf_counter() - started,
        verified=verified,
        terms=verdict(duties({labels[ref]: licence_of(opened.checkpoints[ref]) for ref in parents})),
        zeroed=tuple(zeroed),
        idle=tuple(idle_filters(recipe, pairing)),
    )


def prepare(recipe: Recipe, *, cached_only: bool = False, progress: Progress | None = None) -> Prepared:
    """Opens, takes apart and pairs the models of a recipe; downloads what is missing.

    Args:
        recipe: Its models, structure and `protect` count, its parameters do not.
        cached_only: Never ask the network.
        progress: Told of bytes downloaded.

    Raises:
        CheckpointError, MismatchError, ConfigError: See `merge`.
    """
    opened = {ref: open_model(ref, cached_only=cached_only, progress=progress) for ref in recipe.opened_refs()}
    anatomies = {ref: dissect(checkpoint) for ref, checkpoint in opened.items()}
    host = choose_host(recipe.model_refs(), anatomies, vlm=recipe.vlm, base=recipe.base_model)
    segments = joined(segments_of(recipe, depths_of(anatomies), host))
    pairing = pair_models(recipe, anatomies, host, segments)
    return Prepared(opened, anatomies, host, pairing, _known={_structure(recipe, segments): pairing})


def prepare_run(config: RunConfig, *, cached_only: bool = False) -> Prepared:
    """The models of a run."""
    if config.path is not None and config.merge is None:
        return prepare_paths(config.path, cached_only=cached_only)
    return prepare_models(
        config.models, vlm=config.vlm, base=config.base_model, protect=config.protect, cached_only=cached_only
    )


def prepare_paths(spec: PathSpec, *, cached_only: bool = False, progress: Progress | None = None) -> Prepared:
    """The same for the models of a path: paired as a stack of all their layers.

    Raises:
        MismatchError: Besides, a decoder whose layers cannot stand in another order.
    """
    refs = dict.fromkeys([*spec.models, *spec.beside])
    opened = {ref: open_model(ref, cached_only=cached_only, progress=progress) for ref in refs}
    anatomies = {ref: dissect(checkpoint) for ref, checkpoint in opened.items()}
    recipe = stack_of(spec, anatomies, opened)
    host = choose_host(spec.models, anatomies, vlm=recipe.vlm, base=None)
    segments = joined(segments_of(recipe, depths_of(anatomies), host))
    pairing = pair_models(recipe, anatomies, host, segments)
    return Prepared(
        opened, anatomies, host, pairing, scaled=spec.scale is not None, _known={_structure(recipe, segments): pairing}
    )


def stack_of(
    spec: PathSpec, anatomies: Mapping[ModelRef, Anatomy], opened: Mapping[ModelRef, Checkpoint | RemoteCheckpoint]
) -> Recipe:
    """A path over all layers of all models, whose `vlm` is the host.

    Raises:
        MismatchError: A decoder whose layers cannot stand in another order, or with such factors between them.
    """
    for ref in spec.models:
        require_stackable(anatomies[ref], opened[ref].config, scaled=spec.scale is not None)
    host = choose_host(spec.models, anatomies, vlm=spec.vlm, base=None)
    return every_layer(spec, host, depths_of(anatomies))


def pair_models(
    recipe: Recipe, anatomies: Mapping[ModelRef, Anatomy], host: ModelRef, segments: tuple[Segment, ...]
) -> Pairing:
    """The pairing of a recipe over models that are taken apart; `segments` are the recipe's, joined."""
    vocabulary = vocabulary_of(recipe, anatomies, host)
    return pair(anatomies, host=host, segments=segments, protect=recipe.protect, vocabulary=vocabulary)


def _structure(recipe: Recipe, segments: object) -> tuple[object, ...]:
    """What a pairing depends on."""
    return (segments, recipe.protect, None if recipe.tokenizer is None else str(recipe.tokenizer.plain()))


def prepare_models(
    refs: Sequence[ModelRef],
    *,
    vlm: ModelRef | None = None,
    base: ModelRef | None = None,
    protect: Sequence[str] = (),
    cached_only: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """The same for a run's list of models: paired as a merge of all of them, the base among them if there is one."""
    sources = tuple(Source(model=ref) for ref in refs)
    recipe = Recipe(merge_method="linear", models=sources, base_model=base, vlm=vlm, protect=tuple(protect))
    return prepare(recipe, cached_only=cached_only, progress=progress)


def steps_to_take(recipe: Recipe, pairing: Pairing) -> list[Step | None]:
    """What to do for each tensor of the result; None where the host's is kept. Loads torch.

    Raises:
        ConfigError: A tensor without a value; values with which there is no result.
    """
    from vlmerge.methods import resolve_values

    try:
        return resolve_values(recipe, pairing)
    except CandidateFailure as failure:
        raise ConfigError(
            "the recipe's values give no result",
            where=recipe.name or "the recipe",
            found=failure.reason,
            remedy="change these numbers" + (", or set `normalize: false`" if "sum to zero" in failure.reason else ""),
        ) from failure


def _stream(
    recipe: Recipe,
    opened: Prepared,
    pairing: Pairing,
    steps: Sequence[Step | None],
    scratch: Scratch,
    zeroed: list[str],
) -> Iterator[tuple[str, Tensor]]:
    """Merges tensor after tensor, piece by piece; a piece is good until the next but one is asked for. Adds to `zeroed`."""
    from vlmerge.methods import Constancy, Turns, kept_pieces, merged_pieces, named_dtype, output_dtype

    def read(ref: ModelRef, name: str) -> Tensor:
        return opened.checkpoints[ref].read(name)

    turns = Turns(PIECE)
    for each, step in zip(pairing.tensors, steps, strict=True):
        if step is None:
            dtype, cast = output_dtype(recipe, each), named_dtype(recipe.dtype)
            pieces = kept_pieces(each, opened.host, read, dtype, cast, scratch, turns)
        else:
            pieces = merged_pieces(step, read, scratch, turns)
        seen = Constancy()
        try:
            for piece in pieces:
                seen.see(piece)
                yield each.name, piece
        except NoResult as failure:
            raise MismatchError(
                f"`{recipe.merge_method}` has no result for a tensor",
                where=each.name,
                found=failure.reason,
                remedy="keep it with `protect`, or use another method",
            ) from failure
        except CandidateFailure as failure:
            _blame(each, opened, scratch)
            raise MismatchError(
                "a merged tensor holds NaN or infinity, its parents do not",
                where=each.name,
                expected=f"values that {str(output_dtype(recipe, each)).removeprefix('torch.')} can hold",
                found=failure.reason,
                remedy="use smaller weights, or an out_dtype with a wider range (bfloat16, float32)",
            ) from failure
        if step is not None and seen.value is not None:
            _explain_constant(step, seen.value, read, zeroed)


def _explain_constant(step: Step, value: float, read: Read, zeroed: list[str]) -> None:
    """Raises where a merged tensor came to one number, unless a parent is like that, or the recipe's numbers say so."""
    from vlmerge.methods import asks_for_zero, has_constant_parent

    if value == 0 and asks_for_zero(step):
        zeroed.append(step.pair.name)
    elif not has_constant_parent(step, read):
        raise MismatchError(
            "a merged tensor holds a single number, its parents do not",
            where=step.pair.name,
            expected=f"values that differ, as in {', '.join(map(str, step.sources))}",
            found=f"{value:g} in all of its {list(step.pair.shape)}",
            remedy="change the weights (these cancel), or use an out_dtype with a wider range (bfloat16, float32)",
        )


def _blame(each: TensorPair, opened: Prepared, scratch: Scratch) -> None:
    """Raises for the parent that holds NaN, if one does."""
    from vlmerge.methods import require_finite

    for ref, name in {opened.host: each.host_name, **each.inputs}.items():
        require_finite(opened.checkpoints[ref].read(name), scratch, model=str(ref), name=name)


def depths_of(anatomies: Mapping[ModelRef, Anatomy]) -> dict[ModelRef, int]:
    """Decoder layers of every model."""
    return {ref: anatomy.layers for ref, anatomy in anatomies.items()}
