"""The space of `merge:`: the method's parameters, for each model and each group of tensors; and, of several methods, which.

Groups are embeddings, runs of layers (or modules of a run), and final norm with lm_head: few, because a layer-wise search loses
to three numbers at the budgets that people have. The coarsest form has one group. Every number of a recipe is a sum of genes by
fixed shares (one gene; several on a curve; the same one where genes are tied), brought within its bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from vlmerge.config import Filtered, MergeSpec, ModelRef, ParameterValue, Recipe, Slice, SliceSource, Source
from vlmerge.config.method_table import METHODS
from vlmerge.config.space_blocks import GeneSpec, SpaceSpec
from vlmerge.search.genes import Distribution, Gene, Role
from vlmerge.search.layout import Layout, layout_of
from vlmerge.search.lifting import Row, inherited
from vlmerge.search.recipe_values import RecipeValues, refuse_start
from vlmerge.search.space import Handed, model_labels
from vlmerge.types import Genome

METHOD = "method"
"""Name of the gene that chooses among several methods."""
ROOM = 0.99
"""Of the distance from a density to 0 or 1, how much of it a spread by rank (DELLA) may take."""


@dataclass(frozen=True)
class Column:
    """What a group has a number for: a parameter of the method, of one model or (None) of all."""

    parameter: str
    model: ModelRef | None


Entry = tuple[tuple[str, ...], Mapping[Column, float]]
"""Filters, and the numbers of the tensors that they name; no filter: of all that are left."""


@dataclass(frozen=True)
class GroupSpace:
    """The space; see the module.

    Attributes:
        merge: Models, methods and what else every recipe says.
        host: Becomes every recipe's `vlm`.
        layout: The groups of tensors.
        parameters: Of the methods' parameters, how those are searched that a run says something about.
    """

    merge: MergeSpec
    host: ModelRef
    layout: Layout
    parameters: Mapping[str, GeneSpec]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of tensors, from the input to the output."""
        return self.layout.groups

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """What each group has numbers for; of several methods, what any of them has."""
        found: dict[Column, None] = {}
        for method in self.merge.methods:
            found |= dict.fromkeys(self._columns(method))
        return tuple(found)

    def _columns(self, method: str) -> tuple[Column, ...]:
        """Those of one method: model after model, then what all models share."""
        spec, searched = METHODS[method], self.merge.searched_by(method)
        names = [name for name in ("weight", *self.parameters) if name in spec.parameters]
        own = [name for name in dict.fromkeys(names) if spec.parameters[name].per_source]
        shared = [name for name in dict.fromkeys(names) if not spec.parameters[name].per_source]
        if method == "slerp":
            shared = ["t"]
        return (
            *(Column(name, model) for model in searched for name in own),
            *(Column(name, None) for name in shared),
        )

    # ── genes ──

    @cached_property
    def _labels(self) -> Mapping[ModelRef, str]:
        return model_labels(self.merge.models)

    def _spec(self, parameter: str) -> GeneSpec:
        return self.parameters.get(parameter) or GeneSpec()

    def _name(self, group: str, column: Column) -> str:
        suffix = "" if column.parameter == "weight" else f"/{column.parameter}"
        return f"{group}{f'/{self._labels[column.model]}' if column.model is not None else ''}{suffix}"

    def _key(self, group: str, column: Column) -> str:
        """The name of the gene that a group's column takes its number from."""
        per = self._spec(column.parameter).per
        if per == "group" or (self.groups == ("all",) and per == "model"):
            return self._name(group, column)
        return self._name("all", column if per == "model" else Column(column.parameter, None))

    @cached_property
    def _homes(self) -> Mapping[str, list[tuple[int, Column]]]:
        """Gene → (group, column) of every number that it stands for, in the order of the genes."""
        found: dict[str, list[tuple[int, Column]]] = {}
        for tied in (False, True):
            for index, group in enumerate(self.groups):
                for column in self.columns:
                    if (self._spec(column.parameter).per != "group") == tied:
                        found.setdefault(self._key(group, column), []).append((index, column))
        return found

    @property
    def genes(self) -> tuple[Gene, ...]:
        """Which method, where there are several; then group after group, and what is tied at the end."""
        return self._genes

    @cached_property
    def _genes(self) -> tuple[Gene, ...]:
        found: list[Gene] = []
        if len(self.merge.methods) > 1:
            found.append(Gene(METHOD, choices=self.merge.methods))
        for name, homes in self._homes.items():
            parameter = homes[0][1].parameter
            how = self._spec(parameter).searched(parameter)
            found.append(Gene(name, how.low, how.high, scale=how.scale))
        return tuple(found)

    @property
    def names(self) -> tuple[str, ...]:
        """`group/model`, with `/parameter` where that is not the weight."""
        return tuple(gene.name for gene in self.genes)

    @cached_property
    def roles(self) -> tuple[Role, ...]:
        """What each gene is about."""
        found = [Role("", None, METHOD, 0, None)] if len(self.merge.methods) > 1 else []
        for homes in self._homes.values():
            groups = {group for group, _ in homes}
            models = dict.fromkeys(column.model for _, column in homes)
            parameter = homes[0][1].parameter
            default = {"weight": 0.0, "t": None}.get(parameter, self._neutral(parameter))
            only = next(iter(models)) if len(models) == 1 else None
            found.append(
                Role(
                    group=self.groups[homes[0][0]] if len(groups) == 1 and len(self.groups) > 1 else "",
                    model=None if only is None else self._labels[only],
                    parameter=parameter,
                    tensors=sum(len(self.layout.homes[group]) for group in groups),
                    default=default,
                )
            )
        return tuple(found)

    def meant(self, genome: Genome) -> Genome:
        """The genome with every number as it counts where it stands alone: within bounds, without a sign that says nothing."""
        found: list[float] = []
        for gene, value in zip(self.genes, genome, strict=True):
            negative = bool(gene.choices) or self._spec(self._homes[gene.name][0][1].parameter).negative
            found.append(value if gene.choices else _within(value if negative else abs(value), gene.low, gene.high))
        return tuple(found)

    def counts(self, genome: Genome) -> tuple[bool, ...]:
        """Of each gene, whether it has a say: of several methods those of the others have none."""
        own = set(self._columns(self._method(genome)))
        return tuple(bool(gene.choices) or any(column in own for _, column in self._homes[gene.name]) for gene in self.genes)

    def _method(self, genome: Genome) -> str:
        return self.merge.methods[round(genome[0]) if len(self.merge.methods) > 1 else 0]

    def tied(self, genome: Genome) -> Genome:
        """In the coarsest space, of every number the mean of what the tensors have here."""
        coarse, found = coarsest(self), list[float]()
        for gene in coarse.genes:
            if gene.choices:
                found.append(genome[self._places[METHOD]])
                continue
            numbers = [
                self._number(row, column.parameter, genome)
                for _, column in coarse._homes[gene.name]
                for tensor in self.layout.tensors
                if (row := self._row(tensor, column)) is not None
            ]
            found.append(_mean(numbers))
        return tuple(found)

    def _number(self, row: Row, parameter: str, genome: Genome) -> float:
        """What genes say together, brought to what it counts as."""
        spec = self._spec(parameter)
        how = spec.searched(parameter)
        number = _weighed(row, genome)
        return _within(number if spec.negative else abs(number), how.low, how.high)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    @property
    def start(self) -> Genome:
        """Equal weights, half way for slerp, and of other parameters what they start at."""
        return self._filled({})

    def _filled(self, weights: Mapping[Column, float], method: str | None = None) -> Genome:
        """The genome with these numbers in every group, and the usual ones where there is none."""
        genome: list[float] = []
        for gene in self.genes:
            if gene.choices:
                genome.append(float(gene.choices.index(method or gene.choices[0])))
                continue
            columns = [column for _, column in self._homes[gene.name]]
            given = [weights[column] for column in columns if column in weights]
            genome.append(_mean(given) if given else self._usual(columns[0].parameter))
        return tuple(genome)

    def _usual(self, parameter: str) -> float:
        start = self._spec(parameter).searched(parameter).start
        weighed = len([column for column in self.columns if column.parameter == parameter])
        return 1 / max(1, weighed) if start is None else start

    # ── from one space to another ──

    def _row(self, tensor: str, column: Column) -> Row | None:
        """How a tensor's number comes from the genes; None: the space does not search it."""
        if column not in self.columns:
            return None
        mix = self.layout.mixes[self.layout.cell_of(tensor)]
        shares: dict[int, float] = {}
        for group, share in mix:
            place = self._places[self._key(self.groups[group], column)]
            shares[place] = shares.get(place, 0.0) + share
        return tuple(shares.items())

    def lift(self, handed: Handed) -> Distribution:
        """Every gene gets the mean of what the coarser space says of its tensors: where that is finer or equal, exactly it."""
        coarse, mean = handed.space, handed.mean
        if not isinstance(coarse, GroupSpace):
            raise TypeError("only a space of groups can be lifted into one")
        rows: list[Row] = []
        numbers: list[float] = []
        for gene in self.genes:
            if gene.choices:
                place = coarse._places.get(METHOD)
                chosen = None if place is None else coarse.genes[place].choices[round(mean[place])]
                numbers.append(float(gene.choices.index(chosen or coarse.merge.methods[0])))
                rows.append(() if place is None else ((place, 1.0),))
                continue
            homes = self._homes[gene.name]
            found = [coarse._row(tensor, column) for group, column in homes for tensor in self.layout.homes[group]]
            known = [row for row in found if row is not None]
            rows.append(_mean_row(known))
            numbers.append(_weighed(rows[-1], mean) if known else self._neutral(homes[0][1].parameter))
        return Distribution(tuple(numbers), handed.distribution.sigma, inherited(rows, handed.distribution, self.genes))

    def _neutral(self, parameter: str) -> float:
        """What a method does that is not told of the parameter, within the gene's bounds."""
        default = next(
            (
                METHODS[name].parameters[parameter].default
                for name in self.merge.methods
                if parameter in METHODS[name].parameters
            ),
            None,
        )
        how = self._spec(parameter).searched(parameter)
        return self._usual(parameter) if default is None else _within(float(default), how.low, how.high)

    def genome_of(self, weights: Mapping[ModelRef, float]) -> Genome | None:
        """Weights of a linear merge as genes. What subtracts a base can say it only if they sum to one."""
        for method in self.merge.methods:
            columns = self._columns_of(method, weights)
            if columns is not None and self._holds(columns):
                return self._filled(columns, method)
        return None

    def _columns_of(self, method: str, weights: Mapping[ModelRef, float]) -> Mapping[Column, float] | None:
        searched, base = self.merge.searched_by(method), self.merge.base_model
        used = {model for model, weight in weights.items() if weight}
        if method in ("nuslerp", "multislerp") or not (METHODS[method].weighs or method == "slerp"):
            return None  # Their weights are of directions, or they have none.
        if method != "linear" and (abs(sum(weights.values()) - 1) > 1e-9 or not used <= {*searched, base}):
            return None
        if not used <= {*searched, base} or (method == "linear" and not used <= set(searched)):
            return None
        if method == "slerp":
            return {Column("t", None): sum(weights.get(model, 0.0) for model in searched if model != base)}
        return {Column("weight", model): weights.get(model, 0.0) for model in searched}

    def _holds(self, columns: Mapping[Column, float]) -> bool:
        """Whether the genes' ties, signs and bounds allow these numbers."""
        for column, number in columns.items():
            spec = self._spec(column.parameter)
            how = spec.searched(column.parameter)
            tied = [columns[other] for other in columns if other.parameter == column.parameter]
            if _within(number, how.low, how.high) != number or (number < 0 and not spec.negative):
                return False
            if spec.per == "all" and len(set(tied)) > 1:
                return False
        return True

    def genome_of_recipe(self, recipe: Recipe) -> Genome:
        """The genome that merges as a recipe does.

        Raises:
            ConfigError: The space cannot say it; with the first tensor where it differs.
        """
        method, values = RecipeValues.of(recipe, self.merge, self.layout.layers).said_by(self.merge.methods)
        genome: list[float] = []
        own = self._columns(method)
        for gene in self.genes:
            if gene.choices:
                genome.append(float(gene.choices.index(method)))
                continue
            homes = [(group, column) for group, column in self._homes[gene.name] if column in own]
            numbers = [
                values.number(tensor, column.parameter, column.model)
                for group, column in homes
                for tensor in self.layout.homes[group]
            ]
            genome.append(_mean(numbers) if numbers else self._usual(self._homes[gene.name][0][1].parameter))
        found = tuple(genome)
        said = RecipeValues.of(self.decode(found), self.merge, self.layout.layers)
        for tensor in self.layout.tensors:
            for parameter, model in values.columns(method):
                ours, theirs = said.number(tensor, parameter, model), values.number(tensor, parameter, model)
                if not math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-12):
                    whose = f" of {model}" if model is not None else ""
                    raise refuse_start(
                        f"the space cannot say it: {parameter}{whose}, {tensor}", expected=f"{theirs:g}", found=f"{ours:g}"
                    )
        return found

    # ── recipes ──

    def decode(self, genome: Genome) -> Recipe:
        """One group: a plain list of models. More: slices, with filters for what stands before and after the layers."""
        if len(genome) != len(self.genes):
            raise ValueError(f"this space has {len(self.genes)} genes, not {len(genome)}")
        method = self._method(genome)
        merge, spec = self.merge, METHODS[method]
        # A base that takes no part would be added to `models` as one more input.
        base = merge.base_model if spec.base != "ordinary" or merge.base_model in merge.models else None
        models: tuple[Source, ...] | None = None
        shared: dict[str, ParameterValue] = {"normalize": merge.normalize} if spec.normalizes else {}
        cells = self._cells(genome, method)
        listed = merge.models
        if not self.layout.ranges:
            own, common = self._parameters(method, [((), cells["all"])])
            models = tuple(Source(model=model, parameters=own.get(model, {})) for model in listed)
            shared = {**common, **shared}
        return Recipe(
            merge_method=method,
            vlm=self.host,
            base_model=base,
            models=models,
            slices=self._slices(method, cells) if self.layout.ranges else None,
            parameters={**{name: value for name, value in merge.parameters.items() if name in spec.parameters}, **shared},
            protect=merge.protect,
            dtype=merge.dtype,
            out_dtype=merge.out_dtype,
        )

    def _cells(self, genome: Genome, method: str) -> Mapping[str, Mapping[Column, float]]:
        """Cell → its numbers."""
        found: dict[str, Mapping[Column, float]] = {}
        for cell, mix in self.layout.mixes.items():
            row: dict[Column, float] = {}
            for column in self._columns(method):
                genes = [(self._places[self._key(self.groups[group], column)], share) for group, share in mix]
                row[column] = self._number(tuple(genes), column.parameter, genome)
            found[cell] = {column: _spread(column, row) for column in row}
        return found

    def _slices(self, method: str, cells: Mapping[str, Mapping[Column, float]]) -> tuple[Slice, ...]:
        merge, listed = self.merge, self.merge.models
        unlisted = METHODS[method].subtracts and merge.base_model not in listed
        extra = [merge.base_model] if unlisted and merge.base_model else []
        slices: list[Slice] = []
        for index, run in enumerate(self.layout.ranges):
            entries = [(filters, cells[cell]) for filters, cell in self.layout.filters(index)]
            own, shared = self._parameters(method, entries)
            sources = tuple(
                SliceSource(model=model, layer_range=run, parameters=own.get(model, {})) for model in (*listed, *extra)
            )
            slices.append(Slice(sources=sources, parameters=shared))
        return tuple(slices)

    def _parameters(
        self, method: str, entries: list[Entry]
    ) -> tuple[dict[ModelRef, dict[str, ParameterValue]], dict[str, ParameterValue]]:
        """Each model's parameters and the shared ones, from entries of which the last has no filter."""
        own: dict[ModelRef, dict[str, ParameterValue]] = {}
        shared: dict[str, ParameterValue] = {}
        for column in self._columns(method):
            value: ParameterValue = entries[0][1][column]
            if len(entries) > 1:
                named = [Filtered(filter=name, value=row[column]) for filters, row in entries for name in filters]
                value = (*named, Filtered(value=entries[-1][1][column]))
            (shared if column.model is None else own.setdefault(column.model, {}))[column.parameter] = value
        return own, shared


