"""Norms and cosines of task vectors: sums over a sample of the models' weights, which is read in blocks, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, TypeVar

from vlmerge.anatomy import PARTS, Pairing, Part, TensorPair, decoder_layer, part_of
from vlmerge.anatomy.roles import vision_layer
from vlmerge.errors import MismatchError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from vlmerge.checkpoint import Progress
    from vlmerge.config.model_ref import ModelRef
    from vlmerge.merge import Prepared

LAYERS = 6
"""Decoder layers (and layers of a tower) that are compared, spread over the depth: all of them would say the same."""
BLOCKS = 4
BLOCK = 1 << 22
"""Elements that are compared at once, and how many such blocks of one tensor, spread over it. Memory is bounded by a block."""

Key = TypeVar("Key")


@dataclass(frozen=True)
class Measured:
    """What a sample of weights gives.

    Attributes:
        sums: By part of the model, over every source.
        tensors: Tensors of which something was read.
        bytes: What was read.
    """

    sums: Sums
    tensors: int
    bytes: int


def measure(opened: Prepared, reference: ModelRef, progress: Progress | None = None) -> Measured:
    """Reads a sample of what would merge, and sums over the differences of every source from the reference.

    Args:
        opened: The models.
        reference: Whose weights task vectors are taken from: a source, or the host.
        progress: Told of bytes read.

    Raises:
        MismatchError: Weights that are not finite.
    """
    import torch

    chosen = [each for each in sampled(opened.pairing) if reference == opened.host or reference in each.inputs]
    total = sum(_bytes(opened, each, reference) for each in chosen)
    sums, done = Sums(), 0
    with torch.inference_mode():
        for each in chosen:
            for origin, vectors in _blocks(opened, each, reference):
                sums.add(part_of(each.role), each.name, origin, vectors)
                done += sum(tensor.nbytes for tensor in (origin, *vectors.values()))
                if progress is not None:
                    progress("comparing weights", done, total)
    return Measured(sums, len(chosen), done)


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


class Sums:
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
