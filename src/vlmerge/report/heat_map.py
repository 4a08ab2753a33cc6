"""A recipe's numbers as a page shows them: names, figures and colours, the same as figure 3's."""

from __future__ import annotations

from typing import Any

from vlmerge.report.figure_recipe import column_name, group_name, hex_tint, is_dark, max_size
from vlmerge.report.phrases import Phrases
from vlmerge.report.recipe_table import RecipeTable


def heat_map(table: RecipeTable, say: Phrases) -> dict[str, Any]:
    """Plain values: `columns` (headings) and `rows` (name, and cells with text, colour, and whether the colour is dark).

    Args:
        table: The numbers.
        say: The page's language.
    """
    strongest = max_size(table)
    return {
        "columns": [column_name(*column) for column in table.columns],
        "rows": [
            {
                "name": group_name(group, say),
                "cells": [
                    {
                        "text": "–" if value is None else f"{value:.3f}".replace("-", "−"),
                        "colour": hex_tint(value, strongest),
                        "dark": is_dark(value, strongest),
                    }
                    for value in group.values
                ],
            }
            for group in table.groups
        ],
    }
