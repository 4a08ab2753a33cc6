"""The pictures of a model card: the search, and the winner's weights. No picture of a question: those are others'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from vlmerge.report.figures import FOLDER, draw_figures
from vlmerge.report.fonts import find_typeface
from vlmerge.report.phrases import read_phrases
from vlmerge.report.view import read_view
from vlmerge.store import Store

PICTURES: Mapping[str, str] = MappingProxyType(
    {
        f"{FOLDER}/search.png": "The search: the score of every candidate in its order, and of the merges without a search",
        f"{FOLDER}/recipe.png": "The winner: what of each model went into which part",
    }
)
"""File beside a card → what it shows."""


def card_pictures(store: Store) -> dict[str, bytes]:
    """Draws them for a run that has an election behind it: file → PNG.

    Args:
        store: The run's store.
    """
    view = read_view(store)
    drawn = draw_figures(
        history=replace(view.history, finished=True, seconds_left=None),
        rows=view.rows,
        examples=None,
        recipe=view.path or view.recipe,
        phrases=read_phrases("en"),
        typeface=find_typeface(),
        contaminated=bool(view.contaminated),
        for_card=True,
    )
    found = {f"{FOLDER}/{name}.png": image.png for name, image in drawn.items()}
    return {file: data for file, data in found.items() if data is not None}
