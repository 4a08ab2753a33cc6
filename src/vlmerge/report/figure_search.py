"""Figure 1: how the search went, what the baselines score, and where the winner lands on questions it never saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vlmerge.report.canvas import ACCENT, FAINT, GRID, INK, MUTED, WARM, mark_contaminated, new_figure
from vlmerge.report.history import History
from vlmerge.report.results import ALL, Row, is_hand_set

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Say = Callable[..., str]
"""Looks up a phrase in the figure's language: key, then its values by name."""

NameOf = Callable[[str], str]
"""Candidate → what a person reads."""

PANEL = ("winner", "global")
"""Candidates whose holdout score stands in the right panel; the best hand-set one joins them."""


def draw_search(history: History, rows: Sequence[Row], say: Say, name_of: NameOf, *, narrow: bool, contaminated: bool) -> Figure:
    """Draws figure 1.

    Args:
        history: The search so far.
        rows: All rows of the run.
        say: Phrases in the language of the figure.
        name_of: Candidate's name in the language of the figure.
        narrow: For a phone: taller than wide, fewer labels.
        contaminated: Mark it as such.
    """
    figure = new_figure(4.3 if narrow else 9.6, 4.6)
    fresh = _fresh(rows)
    if fresh:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2.6, 1) if narrow else (5.2, 1), gridspec_kw={"wspace": 0.04})
    else:
        left, right = figure.subplots(), None
    baselines = sorted(
        (row for row in rows if row.set == "search" and row.task == ALL and is_hand_set(row.candidate)),
        key=lambda row: row.score,
    )
    low, high = _limits(history, baselines, fresh)
    left.set_ylim(low, high)
    _draw_course(left, history, say)
    _draw_baselines(left, baselines, low, high, name_of, narrow)
    left.set_xlabel(say("figure.candidate"))
    left.set_ylabel(say("figure.score"))
    left.set_xlim(0.5, max((history.points[-1].number if history.points else 1) + 0.5, 2))
    left.legend(loc="upper left", bbox_to_anchor=(0, 1.14), ncols=2 if narrow else 4, fontsize=7.5 if narrow else 8.5)
    if right is not None:
        _draw_fresh(right, fresh, say, name_of, narrow)
    if contaminated:
        mark_contaminated(figure, say("contaminated"))
    return figure


