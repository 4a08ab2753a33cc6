"""The table at a run's end, for the terminal, and the one sentence that the run may claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlmerge.report.claim import GOING_ON, verdict
from vlmerge.report.keeping import Keeping
from vlmerge.report.phrases import Language, Phrases, read_phrases
from vlmerge.report.results import Difference, Row
from vlmerge.report.tables import Line, score_table
from vlmerge.report.view import RunView, read_view
from vlmerge.store import Store

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 100
"""Columns that the whole table takes."""

STYLES = {"above": "green", "below": "red", "level": "", "unknown": ""}


def results_table(store: Store, *, lang: Language = "en", width: int = WIDE) -> Table:
    """Every row of a run: score on each set with its interval, and winner − row; the claim stands below as the caption.

    Args:
        store: The run's store.
        lang: `en` or `ja`.
        width: Columns of the terminal; below WIDE only the freshest set is shown.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    view, say = read_view(store), read_phrases(lang)
    laid = score_table(view)
    mark = f" · {say('contaminated')}" if view.contaminated else ""
    table = Table(
        box=SIMPLE_HEAD,
        title=Text(f"{view.name}{mark}"),
        caption=Text(claim_line(view, say)),
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column(say("table.candidate"), min_width=23)
    sets = laid.sets if width >= WIDE or laid.shown is None else (laid.shown,)
    for split in sets:
        table.add_column(say(f"set.{split}"), justify="right", no_wrap=True)
    if view.claim.winner is not None:
        table.add_column(say("table.minus"), justify="right", no_wrap=True)
    for column in laid.kept:
        table.add_column(Text(column.heading.replace(" ", "\n", 1)), justify="right", no_wrap=True)

    def add(line: Line, *, last: bool) -> None:
        name = Text(say.candidate(line.candidate))
        if line.is_winner:
            name.append(f" {say('candidate.is_winner')}", style="dim")
        if line.candidate in view.outside:
            name.append(f" {say('candidate.outside')}", style="yellow")
        cells = [
            name,
            *(
                Text(_score(cell, split == laid.shown))
                for cell, split in zip(line.cells, laid.sets, strict=True)
                if split in sets
            ),
        ]
        if view.claim.winner is not None:
            difference = None if line.shown is None or line.is_winner else line.shown.winner_minus_row
            cells.append(Text(_difference(difference), style=STYLES[verdict(difference)]))
        cells += [Text("–" if cell is None else f"{cell.score:.1f}") for cell in line.kept]
        table.add_row(*cells, style="bold" if line.candidate == "winner" else None, end_section=last)

    for block in (laid.searched, laid.by_hand):
        for line in block:
            add(line, last=line is block[-1])
    return table


def claim_line(view: RunView, say: Phrases) -> str:
    """The headline, and the paired differences that it stands on."""
    claim = view.claim
    if claim.state in GOING_ON:
        return say(f"headline.{claim.state}")
    if claim.winner is None or claim.set is None:
        return say("headline.nothing")
    winner = claim.winner
    text = say(
        f"headline.{claim.state}",
        name=say.candidate(claim.name or "winner"),
        score=f"{winner.score:.1f}",
        questions=winner.questions,
        set=say(f"set.{claim.set}"),
    )
    against = [row for row in (claim.baseline, claim.searched) if row is not None and row.winner_minus_row is not None]
    views = int(view.meta["holdout_views"] or 0)
    looks = [say("method.holdout", count=views), say("method.holdout_many")] if claim.set == "holdout" and views > 1 else []
    claimed = " ".join([text, *(_against(row, say) for row in against), *looks])
    nobody = [] if view.feasible is not False else [say("constraint.nobody", set=say(f"set.{view.meta['elected_on']}"))]
    return "\n".join([claimed, *nobody, *constraint_lines(view, say), *front_lines(view, say)])


def front_lines(view: RunView, say: Phrases) -> list[str]:
    """The points of a front, on the freshest set, and how to export one."""
    if view.front is None:
        return []
    lines = [say("front.terminal", count=len(view.front.members), set=say(f"set.{view.front.shown}"))]
    for member in view.front.members:
        found = member.on.get(view.front.shown)
        name = f"{say('table.trial')} {member.trial}" + f" ({say.candidate(member.row) if member.row else member.label})"
        won = f" {say('candidate.is_winner')}" if member.winner else ""
        if found is not None:
            scores = ", ".join(f"{axis} {own.mean:.1f}" for axis, own in zip(view.front.objectives, found.scores, strict=True))
            lines.append(f"  {name}: {scores}{won}")
    return [*lines, say("front.export")]


def constraint_lines(view: RunView, say: Phrases) -> list[str]:
    """What became of each constraint, on the freshest set."""
    lines: list[str] = []
    for one in view.keeping:
        if one.set == view.claim.set:
            lines.append(
                f"{constraint_phrase(one, say)}: {_figure(one)}, "
                f"{say('constraint.held' if one.held else 'constraint.broken')} ({say(f'set.{one.set}')})"
            )
    return lines


def constraint_phrase(one: Keeping, say: Phrases) -> str:
    """A constraint in words."""
    kind = "language" if one.language is not None else f"of_{one.of}" if one.of is not None else "score"
    return say(
        f"constraint.{kind}.{one.side}",
        task=one.task or say("constraint.all"),
        bound=f"{one.bound:g}",
        language=say(f"language.{one.language}"),
    )


def _figure(one: Keeping) -> str:
    unit = "" if one.of is None and one.language is None else " %"
    if one.value is None:
        return "–"
    return f"{one.value:.1f}{unit}" + ("" if one.low is None or one.high is None else f" [{one.low:.1f}, {one.high:.1f}]")


def _against(row: Row, say: Phrases) -> str:
    return f"{say('tile.minus', name=say.candidate(row.candidate))}: {_difference(row.winner_minus_row)}."


def _score(row: Row | None, whole: bool) -> str:
    if row is None:
        return "–"
    if not whole or row.low is None or row.high is None:
        return f"{row.score:.1f}"
    return f"{row.score:.1f} [{row.low:.1f}, {row.high:.1f}]"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return "–"
    if difference.low is None or difference.high is None:
        return f"{difference.mean:+.1f}"
    return f"{difference.mean:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]"
