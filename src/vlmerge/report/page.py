"""The page: one HTML file that holds everything it shows and asks nothing of any server."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from vlmerge.report.claim import verdict
from vlmerge.report.figure_recipe import column_name, group_name, hex_tint, is_dark, max_size
from vlmerge.report.figures import Image
from vlmerge.report.phrases import Phrases
from vlmerge.report.published import PUBLISHED, benchmark_of, differences
from vlmerge.report.results import ALL, SPLITS, is_hand_set
from vlmerge.report.statistics import DRAWS
from vlmerge.report.tables import forest_scale, score_table, task_tables
from vlmerge.report.view import RunView

RELOAD_SECONDS = 5
"""How often the page of a run that goes on looks at itself again."""


def render(view: RunView, phrases: Phrases, images: Mapping[str, Image]) -> str:
    """Writes the page as HTML.

    Every text that came from a model, a question or a file is escaped by the template.

    Args:
        view: The run.
        phrases: The page's language.
        images: Figures by name.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vlmerge.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["n1"] = lambda value: "–" if value is None else f"{value:.1f}"
    environment.filters["signed"] = lambda value: "–" if value is None else f"{value:+.1f}".replace("-", "−")
    environment.filters["jpeg"] = lambda data: _data_uri(data, "image/jpeg")
    template = environment.get_template("report.html.j2")
    return template.render(
        view=view,
        t=phrases,
        css=_source("style.css"),
        script=_source("page.js"),
        reload_seconds=RELOAD_SECONDS,
        figures={name: _data_uri(image.svg, "image/svg+xml") for name, image in images.items()},
        table=score_table(view),
        by_task=task_tables(view),
        scale=forest_scale(view),
        draws=DRAWS,
        sets=[split for split in SPLITS if (split, ALL) in view.sizes],
        protocol=_protocol(view),
        recipe=_recipe(view, phrases),
        published=_published(view),
        verdict=verdict,
        is_hand_set=is_hand_set,
    )


def _recipe(view: RunView, phrases: Phrases) -> dict[str, Any] | None:
    """The heat map: names, numbers and colours."""
    table = view.recipe
    if table is None:
        return None
    strongest = max_size(table)
    return {
        "columns": [column_name(*column) for column in table.columns],
        "rows": [
            {
                "name": group_name(group, phrases),
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


def _protocol(view: RunView) -> list[dict[str, Any]]:
    """What every task was asked with, one entry per task: sets that agree are joined."""
    found: dict[tuple[object, ...], dict[str, Any]] = {}
    for task in view.tasks:
        size = view.sizes.get((task.split, task.task))
        entry = found.setdefault(
            (task.task, task.metric, task.decoding, task.prompt, task.weight, task.label), {"task": task, "sets": []}
        )
        entry["sets"].append({"set": task.split, "size": size, "source": task.source})
    return list(found.values())


def _published(view: RunView) -> list[dict[str, Any]]:
    """Published figures for every task that is one of the public benchmarks."""
    ours = {benchmark: task for task in view.tasks if (benchmark := benchmark_of(task)) is not None and task.split != "search"}
    return [
        {"figure": figure, "differs": differences(ours[figure.benchmark], figure)}
        for figure in PUBLISHED
        if figure.benchmark in ours
    ]


def _source(name: str) -> str:
    return files("vlmerge.report").joinpath(f"templates/{name}").read_text(encoding="utf-8")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