def _draw_course(axes: Axes, history: History, say: Say) -> None:
    scored = [point for point in history.points if point.score is not None]
    axes.plot([point.number for point in scored], [point.score or 0.0 for point in scored], "o", color=FAINT, markersize=3,
              markeredgewidth=0, label=say("figure.one_candidate"), zorder=2)  # fmt: skip
    for mark in history.stages:
        own = [spread for spread in history.spreads if spread.stage == mark.stage]
        at = [(spread.first + spread.last) / 2 for spread in own]
        means = [spread.mean for spread in own]
        first = mark is history.stages[0]
        axes.fill_between(
            at,
            [spread.mean - spread.deviation for spread in own],
            [spread.mean + spread.deviation for spread in own],
            color=ACCENT, alpha=0.13, linewidth=0, zorder=1,
        )  # fmt: skip
        axes.plot(at, means, "-", color=ACCENT, alpha=0.75, linewidth=1.4, label=say("figure.mean") if first else None, zorder=3)
        axes.plot(at, [spread.best for spread in own], "--", color=ACCENT, alpha=0.75, linewidth=1,
                  label=say("figure.generation_best") if first else None, zorder=3)  # fmt: skip
        if not first:
            axes.axvline(mark.first - 0.5, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
        if mark.name and len(history.stages) > 1:
            text = say(f"stage.{mark.name}")
            axes.annotate(text, (mark.first - 0.5, 0.015), xycoords=axes.get_xaxis_transform(), xytext=(5, 2),
                          textcoords="offset points", color=MUTED, fontsize=8, va="bottom")  # fmt: skip
    best = history.best
    if best:
        numbers = [*(number for number, _ in best), history.points[-1].number]
        scores = [*(score for _, score in best), best[-1][1]]
        axes.plot(numbers, scores, "-", color=INK, linewidth=1.8, drawstyle="steps-post", label=say("figure.best"), zorder=4)


def _draw_baselines(axes: Axes, baselines: Sequence[Row], low: float, high: float, name_of: NameOf, narrow: bool) -> None:
    inside = [row for row in baselines if row.score >= low]
    for row in inside:
        axes.axhline(row.score, color=WARM, linewidth=0.9, alpha=0.55, zorder=0.5)
    size = 7 if narrow else 8
    least = (high - low) * (0.038 if narrow else 0.036)
    places = _apart([row.score for row in inside], least, low + 2.2 * least)
    for row, place in zip(inside, places, strict=True):
        label = f"{name_of(row.candidate)} {row.score:.1f}"
        axes.annotate(label, (0.995, place), xycoords=axes.get_yaxis_transform(), color=WARM, fontsize=size, ha="right", va="center",
                      bbox={"boxstyle": "square,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.82},
                      zorder=5)  # fmt: skip
    below = [row for row in baselines if row.score < low]
    if below:
        text = "   ".join(f"↓ {name_of(row.candidate)} {row.score:.1f}" for row in below)
        axes.annotate(text, (0.995, 0.015), xycoords="axes fraction", color=WARM, fontsize=size, ha="right", va="bottom", zorder=5)


def _draw_fresh(axes: Axes, fresh: Sequence[Row], say: Say, name_of: NameOf, narrow: bool) -> None:
    """The right panel: scores on questions that the search never saw, each with its interval."""
    axes.set_xlim(-0.6, len(fresh) - 0.4)
    for at, row in enumerate(fresh):
        chosen = row.candidate == "winner"
        colour = INK if chosen else (ACCENT if row.candidate == "global" else WARM)
        if row.low is not None and row.high is not None:
            axes.plot([at, at], [row.low, row.high], "-", color=colour, linewidth=2 if chosen else 1.3, solid_capstyle="butt")
        axes.plot([at], [row.score], "D" if chosen else "o", color=colour, markersize=6.5 if chosen else 5)
        axes.annotate(f"{row.score:.1f}", (at, row.high if row.high is not None else row.score), xytext=(0, 4),
                      textcoords="offset points", ha="center", va="bottom", fontsize=8, color=colour,
                      fontweight="bold" if chosen else "normal")  # fmt: skip
    axes.set_xticks(range(len(fresh)), [name_of(row.candidate) for row in fresh], rotation=32, ha="right", fontsize=7.5)
    for label, row in zip(axes.get_xticklabels(), fresh, strict=True):
        label.set_color(INK if row.candidate == "winner" else MUTED)
    axes.set_title(say(f"set.{fresh[0].set}") if narrow else say(f"figure.{fresh[0].set}"), fontsize=8.5, color=MUTED)
    axes.set_facecolor("#f7f8fa")
    axes.grid(axis="y", color=GRID)


def _fresh(rows: Sequence[Row]) -> list[Row]:
    for split in ("holdout", "validation"):
        on_it = [row for row in rows if row.set == split and row.task == ALL]
        by_hand = max((row for row in on_it if is_hand_set(row.candidate)), key=lambda row: row.score, default=None)
        shown = [by_hand, *(row for name in reversed(PANEL) for row in on_it if row.candidate == name)]
        if any(row.candidate == "winner" for row in on_it):
            return [row for row in shown if row is not None]
    return []


def _limits(history: History, baselines: Sequence[Row], fresh: Sequence[Row]) -> tuple[float, float]:
    """Room for what matters: the search's means and bests, the fresh scores, and the better baselines."""
    kept = [spread.mean - spread.deviation for spread in history.spreads] + [spread.best for spread in history.spreads]
    kept += [value for row in fresh for value in (row.low, row.high, row.score) if value is not None]
    top = sorted(row.score for row in baselines)
    kept += top[len(top) // 3 :]
    if not kept:
        return 0.0, 100.0
    low, high = min(kept), max(kept)
    space = max(high - low, 4.0)
    return max(low - 0.12 * space, -2.0), min(high + 0.10 * space, 102.0)


def _apart(places: Sequence[float], least: float, lowest: float) -> list[float]:
    """Moves labels (sorted, rising) apart so that no two stand nearer than `least`, and none under `lowest`."""
    spread: list[float] = []
    for place in places:
        spread.append(max(place, spread[-1] + least if spread else lowest))
    return spread


