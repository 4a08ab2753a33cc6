"""Figure 1: how the search went, what the baselines score, and where the winner lands on questions it never saw."""

# matplotlib leaves its **kwargs untyped, which strict mode counts as unknown members:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vlmerge.report.canvas import ACCENT, FAINT, INK, MUTED, WARM, mark_contaminated, new_figure
from vlmerge.report.drawn_text import columns, wrap
from vlmerge.report.history import History
from vlmerge.report.results import ALL, Row, is_hand_set

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Say = Callable[..., str]
"""Looks up a phrase in the figure's language: key, then its values by name."""

NameOf = Callable[[str], str]
"""Candidate → what a person reads."""

LABEL_ROOM = {False: 0.30, True: 0.62}
"""Part of the axis of candidates kept free for the baselines' names, at either width."""

PANEL = ("winner", "global")
"""Candidates whose holdout score stands in the right panel; the best hand-set one joins them."""


def draw_search(
    history: History, rows: Sequence[Row], say: Say, name_of: NameOf, *, narrow: bool, contaminated: bool
) -> Figure:
    """Draws figure 1.

    Args:
        history: The search so far.
        rows: All rows of the run.
        say: Phrases in the language of the figure.
        name_of: Candidate's name in the language of the figure.
        narrow: For a phone: taller than wide, fewer labels.
        contaminated: Mark it as such.
    """
    fresh = _fresh(rows)
    figure = new_figure(4.4, 4.2 + 0.32 * len(fresh) if fresh else 3.8) if narrow else new_figure(9.8, 4.5)
    if not fresh:
        left, right = figure.subplots(), None
    elif narrow:
        left, right = figure.subplots(2, 1, height_ratios=(6, 0.75 * len(fresh)))
    else:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3.1, 1))
    baselines = sorted(
        (row for row in rows if row.set == "search" and row.task == ALL and is_hand_set(row.candidate)),
        key=lambda row: row.score,
    )
    low, high = _limits(history, baselines, fresh)
    left.set_ylim(low, high)
    reached = history.points[-1].number if history.points else 1
    last = reached if history.finished else max(reached, history.budget or 1)
    left.set_xlim(0.5, (last + 0.5) * (1 + (LABEL_ROOM[narrow] if baselines else 0.0)))
    _draw_course(left, history, say)
    _draw_baselines(left, baselines, low, high, name_of, narrow)
    lower = sum(point.score is not None and point.score < low for point in history.points)
    if lower:
        left.annotate(say("figure.lower", count=lower), (0.012, 0.015), xycoords="axes fraction", color=MUTED, fontsize=7.5,
                      va="bottom", in_layout=False)  # fmt: skip
    left.set_xticks([tick for tick in left.get_xticks() if 1 <= tick <= last])
    left.set_xlabel(say("figure.candidate"), loc="left")
    left.set_ylabel(say("figure.score"))
    legend = left.legend(
        loc="upper left" if narrow else "lower left",
        bbox_to_anchor=(0.0, 1.0) if narrow else (-0.02, 1.0),
        bbox_transform=figure.transFigure if narrow else left.transAxes,
        ncols=2 if narrow else 4,
        fontsize=7 if narrow else 8.5,
    )
    legend.set_in_layout(False)  # else a narrow figure would give its axes' width to the legend
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 0.92 if narrow else 0.95))
    if right is not None:
        _draw_fresh(right, fresh, name_of, narrow)
        right.set_title(say(f"{'set' if contaminated else 'figure'}.{fresh[0].set}"), fontsize=8.5, color=MUTED)
    _name_stages(left, history, last, say, narrow)
    if contaminated:
        mark_contaminated(figure, say("contaminated"))
    return figure


