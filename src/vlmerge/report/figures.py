"""The figures of a report, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlmerge.atomic import write_bytes
from vlmerge.report.canvas import as_png, as_svg, drawing
from vlmerge.report.examples import Examples
from vlmerge.report.figure_examples import draw_examples
from vlmerge.report.figure_front import draw_front
from vlmerge.report.figure_importance import draw_importance
from vlmerge.report.figure_path import draw_path
from vlmerge.report.figure_recipe import draw_recipe
from vlmerge.report.figure_search import draw_search
from vlmerge.report.fonts import Typeface
from vlmerge.report.front import Front
from vlmerge.report.history import History
from vlmerge.report.importance_table import ImportanceTable
from vlmerge.report.path_picture import PathPicture
from vlmerge.report.phrases import Phrases, read_phrases
from vlmerge.report.recipe_table import RecipeTable
from vlmerge.report.results import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "figures"


@dataclass(frozen=True)
class Image:
    """One figure, encoded twice; what only the page of the moment shows has no PNG, and what only a card shows no SVG."""

    svg: bytes | None
    png: bytes | None


ONLY_ON_PAGE = frozenset({"search-narrow"})
"""Figures that have no files of their own."""


def draw_figures(
    *,
    history: History,
    rows: Sequence[Row],
    examples: Examples | None,
    recipe: RecipeTable | PathPicture | None,
    front: Front | None = None,
    phrases: Phrases,
    typeface: Typeface,
    contaminated: bool,
    importance: ImportanceTable | None = None,
    brief: bool = False,
    for_card: bool = False,
) -> dict[str, Image]:
    """Draws every figure that there is something to draw for.

    Args:
        history: The search so far.
        rows: All rows of the run.
        examples: Questions for figure 2.
        recipe: Numbers, or a path, for figure 3.
        front: Of a run with objectives.
        phrases: The report's language; figures are English where no font has that language's characters.
        typeface: What they are set in.
        contaminated: Mark them as such.
        importance: Lines for the figure of it.
        brief: Only `search`, and no PNG: all that the page of a run that goes on cannot do without.
        for_card: Only what a model card shows, as PNG.

    Returns:
        By name: `search`, `search-narrow` (for a phone), `front`, `examples`, `recipe`, `importance`.
    """
    say = phrases if typeface.japanese is not None else read_phrases("en")

    def name_of(candidate: str) -> str:
        return typeface.drawable(say.candidate(candidate))

    found: dict[str, Image] = {}
    with drawing(typeface):

        def add(name: str, draw: Callable[[], Figure]) -> None:
            figure = draw()
            svg = None if for_card else as_svg(figure)
            found[name] = Image(svg, None if brief or name in ONLY_ON_PAGE else as_png(figure))

        if history.points:
            add("search", lambda: draw_search(history, rows, say, name_of, narrow=False, contaminated=contaminated))
        if history.points and not brief and not for_card:
            add("search-narrow", lambda: draw_search(history, rows, say, name_of, narrow=True, contaminated=contaminated))
        if front is not None and not for_card:
            add("front", lambda: draw_front(front, say, name_of, contaminated=contaminated))
        if examples is not None and examples.shown:
            add("examples", lambda: draw_examples(examples, say, name_of, typeface, contaminated=contaminated))
        if isinstance(recipe, PathPicture) and not brief:
            add("recipe", lambda: draw_path(recipe, say, contaminated=contaminated))
        elif isinstance(recipe, RecipeTable) and not brief:
            add("recipe", lambda: draw_recipe(recipe, say, contaminated=contaminated))
        if importance is not None and importance.blocks and not brief and not for_card:
            add("importance", lambda: draw_importance(importance, say, contaminated=contaminated))
    return found


def write_figures(folder: Path, images: dict[str, Image]) -> None:
    """Writes figures/NAME.svg and NAME.png, where there is one, into a run folder."""
    place = folder / FOLDER
    place.mkdir(exist_ok=True)
    for name, image in images.items():
        if image.png is not None:
            write_bytes(place / f"{name}.png", image.png)
        if name not in ONLY_ON_PAGE and image.svg is not None:
            write_bytes(place / f"{name}.svg", image.svg)
