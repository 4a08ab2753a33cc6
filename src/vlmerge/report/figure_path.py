"""Figure 3 of a run over paths: a box for each layer of the result, in its model's colour."""

# matplotlib leaves its **kwargs untyped, which strict mode counts as unknown members:
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vlmerge.report.canvas import INK, MUTED, mark_contaminated, new_figure
from vlmerge.report.path_picture import PathPicture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACROSS = 16
"""Boxes in a row."""


def draw_path(path: PathPicture, say: Callable[..., str], *, contaminated: bool) -> Figure:
    """Draws the path, row by row.

    Args:
        path: Its layers.
        say: Phrases in the language of the figure.
        contaminated: Mark it as such.
    """
    from matplotlib.patches import Rectangle

    rows = -(-len(path.steps) // ACROSS)
    wide = max(min(len(path.steps), ACROSS), 8)
    figure = new_figure(0.9 + 0.52 * wide, 1.3 + 0.75 * rows)
    axes = figure.subplots()
    for number, step in enumerate(path.steps):
        x, y = number % ACROSS, number // ACROSS
        axes.add_patch(Rectangle((x + 0.04, y + 0.05), 0.92, 0.62, facecolor=step.colour, edgecolor="none"))
        axes.text(x + 0.5, y + 0.37, str(step.layer), ha="center", va="center", fontsize=10, color="white")
        if step.scale != 1:
            axes.text(x + 0.5, y + 0.8, f"×{step.scale:.2f}", ha="center", va="center", fontsize=7, color=MUTED)
    for place, (name, colour) in enumerate(path.models.items()):
        axes.text(0.04 + 3 * place, -0.25, f"■ {name}", ha="left", va="center", fontsize=9.5, color=colour)
    axes.set_xlim(0, wide)
    axes.set_ylim(rows, -0.5)
    axes.set_axis_off()
    figure.supxlabel(say("figure.path", layers=len(path.steps)), fontsize=8.5, color=INK)
    if contaminated:
        mark_contaminated(figure, say("contaminated"))
    return figure
