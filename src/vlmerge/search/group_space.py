"""The space of `merge:`: one number per model, or one t (slerp), for each group of tensors.

Groups are embeddings, runs of layers, and final norm with lm_head: few, because a layer-wise search loses to three numbers at
the budgets that people have. The coarsest form has one group for everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from vlmerge.config import Filtered, MergeSpec, ModelRef, ParameterValue, Recipe, Slice, SliceSource, Source
from vlmerge.config.method_table import METHODS
from vlmerge.errors import ConfigError
from vlmerge.search.space import model_labels
from vlmerge.types import Genome

EMBEDDINGS, HEAD = "embeddings", "norm+head"
# Names by which every family goes, on disk or as a plain LM.
EMBEDDING_FILTERS, HEAD_FILTERS = ("embed_tokens",), ("lm_head", "model.norm")


@dataclass(frozen=True)
class GroupSpace:
    """The space; see the module.

    Attributes:
        merge: Models, method and what else every recipe says.
        host: Becomes every recipe's `vlm`.
        layers: Number of the decoder's layers.
        ranges: Runs of layers [first, end) that have numbers of their own, in order; empty: one group for everything.
        separate: Of `embed` and `head`, those with numbers of their own.
    """

    merge: MergeSpec
    host: ModelRef
    layers: int
    ranges: tuple[tuple[int, int], ...] = ()
    separate: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of tensors, from the input to the output."""
        if not self.ranges:
            return ("all",)
        runs = [f"layers {first}-{end - 1}" for first, end in self.ranges]
        before = [EMBEDDINGS] if "embed" in self.separate else []
        after = [HEAD] if "head" in self.separate else []
        return (*before, *runs, *after)

    @property
    def columns(self) -> tuple[str, ...]:
        """What each group has numbers for: the models, or t."""
        if self.merge.method == "slerp":
            return ("t",)
        labels = model_labels(self.merge.models)
        return tuple(labels[model] for model in self.merge.searched)

    @property
    def names(self) -> tuple[str, ...]:
        """`group/model`, group after group."""
        return tuple(f"{group}/{column}" for group in self.groups for column in self.columns)

    @property
    def start(self) -> Genome:
        """Equal weights; half way for slerp."""
        return self.lift((0.5,) if self.merge.method == "slerp" else (1 / len(self.columns),) * len(self.columns))

    def lift(self, coarse: Genome) -> Genome:
        """Every group gets the coarsest form's numbers."""
        if len(coarse) != len(self.columns):
            raise ValueError(f"the coarsest form has {len(self.columns)} genes, not {len(coarse)}")
        return tuple(coarse) * len(self.groups)

    def genome_of(self, weights: Mapping[ModelRef, float]) -> Genome | None:
        """Weights of a linear merge as genes. What subtracts a base can say it only if they sum to one."""
        searched, base = self.merge.searched, self.merge.base_model
        used = {model for model, weight in weights.items() if weight}
        if self.merge.method in ("nuslerp", "multislerp"):
            return None  # Their weights are of directions.
        if self.merge.method == "linear":
            return self.lift(tuple(weights.get(model, 0.0) for model in searched)) if used <= set(searched) else None
        if abs(sum(weights.values()) - 1) > 1e-9 or not used <= {*searched, base}:
            return None
        if self.merge.method == "slerp":
            return self.lift((sum(weights.get(model, 0.0) for model in searched if model != base),))
        return self.lift(tuple(weights.get(model, 0.0) for model in searched))

    def decode(self, genome: Genome) -> Recipe:
        """One group: a plain list of models. More: slices, with filters for what stands before and after the layers."""
        if len(genome) != len(self.names):
            raise ValueError(f"this space has {len(self.names)} genes, not {len(genome)}")
        width = len(self.columns)
        numbers = [tuple(map(float, genome[index : index + width])) for index in range(0, len(genome), width)]
        rows = dict(zip(self.groups, numbers, strict=True))
        # A base that takes no part would be added to `models` as one more input.
        base = self.merge.base_model if self.merge.method != "linear" or self.merge.base_model in self.merge.models else None
        models: tuple[Source, ...] | None = None
        spec = METHODS[self.merge.method]
        shared: dict[str, ParameterValue] = {"normalize": self.merge.normalize} if spec.normalizes else {}
        if not self.ranges:
            own, common = self._parameters([((), rows["all"])])
            models = tuple(Source(model=model, parameters=own.get(model, {})) for model in self.merge.models)
            shared = {**common, **shared}
        return Recipe(
            merge_method=self.merge.method,
            vlm=self.host,
            base_model=base,
            models=models,
            slices=self._slices(rows) if self.ranges else None,
            parameters={**self.merge.parameters, **shared},
            protect=self.merge.protect,
            dtype=self.merge.dtype,
            out_dtype=self.merge.out_dtype,
        )

    def _slices(self, rows: Mapping[str, Genome]) -> tuple[Slice, ...]:
        merge = self.merge
        unlisted = METHODS[merge.method].subtracts and merge.base_model not in merge.models
        extra = [merge.base_model] if unlisted and merge.base_model else []
        slices: list[Slice] = []
        for index, (first, end) in enumerate(self.ranges):
            entries: list[tuple[tuple[str, ...], Genome]] = []
            if index == 0 and EMBEDDINGS in rows:
                entries.append((EMBEDDING_FILTERS, rows[EMBEDDINGS]))
            if index == len(self.ranges) - 1 and HEAD in rows:
                entries.append((HEAD_FILTERS, rows[HEAD]))
            own, shared = self._parameters([*entries, ((), rows[f"layers {first}-{end - 1}"])])
            sources = tuple(
                SliceSource(model=model, layer_range=(first, end), parameters=own.get(model, {}))
                for model in (*merge.models, *extra)
            )
            slices.append(Slice(sources=sources, parameters=shared))
        return tuple(slices)

    def _parameters(
        self, entries: list[tuple[tuple[str, ...], Genome]]
    ) -> tuple[dict[ModelRef, dict[str, ParameterValue]], dict[str, ParameterValue]]:
        """Each model's parameters and the shared ones, from (filters, numbers) entries of which the last has no filter."""

        def value(column: int) -> ParameterValue:
            if len(entries) == 1:
                return entries[0][1][column]
            named = [Filtered(filter=name, value=row[column]) for filters, row in entries for name in filters]
            return (*named, Filtered(value=entries[-1][1][column]))

        if self.merge.method == "slerp":
            return {}, {"t": value(0)}
        return {model: {"weight": value(column)} for column, model in enumerate(self.merge.searched)}, {}


def grouped(merge: MergeSpec, host: ModelRef, layers: int) -> GroupSpace:
    """The space that `merge.space` asks for.

    Raises:
        ConfigError: More groups than layers.
    """
    count = layers if merge.space.groups == "layer" else merge.space.groups
    if count > layers:
        raise ConfigError(
            "there are more groups than layers",
            where="merge.space.groups",
            expected=f"1 to {layers}",
            found=str(count),
            remedy="ask for fewer groups",
        )
    edges = [layers * index // count for index in range(count + 1)]
    return GroupSpace(merge, host, layers, tuple(pairwise(edges)), merge.space.separate)
