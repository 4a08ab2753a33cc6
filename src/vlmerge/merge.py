"""recipe → checkpoint on disk. Everything is resolved, paired and planned before the first byte is written."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmerge.adapters import open_model
from vlmerge.anatomy import Anatomy, Pairing, TensorPair, choose_host, dissect, host_layers, joined, pair, segments_of
from vlmerge.checkpoint import Checkpoint, Progress, write_checkpoint
from vlmerge.config.recipe import Recipe, Source, dump_recipe
from vlmerge.errors import CandidateFailure, ConfigError, MismatchError, NoResult
from vlmerge.types import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.config.model_ref import ModelRef
    from vlmerge.methods import Scratch, Step

RECIPE_NAME = "recipe.yaml"
PIECE = 1 << 23
"""Elements that a merge to disk computes at once: long beside what a call of a kernel costs. It holds two of each dtype."""

PER_LAYER = ("layer_types",)
"""Keys of a decoder's config that hold one entry per layer."""


@dataclass(frozen=True)
class Prepared:
    """Models opened, taken apart and paired; what the merge to disk and a run share.

    Attributes:
        checkpoints: Every model, the host among them, weights on this machine.
        anatomies: The same models taken apart.
        host: Whose names, tower, processor and config the result has.
        pairing: Of the recipe (or the list of models) that they were prepared for.
    """

    checkpoints: Mapping[ModelRef, Checkpoint]
    anatomies: Mapping[ModelRef, Anatomy]
    host: ModelRef
    pairing: Pairing
    _known: dict[object, Pairing] = field(default_factory=dict[object, Pairing], repr=False, compare=False)

    def pairing_for(self, recipe: Recipe) -> Pairing:
        """The pairing of another recipe over the same models (a baseline may use fewer of them); remembered by structure."""
        segments = joined(segments_of(recipe, _depths(self.anatomies)))
        key = (segments, recipe.protect)
        if key not in self._known:
            self._known[key] = pair(self.anatomies, host=self.host, segments=segments, protect=recipe.protect)
        return self._known[key]


@dataclass(frozen=True)
class MergeSummary:
    """What a merge did.

    Attributes:
        out: The folder written.
        pairing: What was merged, kept and dropped, with reasons.
        parameters: Weights of the result.
        bytes: Size of its tensors.
        seconds: From the opening of the models to the rename.
    """

    out: Path
    pairing: Pairing
    parameters: int
    bytes: int
    seconds: float

    @property
    def merged(self) -> int:
        """Tensors that were merged, wholly or in some rows."""
        return len(self.pairing.merged)

    @property
    def kept(self) -> int:
        """Tensors that are the host's."""
        return len(self.pairing.tensors) - self.merged


