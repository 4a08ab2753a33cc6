"""Which genes mattered, as a picture: shares of the explained variance; and, where it was tried, the winner without them."""

# matplotlib leaves its **kwargs untyped, which strict mode counts as unknown members:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vlmerge.report.canvas import ACCENT, FAINT, INK, LOSS, MUTED, mark_contaminated, new_figure
from vlmerge.report.importance_table import ImportanceTable, Line

SHOWN = 3.0
"""Times the largest loss of a group, as far as its interval reaches, that the axis of differences has room for."""

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_importance(table: ImportanceTable, say: Callable[..., str], *, contaminated: bool) -> Figure:
    """Draws it.

    Args:
        table: Its lines.
        say: Phrases in the language of the figure.
        contaminated: Mark it as such.
    """
    lines = [line for block in table.blocks for line in block]
    gaps = [sum(len(block) for block in table.blocks[:place]) for place in range(1, len(table.blocks))]
    places = [at + 0.6 * sum(at >= gap for gap in gaps) for at in range(len(lines))]
    panels = [table.fit is not None, any(line.ablated for line in lines)]
    figure = new_figure(3.0 + 2.9 * sum(panels), 1.1 + 0.36 * (places[-1] + 1))
    axes = figure.subplots(1, sum(panels), sharey=True, squeeze=False)[0]
    if panels[0]:
        _draw_shares(axes[0], lines, places, say)
    if panels[1]:
        _draw_ablations(axes[-1], lines, places, say)
    axes[0].set_yticks(places, [line.name(say) for line in lines])
    axes[0].set_ylim(places[-1] + 0.6, -0.6)
    for each in axes:
        each.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9)
        each.grid(visible=False)
        each.spines["left"].set_visible(False)
    if contaminated:
        mark_contaminated(figure, say("contaminated"))
    return figure


def _draw_shares(axes: Axes, lines: Sequence[Line], places: Sequence[float], say: Callable[..., str]) -> None:
    known = [(line, place) for line, place in zip(lines, places, strict=True) if line.share is not None]
    axes.barh([place for _, place in known], [100 * (line.share or 0.0) for line, _ in known], 0.62, color=ACCENT)
    for line, place in known:
        axes.annotate(f"{100 * (line.share or 0.0):.0f} %", (100 * (line.share or 0.0), place), xytext=(4, 0),
                      textcoords="offset points", va="center", fontsize=8.5, color=INK)  # fmt: skip
    axes.set_xlim(0, max(100 * (line.share or 0.0) for line, _ in known) * 1.22)
    axes.set_xlabel(say("importance.share"), fontsize=8.5)


def _draw_ablations(axes: Axes, lines: Sequence[Line], places: Sequence[float], say: Callable[..., str]) -> None:
    axes.axvline(0, color=FAINT, linewidth=1, zorder=0)
    far = _far(lines)
    for line, place in zip(lines, places, strict=True):
        one = line.ablated
        if one is None or one.difference is None:
            continue
        colour = LOSS if one.clear and one.difference < 0 else MUTED
        if one.difference < far:
            text = f"◂ {one.difference:.1f}".replace("-", "−")
            axes.annotate(text, (0.02, place), xycoords=axes.get_yaxis_transform(), va="center", fontsize=8.5, color=colour)
            continue
        if one.low is not None and one.high is not None:
            axes.plot((one.low, one.high), (place, place), "-", color=colour, linewidth=1.6, solid_capstyle="butt")
        axes.plot((one.difference,), (place,), "o", color=colour, markersize=5)
    axes.margins(x=0.12)
    axes.set_xlabel(say("importance.ablation"), fontsize=8.5)


def _far(lines: Sequence[Line]) -> float:
    """Below it a difference is told at the edge: without a model most merges fall apart, and groups would be dots at zero."""
    of_groups = [line.ablated.low or line.ablated.difference for line in lines if line.what == "group" and line.ablated]
    lowest = min((value for value in of_groups if value is not None), default=None)
    return -math.inf if lowest is None else SHOWN * min(lowest, -1.0)