def _draw_course(axes: Axes, history: History, say: Say) -> None:
    scored = [point for point in history.points if point.score is not None]
    axes.plot([point.number for point in scored], [point.score or 0.0 for point in scored], "o", color=FAINT, markersize=3,
              markeredgewidth=0, label=say("figure.one_candidate"), zorder=2)  # fmt: skip
    for place, mark in enumerate(history.stages):
        own = [spread for spread in history.spreads if spread.stage == mark.stage]
        at = [(spread.first + spread.last) / 2 for spread in own]
        means = [spread.mean for spread in own]
        first = place == 0
        axes.fill_between(
            at,
            [spread.mean - spread.deviation for spread in own],
            [min(spread.mean + spread.deviation, spread.best) for spread in own],
            color=ACCENT, alpha=0.13, linewidth=0, zorder=1,
        )  # fmt: skip
        axes.plot(
            at, means, "-", color=ACCENT, alpha=0.75, linewidth=1.4, label=say("figure.mean") if first else None, zorder=3
        )
        axes.plot(at, [spread.best for spread in own], "--", color=ACCENT, alpha=0.75, linewidth=1,
                  label=say("figure.generation_best") if first else None, zorder=3)  # fmt: skip
        if not first:
            axes.axvline(mark.first - 0.5, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
    best = history.best
    if best:
        numbers = [*(number for number, _ in best), history.points[-1].number]
        scores = [*(score for _, score in best), best[-1][1]]
        axes.plot(numbers, scores, "-", color=INK, linewidth=1.8, drawstyle="steps-post", label=say("figure.best"), zorder=4)


def _name_stages(axes: Axes, history: History, last: int, say: Say, narrow: bool) -> None:
    """Writes each stage's name at its beginning, a line lower where the one before it would run into it."""
    if len(history.stages) < 2:
        return
    points_wide = 200 if narrow else 440
    left, right = axes.get_xlim()
    line = 0
    for place, mark in enumerate(history.stages):
        text = say(f"stage.{mark.name}") if mark.name else str(place + 1)
        axes.annotate(text, (mark.first - 0.5, 0.985), xycoords=axes.get_xaxis_transform(), xytext=(5, -2 - 11 * line),
                      textcoords="offset points", color=MUTED, fontsize=7.5, va="top", zorder=6, in_layout=False)  # fmt: skip
        end = history.stages[place + 1].first if place + 1 < len(history.stages) else last
        fits = columns(text) * 4.4 < (end - mark.first) / (right - left) * points_wide
        line = 0 if fits else line + 1


def _draw_baselines(axes: Axes, baselines: Sequence[Row], low: float, high: float, name_of: NameOf, narrow: bool) -> None:
    inside = [row for row in baselines if row.score >= low]
    for row in inside:
        axes.axhline(row.score, color=WARM, linewidth=0.9, alpha=0.45, zorder=0.5)
    size = 7 if narrow else 8
    least = (high - low) * (0.038 if narrow else 0.036)
    below = [row for row in baselines if row.score < low]
    places = _apart([row.score for row in inside], least, low + (len(below) + 0.7) * least)
    for row, place in zip(inside, places, strict=True):
        label = f"{name_of(row.candidate)} {row.score:.1f}"
        axes.annotate(label, (0.995, place), xycoords=axes.get_yaxis_transform(), color=WARM, fontsize=size, ha="right",
                      va="center",
                      bbox={"boxstyle": "square,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.82},
                      zorder=5, in_layout=False)  # fmt: skip
    for at, row in enumerate(below):
        label = f"{name_of(row.candidate)} {row.score:.1f} ↓"
        axes.annotate(label, (0.995, low + (at + 0.5) * least), xycoords=axes.get_yaxis_transform(), color=WARM, fontsize=size,
                      ha="right", va="center", zorder=5, in_layout=False)  # fmt: skip


def _draw_fresh(axes: Axes, fresh: Sequence[Row], name_of: NameOf, narrow: bool) -> None:
    """Scores on questions that the search never saw, each with its interval: upright at the right, or (narrow) lying below."""
    places = range(len(fresh))
    for at, row in enumerate(fresh):
        chosen = row.candidate == "winner"
        colour = INK if chosen else (ACCENT if row.candidate == "global" else WARM)
        ends = (row.score, row.score) if row.low is None or row.high is None else (row.low, row.high)
        line, point = (ends, (at, at)), ((row.score,), (at,))
        if not narrow:
            line, point = line[::-1], point[::-1]
        axes.plot(*line, "-", color=colour, linewidth=2 if chosen else 1.3, solid_capstyle="butt")
        axes.plot(*point, "D" if chosen else "o", color=colour, markersize=6.5 if chosen else 5)
        axes.annotate(f"{row.score:.1f}", (ends[1], at) if narrow else (at, ends[1]), xytext=(5, 0) if narrow else (0, 4),
                      textcoords="offset points", ha="left" if narrow else "center", va="center" if narrow else "bottom",
                      fontsize=8, color=colour, fontweight="bold" if chosen else "normal")  # fmt: skip
    names = ["\n".join(wrap(name_of(row.candidate), 40 if narrow else 12)) for row in fresh]
    if narrow:
        axes.set_yticks(places, names, fontsize=7.5)
        axes.set_ylim(len(fresh) - 0.4, -0.6)
        axes.margins(x=0.15)
        axes.grid(visible=False)
    else:
        axes.set_xticks(places, names, fontsize=7.5)
        axes.set_xlim(-0.6, len(fresh) - 0.4)
        axes.tick_params(labelleft=False, left=False)
    for label, row in zip(axes.get_yticklabels() if narrow else axes.get_xticklabels(), fresh, strict=True):
        label.set_color(INK if row.candidate == "winner" else MUTED)
    axes.set_facecolor("#f7f8fa")


def _fresh(rows: Sequence[Row]) -> list[Row]:
    for split in ("holdout", "validation"):
        on_it = [row for row in rows if row.set == split and row.task == ALL]
        by_hand = max((row for row in on_it if is_hand_set(row.candidate)), key=lambda row: row.score, default=None)
        shown = [by_hand, *(row for name in reversed(PANEL) for row in on_it if row.candidate == name)]
        if any(row.candidate == "winner" for row in on_it):
            return [row for row in shown if row is not None]
    return []


def _limits(history: History, baselines: Sequence[Row], fresh: Sequence[Row]) -> tuple[float, float]:
    """Room for what matters: most generations' means, the bests, the fresh scores, and the better half of the baselines."""
    means = sorted(spread.mean for spread in history.spreads)
    kept = means[len(means) // 4 :] + [spread.best for spread in history.spreads]
    kept += [value for row in fresh for value in (row.low, row.high, row.score) if value is not None]
    kept += [row.score for row in baselines[len(baselines) // 2 :]]
    if not kept:
        return 0.0, 100.0
    low, high = min(kept), max(kept)
    space = max(high - low, 4.0)
    return max(low - 0.2 * space, -2.0), min(high + 0.16 * space, 104.0)


def _apart(places: Sequence[float], least: float, lowest: float) -> list[float]:
    """Moves labels (sorted, rising) apart so that no two stand nearer than `least`, and none under `lowest`."""
    spread: list[float] = []
    for place in places:
        spread.append(max(place, spread[-1] + least if spread else lowest))
    return spread
