"""The page of a comparison of runs: one HTML file in the style of a run's page, which asks nothing of any server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vlmerge.report.page import readable_template, source
from vlmerge.report.phrases import Language, read_phrases
from vlmerge.statistics import DRAWS


def comparison_page(row: str, tables: Sequence[Mapping[str, Any]], notes: Sequence[str], level: float, lang: Language) -> str:
    """Writes it.

    Args:
        row: The row of each run that is compared.
        tables: Comparisons as `side_by_side.Comparison.plain` gives them.
        notes: What one should know before believing them.
        level: Coverage of the intervals.
        lang: `en` or `ja`.
    """
    return readable_template("comparison.html.j2").render(
        row=row, tables=[{**table, "scale": _scale(table)} for table in tables], notes=notes, level=round(100 * level),
        draws=DRAWS, t=read_phrases(lang), css=source("style.css"), script=source("page.js"), alarm=1 - level,
    )  # fmt: skip


def _scale(table: Mapping[str, Any]) -> tuple[float, float]:
    """Ends of the axis of scores: round numbers around all intervals."""
    ends = [value for one in table["systems"] for value in one["score"].values() if value is not None]
    return max(0.0, 5 * (min(ends) // 5)), min(100.0, 5 * (max(ends) // 5 + 1))
