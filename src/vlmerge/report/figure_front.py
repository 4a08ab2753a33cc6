"""The figure of a front: everything that was tried, the points that nothing beats, and where those land on fresh questions."""

# matplotlib leaves its **kwargs untyped, which strict mode counts as unknown members:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING

from vlmerge.report.canvas import ACCENT, FAINT, INK, MUTED, WARM, mark_contaminated, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vlmerge.report.front import Front
    from vlmerge.store import Split

MOST_PANELS = 3


def draw_front(front: Front, say: Callable[..., str], name_of: Callable[[str], str], *, contaminated: bool) -> Figure:
    """Draws it: of two objectives the search beside the freshest set, of more a panel for each of the first pairs.

    Args:
        front: The front.
        say: Phrases in the language of the figure.
        name_of: A name (of a candidate, or an axis) in the language of the figure.
        contaminated: Mark it as such.
    """
    pairs = list(combinations(range(len(front.objectives)), 2))[:MOST_PANELS]
    sets: list[Split] = ["search"] if front.shown == "search" else ["search", front.shown]
    panels: list[tuple[Split, int, int]] = (
        [(split, *pairs[0]) for split in sets] if len(pairs) == 1 else [(front.shown, *pair) for pair in pairs]
    )
    figure = new_figure(min(9.8, 4.9 * len(panels)) if len(panels) < MOST_PANELS else 12.0, 4.4)
    for axes, (split, across, up) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        if split == "search":
            _draw_tried(axes, front, across, up, name_of)
        _draw_members(axes, front, split, across, up, say, name_of)
        axes.set_title(say(f"set.{split}"), fontsize=9, color=MUTED)
        axes.set_xlabel(name_of(front.objectives[across]))
        axes.set_ylabel(name_of(front.objectives[up]))
        axes.grid(visible=True, axis="both")
        axes.margins(0.08)
    figure.axes[0].legend(loc="lower left", fontsize=8)
    if contaminated:
        mark_contaminated(figure, say("contaminated"))
    return figure


def _draw_tried(axes: Axes, front: Front, across: int, up: int, name_of: Callable[[str], str]) -> None:
    searched = [scores for trial, scores in front.tried.items() if trial not in front.by_hand]
    axes.plot([each[across] for each in searched], [each[up] for each in searched], "o", color=FAINT, markersize=3.5,
              markeredgewidth=0, zorder=1)  # fmt: skip
    named: set[str] = set()
    for trial, row in front.by_hand.items():
        scores = front.tried.get(trial)
        if scores is None:
            continue
        axes.plot(scores[across], scores[up], "s", color=WARM, alpha=0.6, markersize=3.5, markeredgewidth=0, zorder=2)
        if row.partition(":")[0] in ("host", "swap", "equal", "chat_vector") and row not in named:
            named.add(row)
            axes.annotate(name_of(row), (scores[across], scores[up]), xytext=(4, -3), textcoords="offset points", fontsize=7,
                          color=WARM, va="top", in_layout=False)  # fmt: skip


def _draw_members(
    axes: Axes, front: Front, split: Split, across: int, up: int, say: Callable[..., str], name_of: Callable[[str], str]
) -> None:
    """The front's points as a line of steps (on the search questions) or with their intervals (on fresh ones)."""
    members = [(member, member.on[split]) for member in front.members if split in member.on]
    points = sorted((found.scores[across].mean, found.scores[up].mean) for _, found in members)
    if split == "search" and len(front.objectives) == 2:
        axes.plot(*zip(*points, strict=True), "-", color=ACCENT, alpha=0.55, linewidth=1.4, drawstyle="steps-pre", zorder=2)
    for at, (member, found) in enumerate(members):
        x, y = found.scores[across], found.scores[up]
        colour = INK if member.winner else ACCENT
        if split != "search" and x.low is not None and x.high is not None and y.low is not None and y.high is not None:
            axes.plot([x.low, x.high], [y.mean, y.mean], "-", color=colour, alpha=0.3, linewidth=1, zorder=2)
            axes.plot([x.mean, x.mean], [y.low, y.high], "-", color=colour, alpha=0.3, linewidth=1, zorder=2)
        first = at == next((i for i, (each, _) in enumerate(members) if not each.winner), 0)
        label = name_of("winner") if member.winner else say("front.points") if first else None
        axes.plot(x.mean, y.mean, "D" if member.winner else "o", color=colour, markersize=6.5 if member.winner else 5,
                  linestyle="none", label=label, zorder=4)  # fmt: skip
        axes.annotate(str(member.trial), (x.mean, y.mean), xytext=(4, 4), textcoords="offset points", fontsize=7.5,
                      color=colour, zorder=5, in_layout=False)  # fmt: skip
