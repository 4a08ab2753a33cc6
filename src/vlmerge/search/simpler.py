"""Simpler genomes: what can be taken from a winner, a step at a time, so that fewer and rounder numbers are left.

Steps go from the one that takes most to the one that takes least: genes tied over the groups of tensors, parameters of the
method at their defaults, models removed, numbers rounded. Which of them are taken is not decided here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from vlmerge.search.genes import Role
from vlmerge.search.genome_space import GenomeSpace
from vlmerge.search.group_space import GroupSpace, coarsest
from vlmerge.search.space import SearchSpace
from vlmerge.types import Genome

REMOVALS = 2
"""Models whose removal is tried: those that weigh least."""
DECIMALS = (1, 2)
MOST_STEPS = 3 + REMOVALS + len(DECIMALS)
"""No winner has more steps."""


@dataclass(frozen=True)
class Point:
    """A genome of a space whose genes' roles are known."""

    space: GroupSpace | GenomeSpace
    genome: Genome

    @property
    def roles(self) -> tuple[Role, ...]:
        """What its genes are about."""
        return self.space.roles

    @property
    def said(self) -> tuple[tuple[Role, float], ...]:
        """The genes that have a say, with what their numbers count as."""
        counts, meant = self.space.counts(self.genome), self.space.meant(self.genome)
        return tuple((role, value) for role, value, own in zip(self.roles, meant, counts, strict=True) if own)

    @property
    def numbers(self) -> int:
        """Different numbers that the recipe holds: of each model and parameter those that are not its default.

        What a model of weight 0 has besides counts for nothing, and so do genes of methods that are not the chosen one.
        """
        out = self.removed
        return len(
            {
                (role.model, role.parameter, value)
                for role, value in self.said
                if value != role.default and role.model not in out
            }
        )

    @property
    def removed(self) -> frozenset[str]:
        """Models whose weight is 0 everywhere."""
        weights = self.weights()
        return frozenset(model for model, sizes in weights.items() if not any(sizes))

    def weights(self) -> dict[str, list[float]]:
        """Model → its weights in size, each times its tensors; of methods without weights nothing."""
        found: dict[str, list[float]] = {}
        for role, value in self.said:
            if role.parameter == "weight" and role.default is not None and role.model is not None:
                found.setdefault(role.model, []).append(abs(value) * role.tensors)
        return found

    def with_genes(self, change: Callable[[Role, float], float]) -> Point:
        """The same with every number passed through; choices stay."""
        values = [
            value if gene.choices else change(role, value) + 0.0  # + 0.0: no negative zero
            for gene, role, value in zip(self.space.genes, self.roles, self.genome, strict=True)
        ]
        return replace(self, genome=tuple(values))


@dataclass(frozen=True)
class Step:
    """One way to simplify.

    Attributes:
        name: `tied`, `layers tied`, `defaults`, `without NAME`, `1 decimal`, `2 decimals`.
        apply: The simpler point; None where there is nothing to do.
        instead_of: A step that makes this one needless, once taken.
    """

    name: str
    apply: Callable[[Point], Point | None]
    instead_of: str | None = None


def understood(space: SearchSpace, genome: Genome | None) -> Point | None:
    """The point, where the space is one whose genes' roles are known: of groups of tensors, or mergekit-evolve's."""
    known = isinstance(space, GroupSpace | GenomeSpace) and genome is not None and len(genome) == len(space.genes)
    return Point(space, genome) if known else None  # pyright: ignore[reportArgumentType] - `known` says so


def steps(winner: Point) -> tuple[Step, ...]:
    """What is tried of a winner, in this order; each on what the steps before have left.

    Args:
        winner: Whose models, by their weights, say which are removed first.
    """
    found = [Step("tied", tied), Step("layers tied", layers_tied, instead_of="tied"), Step("defaults", defaults)]
    weights = winner.weights()
    lightest = sorted(weights, key=lambda model: (math.fsum(weights[model]), model))
    found += [Step(f"without {model}", _without(model)) for model in lightest[:REMOVALS] if model not in winner.removed]
    names = [f"{decimals} decimal{'s' if decimals > 1 else ''}" for decimals in DECIMALS]
    for place, (name, decimals) in enumerate(zip(names, DECIMALS, strict=True)):
        found.append(Step(name, _rounded(decimals), instead_of=names[place - 1] if place else None))
    return tuple(found)


def tied(point: Point) -> Point | None:
    """One number per model (and parameter): the mean over the tensors. Of groups of tensors the recipe then has no slices."""
    if isinstance(point.space, GroupSpace):
        if point.space.groups == ("all",):
            return None
        return _changed(point, Point(coarsest(point.space), point.space.tied(point.genome)))
    return _changed(point, _averaged(point, lambda role: (role.model, role.parameter)))


def layers_tied(point: Point) -> Point | None:
    """One number along depth; embeddings, head and modules keep theirs."""
    return _changed(point, _averaged(point, lambda role: (_without_depth(role.group), role.model, role.parameter)))


def defaults(point: Point) -> Point | None:
    """Densities, lambdas and the like as the method has them; weights stay."""

    def plain(role: Role, value: float) -> float:
        return value if role.parameter == "weight" or role.default is None else role.default

    return _changed(point, point.with_genes(plain))


def _without(model: str) -> Callable[[Point], Point | None]:
    def apply(point: Point) -> Point | None:
        left = set(point.weights()) - point.removed - {model}
        if not left:
            return None

        def change(role: Role, value: float) -> float:
            return 0.0 if (role.model, role.parameter) == (model, "weight") else value

        return _changed(point, point.with_genes(change))

    return apply


def _rounded(decimals: int) -> Callable[[Point], Point | None]:
    return lambda point: _changed(point, point.with_genes(lambda _, value: round(value, decimals)))


def _averaged(point: Point, key: Callable[[Role], tuple[str | None, ...]]) -> Point:
    """Every number replaced by the mean of those with its key, weighted by their tensors; a mean of equals is exactly that.

    The mean is of what they count as: where signs do not, −0.6 and 0.6 are alike.
    """
    groups: dict[tuple[str | None, ...], list[tuple[float, int]]] = {}
    for role, value in zip(point.roles, point.space.meant(point.genome), strict=True):
        groups.setdefault(key(role), []).append((value, role.tensors))
    means = {name: _mean(members) for name, members in groups.items()}
    return point.with_genes(lambda role, _: means[key(role)])


def _mean(members: Sequence[tuple[float, int]]) -> float:
    values, tensors = [value for value, _ in members], sum(count for _, count in members)
    if len(set(values)) == 1 or not tensors:
        return values[0]
    return math.fsum(value * count for value, count in members) / tensors


def _without_depth(group: str) -> str:
    return re.sub(r"^(layers \d+-\d+|(first|middle|last) layer)", "layers", group)


def _changed(before: Point, after: Point) -> Point | None:
    """The point after a step; None where it stands for the same recipe: other genes can say the same."""
    same = after.genome == before.genome or after.space.decode(after.genome) == before.space.decode(before.genome)
    return None if same else after
