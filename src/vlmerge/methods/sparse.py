"""Task arithmetic over chosen differences, their signs elected or not: TIES (the largest), DARE (drawn at random), Breadcrumbs
(the largest but for outliers), DELLA (drawn by rank).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

from vlmerge.config.method_table import MethodSpec
from vlmerge.errors import CandidateFailure
from vlmerge.methods.differences import ALL, Choice, Differences, drawn, kept
from vlmerge.methods.finite import is_finite
from vlmerge.methods.kernels import arrays_of, kernels
from vlmerge.methods.method import Values
from vlmerge.methods.ranks import ranked
from vlmerge.methods.scratch import work_dtype
from vlmerge.methods.sums import divisor_of

if TYPE_CHECKING:
    from torch import Tensor

    from vlmerge.methods.differences import Key
    from vlmerge.methods.scratch import Scratch


@dataclass(frozen=True)
class ChosenTerms:
    """base + scale · Σ wᵢ·fᵢ·kept(xᵢ - base) [/ Σ wᵢ], of the elected sign alone with `elect`. Tensors are flat.

    Attributes:
        base: What differences are taken from.
        inputs: Sources.
        weights: One each.
        factors: What a source's kept differences are rescaled by.
        choices: What a source keeps.
        elect: Entries whose sign is not that of their sum are left out (a sum of zero elects plus).
        share: With `elect`: divide each entry by the weights that take part in it (a sum of 0 counts as 1).
        divisor: Divides every entry.
        scale: lambda.
        start: Where the tensors begin in those that the choices are about.
    """

    base: Tensor
    inputs: tuple[Tensor, ...]
    weights: tuple[float, ...]
    factors: tuple[float, ...]
    choices: tuple[Choice, ...]
    elect: bool
    share: bool
    divisor: float
    scale: float
    start: int = 0

    def part(self, span: slice) -> ChosenTerms:
        """The sum of parts of the tensors."""
        inputs = tuple(tensor[span] for tensor in self.inputs)
        return replace(self, base=self.base[span], inputs=inputs, start=self.start + span.start)

    def write(self, out: Tensor, scratch: Scratch) -> bool:
        """One pass."""
        return add_chosen(self, out, scratch)


@dataclass(frozen=True)
class Band:
    """Differences between two ranks: how many of the largest are left out, and how many after them are kept."""

    top: int
    count: int


@dataclass(frozen=True)
class Ranks:
    """Differences drawn by rank: chances of a row's smallest and largest, and what lots come from."""

    chances: tuple[float, float]
    key: Key


@dataclass(frozen=True)
class Share:
    """What one source contributes.

    Attributes:
        number: Its place among the inputs.
        weight: Not 0.
        wanted: What it keeps; or how many of its largest differences; or what has to be looked for in another way.
        rescale: Whether those are rescaled to the norm of all.
    """

    number: int
    weight: float
    wanted: Choice | int | Band | Ranks
    rescale: bool


