"""The page: one HTML file that holds everything it shows and asks nothing of any server."""

from __future__ import annotations

import base64
import functools
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

from vlmerge.fitness import FRONT_LIMIT
from vlmerge.report.archive import Cell
from vlmerge.report.claim import verdict
from vlmerge.report.figures import Image
from vlmerge.report.heat_map import heat_map
from vlmerge.report.phrases import Phrases
from vlmerge.report.published import PUBLISHED, benchmark_of, differences
from vlmerge.report.results import ALL, SPLITS
from vlmerge.report.table import constraint_lines, constraint_phrase
from vlmerge.report.tables import forest_scale, score_table, task_tables
from vlmerge.report.view import RunView
from vlmerge.statistics import DRAWS
from vlmerge.store import Split

if TYPE_CHECKING:
    from jinja2 import Template

RELOAD_SECONDS = 5
"""How often the page of a run that goes on looks at itself again."""


def render(view: RunView, phrases: Phrases, images: Mapping[str, Image], cells: Sequence[Cell] = ()) -> str:
    """Writes the page as HTML.

    Every text that came from a model, a question or a file is escaped by the template.

    Args:
        view: The run.
        phrases: The page's language.
        images: Figures by name.
        cells: The archive of a finished run with several tasks.
    """
    return readable_template("report.html.j2").render(
        view=view,
        t=phrases,
        n1=_one_decimal,
        signed=_signed,
        percent=_percent,
        jpeg=_jpeg,
        css=source("style.css"),
        script=source("page.js"),
        reload_seconds=RELOAD_SECONDS,
        figures={name: _data_uri(image.svg, "image/svg+xml") for name, image in images.items() if image.svg is not None},
        table=score_table(view),
        by_task=task_tables(view),
        scale=forest_scale(view),
        draws=DRAWS,
        sets=[split for split in SPLITS if (split, ALL) in view.sizes],
        protocol=_protocol(view),
        recipe=None if view.recipe is None else heat_map(view.recipe, phrases),
        simple=None if view.simple is None else heat_map(view.simple, phrases),
        step_list=_step_list,
        ablated=view.importance is not None and any(line.ablated for block in view.importance.blocks for line in block),
        published=_published(view),
        set_list=_set_list,
        score_list=_score_list,
        stage_list=_stage_list,
        machine=_machine,
        verdict=verdict,
        cells=cells,
        constraint=constraint_phrase,
        constraint_lines=constraint_lines(view, phrases),
        front_limit=FRONT_LIMIT,
    )


@functools.cache
def readable_template(name: str) -> Template:
    """A template of a page, in which every text is escaped; compiling it takes longer than filling it in."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vlmerge.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=readable,
    )
    return environment.get_template(name)


def readable(value: object) -> object:
    """Takes out of a text what would steer a browser or a reader: control characters and overrides of the writing direction."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "".join(
        character for character in value if character in "\n\t" or not unicodedata.category(character).startswith("C")
    )


def _set_list(say: Phrases, view: RunView, sets: Sequence[Split]) -> str:
    sizes = [(split, view.sizes[split, ALL]) for split in sets]
    return ", ".join(
        say("method.set", set=say(f"set.{split}"), questions=size.questions, pictures=size.pictures) for split, size in sizes
    )


def _score_list(say: Phrases, view: RunView, sets: Sequence[Split]) -> str:
    found = [(split, view.row("winner", split)) for split in sets]
    return ", ".join(f"{say(f'set.{split}')} {row.score:.1f}" for split, row in found if row is not None)


def _stage_list(say: Phrases, stages: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(
        say("method.stage", name=say(f"stage.{stage.get('name', '')}"), budget=stage.get("budget", "–")) for stage in stages
    )


def _step_list(say: Phrases, tried: Sequence[Mapping[str, Any]]) -> str:
    """The steps that were taken, in words; `without NAME` has a phrase with a place for the name."""
    names = [str(one["step"]) for one in tried if one["taken"]]
    return say("simple.and").join(
        say("simple.without", name=name.removeprefix("without ")) if name.startswith("without ") else say(f"simple.{name}")
        for name in names
    )


def _machine(machine: object) -> str:
    if isinstance(machine, Mapping):
        return ", ".join(f"{key} {value}" for key, value in cast(Mapping[str, object], machine).items())
    return str(machine)


def _protocol(view: RunView) -> list[dict[str, Any]]:
    """What every task was asked with, one entry per task: sets that agree are joined."""
    found: dict[tuple[object, ...], dict[str, Any]] = {}
    for task in view.tasks:
        size = view.sizes.get((task.split, task.task))
        entry = found.setdefault((task.task, task.metric, task.decoding, task.weight, task.label), {"task": task, "sets": []})
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


def source(name: str) -> str:
    """A file of the templates as it is: the style, the script."""
    return files("vlmerge.report").joinpath(f"templates/{name}").read_text(encoding="utf-8")


def _one_decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f}".replace("-", "−")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _jpeg(data: bytes) -> str:
    return _data_uri(data, "image/jpeg")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
