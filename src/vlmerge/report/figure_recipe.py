"""Figure 3: the recipe as a picture, one cell per layer group and model."""

# matplotlib leaves its **kwargs untyped, which strict mode counts as unknown members:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vlmerge.report.canvas import FAINT, INK, MUTED, mark_contaminated, new_figure
from vlmerge.report.recipe_table import Group, RecipeTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Colour = tuple[float, float, float]

POSITIVE: Colour = (0.208, 0.341, 0.718)
NEGATIVE: Colour = (0.702, 0.216, 0.184)
WHITE: Colour = (1.0, 1.0, 1.0)


def draw_recipe(table: RecipeTable, say: Callable[..., str], *, contaminated: bool) -> Figure:
    """Draws figure 3.

    Args:
        table: The recipe's numbers.
        say: Phrases in the language of the figure.
        contaminated: Mark it as such.
    """
    from matplotlib.patches import Rectangle

    columns, groups = len(table.columns), len(table.groups)
    figure = new_figure(2.4 + 1.35 * columns, 0.9 + 0.42 * groups)
    axes = figure.subplots()
    strongest = max_size(table)
    for at, group in enumerate(table.groups):
        for column, value in enumerate(group.values):
            axes.add_patch(
                Rectangle(
                    (column + 0.03, at + 0.05), 0.94, 0.9, facecolor=tint(value, strongest), edgecolor=FAINT, linewidth=0.5
                )
            )
            text = "–" if value is None else f"{value:.3f}".replace("-", "−")
            axes.text(
                column + 0.5,
                at + 0.52,
                text,
                ha="center",
                va="center",
                fontsize=9.5,
                color="white" if is_dark(value, strongest) else INK,
            )
    axes.set_xlim(0, columns)
    axes.set_ylim(groups, 0)
    axes.set_xticks([column + 0.5 for column in range(columns)], [column_name(*column) for column in table.columns])
    axes.set_yticks([at + 0.5 for at in range(groups)], [group_name(group, say) for group in table.groups])
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False, labelcolor=INK, labelsize=9.5)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.supxlabel(say("figure.recipe", method=table.method), fontsize=8.5, color=MUTED)
    if contaminated:
        mark_contaminated(figure, say("contaminated"))
    return figure


def column_name(model: str, parameter: str) -> str:
    """Heading of a column: the model alone where its parameter is a weight."""
    if not model:
        return parameter
    return model if parameter == "weight" else f"{model} {parameter}"


def group_name(group: Group, say: Callable[..., str]) -> str:
    """Heading of a row."""
    if group.outer:
        return " + ".join(say(f"group.{part}") for part in group.outer.split("+"))
    if group.layers is None:
        where = say("group.all_layers")
    elif group.layers[0] == group.layers[1]:
        where = say("group.layer", first=group.layers[0])
    else:
        where = say("group.layers", first=group.layers[0], last=group.layers[1])
    return f"{where} · {say(f'part.{group.part}')}" if group.part else where


def max_size(table: RecipeTable) -> float:
    """The largest number in size: full colour."""
    return max((abs(value) for group in table.groups for value in group.values if value is not None), default=0.0) or 1.0


def tint(value: float | None, strongest: float) -> Colour:
    """Signed colour map: white at zero, blue above, red below."""
    if value is None:
        return WHITE
    share = min(abs(value) / strongest, 1.0) ** 0.8 * 0.92
    end = POSITIVE if value > 0 else NEGATIVE
    return (1 + share * (end[0] - 1), 1 + share * (end[1] - 1), 1 + share * (end[2] - 1))


def is_dark(value: float | None, strongest: float) -> bool:
    """Whether white text reads better on the tint than ink does."""
    red, green, blue = tint(value, strongest)
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.6


def hex_tint(value: float | None, strongest: float) -> str:
    """The tint for a page: `#rrggbb`."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in tint(value, strongest))