@dataclass(frozen=True)
class Sparse:
    """TIES (Yadav et al. 2023), DARE (Yu et al. 2024), Breadcrumbs (Davari and Belilovsky 2024), DELLA (Deep et al. 2024), with
    mergekit's parameters.

    Attributes:
        spec: Row of the method table.
        keeps: Which differences: the `largest` (TIES), `drawn` ones (DARE), a `band` below the largest (Breadcrumbs), those
            drawn by rank (`ranked`, DELLA).
        elect: Signs are elected.
    """

    spec: MethodSpec
    keeps: Literal["largest", "drawn", "band", "ranked"]
    elect: bool

    @property
    def random(self) -> bool:
        """Whether each difference is drawn with the same chance."""
        return self.keeps == "drawn"

    @property
    def launches(self) -> bool:
        """Whether a GPU merges many tensors at once."""
        return self.keeps in ("largest", "drawn")

    def check(self, values: Values) -> None:
        """Chances by rank have to lie between 0 and 1."""
        if self.keeps != "ranked":
            return
        for each in values.sources:
            density, epsilon = float(each["density"] or 0.0), float(each["epsilon"] or 0.0)
            if 0 < density < 1 and not (density - epsilon > 0 and density + epsilon < 1):
                raise CandidateFailure(f"density ± epsilon has to lie between 0 and 1 ({density:g} ± {epsilon:g})")

    def prepare(self, tensors: Sequence[Tensor], base: Tensor | None, scratch: Scratch) -> Differences:
        """Thresholds and norms are found out when a density is first asked for."""
        del tensors, base, scratch
        return Differences()

    def shares(self, values: Values, length: int) -> list[Share]:
        """What each source that takes part contributes, before anything is looked at.

        Args:
            values: Parameters.
            length: Elements of the tensor.
        """
        rescale, scale = values.flag("rescale"), values.number("lambda")
        found: list[Share] = []
        for number, weight in enumerate(values.weights()):
            density = float(values.sources[number]["density"] or 0.0)
            if weight == 0 or scale == 0 or density <= 0:
                continue
            if density >= 1:
                wanted: Choice | int | Band | Ranks | None = ALL
            else:
                wanted = self._wanted(density, number, values, length)
            if wanted is None:
                continue
            found.append(Share(number, weight, wanted, rescale=rescale and wanted is not ALL))
        return found

    def _wanted(self, density: float, number: int, values: Values, length: int) -> Choice | int | Band | Ranks | None:
        """What a source of a density between 0 and 1 keeps; None: nothing."""
        if self.keeps == "drawn":
            return drawn(density, values.keys[number])
        if self.keeps == "ranked":
            epsilon = float(values.sources[number]["epsilon"] or 0.0)
            return Ranks((density - epsilon, density + epsilon), values.keys[number])
        if self.keeps == "largest":
            count = max(1, int(density * length))
            return count if count < length else ALL
        count = int(density * length)
        # Fewer outliers are left out where the density would not hold else.
        top = min(int(float(values.sources[number]["gamma"] or 0.0) * length), length - count)
        return Band(top, count) if count else None

    def divisor(self, values: Values) -> float:
        """What every entry is divided by."""
        return divisor_of(values.weights()) if values.flag("normalize") and not self.elect else 1.0

    def divides_by_parts(self, values: Values) -> bool:
        """Whether each entry is divided by the weights that take part in it."""
        return values.flag("normalize") and self.elect

    def rule(
        self, tensors: Sequence[Tensor], base: Tensor | None, values: Values, known: Differences, scratch: Scratch
    ) -> ChosenTerms:
        """Thresholds (and norms, with `rescale`) are looked up, or found."""
        assert base is not None
        shares = self.shares(values, len(base))
        choices: list[Choice] = []
        factors: list[float] = []
        for share in shares:
            one, wanted = tensors[share.number], share.wanted
            if isinstance(wanted, int):
                choice = known.largest(share.number, one, base, wanted)
            elif isinstance(wanted, Band):
                choice = known.band(share.number, one, base, wanted.top, wanted.count)
            elif isinstance(wanted, Ranks):
                choice = ranked(one, base, values.shape, wanted.chances, wanted.key, scratch)
            else:
                choice = wanted
            choices.append(choice)
            factors.append(known.rescaling(share.number, one, base, choice, scratch) if share.rescale else 1.0)
        return ChosenTerms(
            base, tuple(tensors[share.number] for share in shares), tuple(share.weight for share in shares), tuple(factors),
            tuple(choices), self.elect, self.divides_by_parts(values), self.divisor(values), values.number("lambda"),
        )  # fmt: skip


def add_chosen(terms: ChosenTerms, out: Tensor, scratch: Scratch) -> bool:
    """Writes the result into `out`, rounded once; gives whether all of it is finite."""
    if not terms.inputs:
        out.copy_(terms.base)
        return is_finite(out, scratch)
    ranked_ones = any(choice.kind == "ranked" for choice in terms.choices)
    compiled = None if ranked_ones else kernels(out)
    arrays, target = arrays_of(terms.base, *terms.inputs), arrays_of(out)
    if compiled is not None and arrays is not None and target is not None:
        return compiled.add_chosen(arrays, terms, target[0])
    _add_chosen(terms, out, scratch)
    return is_finite(out, scratch)


def _add_chosen(terms: ChosenTerms, out: Tensor, scratch: Scratch) -> None:
    """In chunks of plain torch, rounding by rounding what the kernels do."""
    work = work_dtype(terms.base.dtype, *(tensor.dtype for tensor in terms.inputs))
    divisor = torch.tensor(terms.divisor, dtype=work, device=out.device)
    for span in scratch.spans(out.numel()):
        origin = terms.base[span].to(work)
        parts: list[Tensor] = []
        for tensor, weight, factor, choice in zip(terms.inputs, terms.weights, terms.factors, terms.choices, strict=True):
            chosen = kept(tensor[span].to(work) - origin, choice, terms.start + span.start)
            parts.append(chosen.mul(factor).mul_(weight))
        # From zero, as the kernels do: -0.0 and 0.0 make 0.0.
        total = torch.zeros_like(origin)
        for part in parts:
            total.add_(part)
        if terms.elect:
            total = _elected(total, parts, terms)
        if terms.divisor != 1:
            total.div_(divisor)
        out[span].copy_(torch.add(origin, total, alpha=terms.scale))


def _elected(total: Tensor, parts: Sequence[Tensor], terms: ChosenTerms) -> Tensor:
    """The sum over the parts that have its sign; divided by their weights if asked."""
    plus = total >= 0
    mixed, share = torch.zeros_like(total), torch.zeros_like(total)
    for part, weight in zip(parts, terms.weights, strict=True):
        joins = (part != 0) & ((part > 0) == plus)
        mixed.add_(torch.where(joins, part, 0.0))
        share.add_(joins.to(share.dtype).mul_(weight))
    return mixed / torch.where(share == 0, 1.0, share) if terms.share else mixed