def merge(
    recipe: Recipe,
    out: Path,
    *,
    prepared: Prepared | None = None,
    texts: Mapping[str, str] | None = None,
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
        MismatchError: Models that do not fit together; NaN in a parent; a result that the output dtype cannot hold.
    """
    import torch

    from vlmerge.methods import Scratch, output_dtype, spelling

    started = time.perf_counter()
    opened = prepared if prepared is not None else prepare(recipe, progress=progress)
    pairing = opened.pairing_for(recipe)
    steps = _steps(recipe, pairing)
    infos = [TensorInfo(each.name, spelling(output_dtype(recipe, each)), each.shape, "") for each in pairing.tensors]
    host = opened.checkpoints[opened.host]
    with torch.inference_mode():
        write_checkpoint(
            out,
            infos,
            _stream(recipe, opened, pairing, steps, Scratch()),
            config=edited_config(host.config, recipe, pairing, opened.anatomies[opened.host]),
            side_files=host.side_files(),
            texts={**(texts or {}), RECIPE_NAME: dump_recipe(recipe)},
            progress=progress,
        )
    return MergeSummary(
        out=out,
        pairing=pairing,
        parameters=sum(math.prod(info.shape) for info in infos if info.is_float),
        bytes=sum(info.bytes for info in infos),
        seconds=time.perf_counter() - started,
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
    opened = open_models(recipe.model_refs(), recipe.vlm, cached_only=cached_only, progress=progress)
    anatomies = {ref: dissect(checkpoint) for ref, checkpoint in opened.items()}
    host = choose_host(recipe.model_refs(), anatomies, vlm=recipe.vlm, base=recipe.base_model)
    segments = joined(segments_of(recipe, _depths(anatomies)))
    pairing = pair(anatomies, host=host, segments=segments, protect=recipe.protect)
    return Prepared(opened, anatomies, host, pairing, {(segments, recipe.protect): pairing})


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


def open_models(
    refs: Sequence[ModelRef], vlm: ModelRef | None, *, cached_only: bool = False, progress: Progress | None = None
) -> dict[ModelRef, Checkpoint]:
    """Opens every model with its weights; the host too where it is not a source."""
    return {ref: open_model(ref, cached_only=cached_only, progress=progress) for ref in _with_host(refs, vlm)}


def edited_config(config: Mapping[str, Any], recipe: Recipe, pairing: Pairing, host: Anatomy) -> dict[str, Any]:
    """The host's config.json with only what the recipe changes: dtype where it is said, number of layers where it changes."""
    edited = copy.deepcopy(dict(config))
    text_key = host.family.text_key
    dtype = recipe.out_dtype or recipe.dtype
    if dtype is not None:
        inner = [edited.get(key) for key in (text_key, host.family.vision_key) if key is not None]
        for part in (edited, *(each for each in inner if each is not None)):
            for key in ("dtype", "torch_dtype"):
                if part.get(key) is not None:
                    part[key] = dtype
    if pairing.layers != host.layers:
        text: dict[str, Any] = edited if text_key is None else edited.setdefault(text_key, {})
        text["num_hidden_layers"] = pairing.layers
        for key in PER_LAYER:
            if key in text:
                value = text[key]
                text[key] = [value[layer] for layer in host_layers(pairing.segments, pairing.host, host.layers)]
    return edited


def _steps(recipe: Recipe, pairing: Pairing) -> list[Step | None]:
    from vlmerge.methods import resolve_values

    try:
        return resolve_values(recipe, pairing)
    except CandidateFailure as failure:
        raise ConfigError(
            "the recipe's values give no result",
            where=recipe.name or "the recipe",
            found=failure.reason,
            remedy="change the weights, or set `normalize: false`",
        ) from failure


def _stream(
    recipe: Recipe, opened: Prepared, pairing: Pairing, steps: Sequence[Step | None], scratch: Scratch
) -> Iterator[tuple[str, Tensor]]:
    """Merges tensor after tensor, piece by piece; a piece is good until the next but one is asked for."""
    from vlmerge.methods import Turns, kept_pieces, merged_pieces, named_dtype, output_dtype

    def read(ref: ModelRef, name: str) -> Tensor:
        return opened.checkpoints[ref].read(name)

    turns = Turns(PIECE)
    for each, step in zip(pairing.tensors, steps, strict=True):
        if step is None:
            dtype, cast = output_dtype(recipe, each), named_dtype(recipe.dtype)
            pieces = kept_pieces(each, opened.host, read, dtype, cast, scratch, turns)
        else:
            pieces = merged_pieces(step, read, scratch, turns)
        try:
            for piece in pieces:
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


def _blame(each: TensorPair, opened: Prepared, scratch: Scratch) -> None:
    """Raises for the parent that holds NaN, if one does."""
    from vlmerge.methods import require_finite

    for ref, name in {opened.host: each.host_name, **each.inputs}.items():
        require_finite(opened.checkpoints[ref].read(name), scratch, model=str(ref), name=name)


def _with_host(refs: Sequence[ModelRef], vlm: ModelRef | None) -> list[ModelRef]:
    return list(refs) if vlm is None or vlm in refs else [*refs, vlm]


def _depths(anatomies: Mapping[ModelRef, Anatomy]) -> dict[ModelRef, int]:
    return {ref: anatomy.layers for ref, anatomy in anatomies.items()}
