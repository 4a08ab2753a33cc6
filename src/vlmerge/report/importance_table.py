"""What the page shows of importance: groups of tensors, models and parameters, with their shares and what ablation found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from vlmerge.report.importance import Importance
from vlmerge.statistics import LEVEL


@dataclass(frozen=True)
class Ablation:
    """The winner with genes set back, minus the winner, in points of 100; see `vlmerge ablate`."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None

    @property
    def clear(self) -> bool:
        """Whether it is told apart from zero, all of them taken together."""
        return self.p is not None and self.p < 1 - LEVEL


@dataclass(frozen=True)
class Line:
    """One group, model or parameter.

    Attributes:
        what: `group`, `model` or `parameter`.
        raw: Its name in the store.
        share: Of the explained variance, 0 to 1; None where that is not known.
        ablated: None where it was not tried.
    """

    what: str
    raw: str
    share: float | None
    ablated: Ablation | None

    def name(self, say: Callable[..., str]) -> str:
        """As a person reads it."""
        return group_text(self.raw, say) if self.what == "group" else self.raw or say("importance.shared")


@dataclass(frozen=True)
class ImportanceTable:
    """Everything of one stage.

    Attributes:
        stage: Its name.
        candidates: How many the shares are from.
        fit: Cross-validated R²; None where no share is shown.
        blocks: Groups, models, parameters; none of them empty.
        poor: Stage and R² of those about which nothing is said.
    """

    stage: str
    candidates: int
    fit: float | None
    blocks: tuple[tuple[Line, ...], ...]
    poor: tuple[tuple[str, float], ...]


def importance_table(found: Sequence[Importance], ablations: Sequence[Mapping[str, Any]]) -> ImportanceTable | None:
    """Lays it out: the finest stage that can be shown; None where there is nothing to show at all.

    Args:
        found: Of each stage.
        ablations: As the store has them.
    """
    poor = tuple((one.stage, one.fit) for one in found if not one.shown and one.fit is not None)
    shown = next((one for one in reversed(found) if one.shown), None)
    tried = {(str(one["what"]), str(one["name"])): _ablation(one) for one in ablations}
    if shown is None and not tried:
        return ImportanceTable("", 0, None, (), poor) if poor else None
    shares: dict[str, dict[str, float]] = {"group": {}, "model": {}, "parameter": {}}
    if shown is not None:
        for what, listed in (("group", shown.groups), ("model", shown.models), ("parameter", shown.parameters)):
            shares[what] = {share.name: share.share for share in listed}
    blocks: list[tuple[Line, ...]] = []
    for what, own in shares.items():
        names = dict.fromkeys([*own, *(name for kind, name in tried if kind == what)])
        lines = tuple(Line(what, name, own.get(name), tried.get((what, name))) for name in names)
        if lines:
            blocks.append(lines)
    if not blocks:
        return None
    return ImportanceTable(
        "" if shown is None else shown.stage,
        0 if shown is None else shown.candidates,
        None if shown is None else shown.fit,
        tuple(blocks),
        poor,
    )


def group_text(group: str, say: Callable[..., str]) -> str:
    """A group of tensors in the report's words: `layers 0-2 mlp`, `norm+head`, `first layer`."""
    if not group:
        return say("group.everywhere")
    whole = {"embeddings": "group.embed", "norm+head": "group.norm_head"}
    if group in whole:
        return say(whole[group])
    run = re.fullmatch(r"layers (\d+)-(\d+)(?: (.+))?", group)
    if run is None:
        return group
    first, last, part = run.groups()
    where = say("group.layer", first=first) if first == last else say("group.layers", first=first, last=last)
    return f"{where} · {say(f'part.{part}')}" if part else where


def _ablation(one: Mapping[str, Any]) -> Ablation:
    numbers = cast("Mapping[str, float | None]", one)
    return Ablation(numbers["difference"], numbers["low"], numbers["high"], numbers["p"])
