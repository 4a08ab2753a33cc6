"""Which tensors of a decoder share numbers: groups of genes, and the cells of a recipe that they fill.

A cell is what a recipe can tell apart: embeddings, a run of layers (or a module of it), final norm with head. Without a curve a
cell has numbers of its own. With one, every layer is a cell, and its numbers lie between those of a few knots along depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

from vlmerge.config.space_blocks import HALVES, SpaceSpec
from vlmerge.errors import ConfigError

EMBEDDINGS, HEAD = "embeddings", "norm+head"
# Names by which every family goes, on disk or as a plain LM.
EMBEDDING_FILTERS, HEAD_FILTERS = ("embed_tokens",), ("lm_head", "model.norm")
MODULE_FILTERS: Mapping[str, tuple[str, ...]] = {
    "attention": ("self_attn",),
    "q/k": ("q_proj", "k_proj"),
    "v/o": ("v_proj", "o_proj"),
    "mlp": (".mlp.",),
    "gate/up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
    "norms": ("norm",),
}
"""Module → substrings of its tensors' names; asked in this order, since norms of queries and keys are the attention's,
where that is not divided."""

ENDS = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
TENSORS = (
    "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight",
    "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight",
    "input_layernorm.weight", "post_attention_layernorm.weight",
)  # fmt: skip
"""Tensors of a layer of a plain language model: one for everything that a group can hold."""

KNOTS = {"linear": ("first", "last"), "quadratic": ("first", "middle", "last")}

Mix = tuple[tuple[int, float], ...]
"""(group, share): how much each group's number counts in a cell's."""


@dataclass(frozen=True)
class Layout:
    """The groups; see the module.

    Attributes:
        layers: Number of the decoder's layers.
        ranges: Runs of layers [first, end) that are cells, in order; empty: one group for everything.
        separate: Of `embed` and `head`, those with numbers of their own.
        modules: Modules with numbers of their own in every run.
        curve: Whether, and on what curve, the runs' numbers lie.
    """

    layers: int
    ranges: tuple[tuple[int, int], ...] = ()
    separate: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    curve: Literal["linear", "quadratic"] | None = None

    @cached_property
    def parts(self) -> tuple[str | None, ...]:
        """What a run of layers is divided into; None: all that is not named. The last one has no filter."""
        named = tuple(module for module in MODULE_FILTERS if module in self.modules)
        covered = all(module in named or all(half in named for half in halves) for module, halves in HALVES.items())
        return named if covered and "norms" in named else (*named, None)

    @cached_property
    def cells(self) -> tuple[str, ...]:
        """The cells, from the input to the output."""
        if not self.ranges:
            return ("all",)
        runs = [run_name(run, part) for run in self.ranges for part in self.parts]
        before = [EMBEDDINGS] if "embed" in self.separate else []
        after = [HEAD] if "head" in self.separate else []
        return (*before, *runs, *after)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """What has numbers of its own: the cells, or the knots of curves in the layers' place."""
        if self.curve is None:
            return self.cells
        knots = [f"{knot} layer{f' {part}' if part else ''}" for knot in KNOTS[self.curve] for part in self.parts]
        before = [EMBEDDINGS] if "embed" in self.separate else []
        after = [HEAD] if "head" in self.separate else []
        return (*before, *knots, *after)

    @cached_property
    def mixes(self) -> Mapping[str, Mix]:
        """Cell → how its number comes from those of the groups."""
        place = {group: index for index, group in enumerate(self.groups)}
        if self.curve is None:
            return {cell: ((place[cell], 1.0),) for cell in self.cells}
        found: dict[str, Mix] = {name: ((place[name], 1.0),) for name in (EMBEDDINGS, HEAD) if name in place}
        knots = KNOTS[self.curve]
        for run in self.ranges:
            for part in self.parts:
                names = [f"{knot} layer{f' {part}' if part else ''}" for knot in knots]
                shares = _lagrange(len(knots), run[0] / max(1, self.layers - 1))
                found[run_name(run, part)] = tuple(
                    (place[name], share) for name, share in zip(names, shares, strict=True) if share
                )
        return found

    def cell_of(self, tensor: str) -> str:
        """The cell that holds a tensor, by its name in a plain language model."""
        if not self.ranges:
            return "all"
        if tensor.startswith("model.layers."):
            layer = int(tensor.split(".")[2])
            run = next(each for each in self.ranges if each[0] <= layer < each[1])
        else:
            first = any(name in tensor for name in EMBEDDING_FILTERS)
            if first and "embed" in self.separate:
                return EMBEDDINGS
            if not first and "head" in self.separate:
                return HEAD
            run = self.ranges[0 if first else -1]
        for part in self.parts[:-1]:
            if any(name in tensor for name in MODULE_FILTERS[part or ""]):
                return run_name(run, part)
        return run_name(run, self.parts[-1])

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """One tensor of everything that any layout tells apart."""
        return (*ENDS, *(f"model.layers.{layer}.{name}" for layer in range(self.layers) for name in TENSORS))

    @cached_property
    def homes(self) -> tuple[tuple[str, ...], ...]:
        """Of each group the tensors that its number is about: those of its cell, or of the layer of its knot."""
        by_cell: dict[str, list[str]] = {cell: [] for cell in self.cells}
        for tensor in self.tensors:
            by_cell[self.cell_of(tensor)].append(tensor)
        if self.curve is None:
            return tuple(tuple(by_cell[cell]) for cell in self.cells)
        last = self.layers - 1
        layers = {"first": 0, "middle": last // 2, "last": last}
        found: list[tuple[str, ...]] = []
        for group in self.groups:
            if group in by_cell:
                found.append(tuple(by_cell[group]))
                continue
            knot, _, part = group.partition(" layer")
            layer = layers[knot]
            cell = run_name((layer, layer + 1), part.strip() or None)
            found.append(tuple(by_cell[cell]))
        return tuple(found)

    def filters(self, index: int) -> list[tuple[tuple[str, ...], str]]:
        """Of a run of layers: (substrings of names, cell), asked in this order; the last has none: what is left."""
        entries: list[tuple[tuple[str, ...], str]] = []
        if index == 0 and "embed" in self.separate:
            entries.append((EMBEDDING_FILTERS, EMBEDDINGS))
        if index == len(self.ranges) - 1 and "head" in self.separate:
            entries.append((HEAD_FILTERS, HEAD))
        run = self.ranges[index]
        entries += [(MODULE_FILTERS[part or ""], run_name(run, part)) for part in self.parts[:-1]]
        return [*entries, ((), run_name(run, self.parts[-1]))]


def layout_of(space: SpaceSpec, layers: int) -> Layout:
    """The layout that a space asks for.

    Raises:
        ConfigError: More groups than layers.
    """
    count = layers if space.groups == "layer" or space.curve else space.groups
    if count > layers:
        raise ConfigError(
            "there are more groups than layers",
            where="merge.space.groups",
            expected=f"1 to {layers}",
            found=str(count),
            remedy="ask for fewer groups",
        )
    edges = [layers * index // count for index in range(count + 1)]
    # A curve through more knots than layers would have genes without effect.
    curve = space.curve if layers > len(KNOTS.get(space.curve or "", ())) else None
    return Layout(layers, tuple(pairwise(edges)), space.separate, space.modules, curve)


def run_name(run: tuple[int, int], module: str | None) -> str:
    """`layers 0-3 mlp`."""
    return f"layers {run[0]}-{run[1] - 1}" + (f" {module}" if module else "")


def _lagrange(knots: int, depth: float) -> list[float]:
    """Shares of the values at equally spaced knots in the polynomial through them, at a depth from 0 to 1."""
    places = [index / (knots - 1) for index in range(knots)]
    shares: list[float] = []
    for own in places:
        share = 1.0
        for other in places:
            if other != own:
                share *= (depth - other) / (own - other)
        shares.append(share)
    return shares
