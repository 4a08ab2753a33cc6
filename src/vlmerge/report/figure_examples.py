"""Figure 2: pictures with question, reference and answers; gains, losses and ties side by side."""

# matplotlib leaves its **kwargs untyped, which strict mode counts as unknown members:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from vlmerge.report.canvas import ACCENT, FAINT, GAIN, INK, LOSS, MUTED, mark_contaminated, new_figure
from vlmerge.report.drawn_text import wrap
from vlmerge.report.examples import OUTCOMES, Example, Examples, Outcome
from vlmerge.report.fonts import Typeface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EACH = 3
"""Questions per outcome in the picture; the page has more."""

WIDTH = 34
"""Columns of a line of text; a Japanese character takes two."""

LINES = 3
"""Most lines per answer."""

COLOURS = {"gain": GAIN, "loss": LOSS, "tie": MUTED}


def draw_examples(
    examples: Examples, say: Callable[..., str], name_of: Callable[[str], str], typeface: Typeface, *, contaminated: bool
) -> Figure:
    """Draws figure 2, one row per outcome.

    Without a font that has the text's characters the pictures stand alone, with a note that says so.

    Args:
        examples: The questions that were drawn by lot.
        say: Phrases in the language of the figure.
        name_of: Candidate's name in the language of the figure.
        typeface: What it is set in.
        contaminated: Mark it as such.
    """
    shown = {outcome: [example for example in examples.shown if example.outcome == outcome][:EACH] for outcome in OUTCOMES}
    rows: list[Outcome] = [outcome for outcome in OUTCOMES if shown[outcome]]
    figure = new_figure(11.5, 3.15 * max(len(rows), 1) + 0.4)
    readable = typeface.japanese is not None or all(typeface.shows(_all_text(example)) for example in examples.shown)
    total = sum(examples.counts.values())
    grid = figure.subplots(max(len(rows), 1), EACH, squeeze=False)
    for at, outcome in enumerate(rows):
        for column in range(EACH):
            axes: Axes = grid[at, column]
            axes.set_axis_off()
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
            if column < len(shown[outcome]):
                _draw_card(axes, shown[outcome][column], say, name_of, typeface, readable)
        count = examples.counts[outcome]
        title = say(
            "figure.outcome", outcome=say(f"outcome.{outcome}"), count=count, percent=f"{100 * count / max(total, 1):.0f}"
        )
        grid[at, 0].set_title(title, loc="left", fontsize=11, fontweight="bold", color=COLOURS[outcome])
    if not rows:
        grid[0, 0].set_axis_off()
    if not readable:
        figure.supxlabel(say("figure.no_font"), fontsize=9, color=LOSS)
    if contaminated:
        mark_contaminated(figure, say("contaminated"))
    return figure


def _draw_card(
    axes: Axes, example: Example, say: Callable[..., str], name_of: Callable[[str], str], typeface: Typeface, readable: bool
) -> None:
    from PIL import Image

    if example.thumbnails:
        with Image.open(io.BytesIO(example.thumbnails[0])) as picture:
            inset = axes.inset_axes((0.0, 0.34, 0.36, 0.64))
            inset.imshow(picture.convert("RGB"), interpolation="lanczos")
            inset.set_anchor("NW")
            inset.set_axis_off()
    left, line = (0.40 if example.thumbnails else 0.0), 0.076
    place = 0.96

    def write(text: str, colour: str, *, size: float = 8.5, bold: bool = False, width: int = WIDTH) -> None:
        nonlocal place
        for piece in wrap(typeface.drawable(text), width)[:LINES]:
            axes.text(
                left,
                place,
                piece,
                color=colour,
                fontsize=size,
                fontweight="bold" if bold else "normal",
                va="top",
                in_layout=False,
            )
            place -= line

    if readable:
        write(example.question.text, INK, bold=True)
        write(say("figure.reference", text=example.question.references[0]), MUTED, size=8)
    place -= 0.03
    for said in example.said:
        chosen = said.candidate == example.said[-1].candidate
        write(f"{name_of(said.candidate)} · {said.score:.0f}", COLOURS[example.outcome] if chosen else ACCENT, size=7.5)
        if readable:
            write(said.text.strip() or say("empty_answer"), INK if said.text.strip() else FAINT)
        place -= 0.018


def _all_text(example: Example) -> str:
    return "".join([example.question.text, example.question.references[0], *(said.text for said in example.said)])