def grouped(merge: MergeSpec, host: ModelRef, layers: int, space: SpaceSpec | None = None) -> GroupSpace:
    """The space of a run.

    Args:
        merge: What is merged.
        host: Becomes every recipe's `vlm`.
        layers: Number of the decoder's layers.
        space: Which numbers; None: the first of `merge.spaces`.

    Raises:
        ConfigError: More groups than layers.
    """
    wanted = merge.spaces[0] if space is None else space
    return GroupSpace(merge, host, layout_of(wanted, layers), wanted.parameters)


def coarsest(space: GroupSpace) -> GroupSpace:
    """The space with one group for everything."""
    return GroupSpace(space.merge, space.host, Layout(space.layout.layers), space.parameters)


def _mean(numbers: list[float]) -> float:
    """The mean; of equal numbers exactly that one."""
    return numbers[0] if len(set(numbers)) == 1 else math.fsum(numbers) / len(numbers)


def _mean_row(rows: list[Row]) -> Row:
    if len(set(rows)) <= 1:
        return rows[0] if rows else ()
    shares: dict[int, list[float]] = {}
    for row in rows:
        for place, share in row:
            shares.setdefault(place, []).append(share)
    return tuple((place, math.fsum(each) / len(rows)) for place, each in sorted(shares.items()))


def _weighed(row: Row, genome: Genome) -> float:
    if len(row) == 1 and row[0][1] == 1.0:
        return float(genome[row[0][0]])
    return math.fsum(share * genome[place] for place, share in row)


def _within(number: float, low: float | None, high: float | None) -> float:
    number = number if low is None else max(number, low)
    return number if high is None else min(number, high)


def _spread(column: Column, row: Mapping[Column, float]) -> float:
    """The number itself, but for a spread of chances around a density (DELLA), which has to stay between 0 and 1."""
    density = row.get(Column("density", column.model))
    if column.parameter != "epsilon" or density is None or not 0 < density < 1:
        return row[column]
    return min(row[column], ROOM * min(density, 1 - density))
