"""What all figures share: their colours and type, an Agg canvas without pyplot's state, and how they become PNG and SVG."""

# matplotlib leaves its **kwargs untyped, which strict mode counts as unknown members:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import contextlib
import io
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from vlmerge.report.fonts import Typeface

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1d2430"
MUTED = "#5f6b7a"
FAINT = "#b9c2cf"
GRID = "#e8ebf0"
ACCENT = "#3557b7"
WARM = "#b4532a"
GAIN = "#2b7a4b"
LOSS = "#b3372f"
ALARM = "#b3261e"

PNG_DPI = 160


@contextlib.contextmanager
def drawing(typeface: Typeface) -> Generator[None]:
    """Within it figures are set in that typeface and in the report's style; matplotlib's own settings come back after it."""
    import matplotlib

    style: dict[Any, Any] = {  # the stubs want their own type of keys
        "font.family": list(typeface.families),
        "font.size": 9,
        "text.color": INK,
        "text.parse_math": False,  # a dollar sign in an answer is a dollar sign
        "axes.edgecolor": FAINT,
        "axes.labelcolor": MUTED,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "axes.unicode_minus": False,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "legend.frameon": False,
        "legend.handlelength": 1.6,
        "legend.columnspacing": 1.4,
        "svg.fonttype": "path",  # glyphs as outlines: they look the same where the font is missing
        "svg.hashsalt": "vlmerge",
    }
    with matplotlib.rc_context(style):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that no global state knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def mark_contaminated(figure: Figure, text: str) -> None:
    """Writes the mark across the whole figure."""
    figure.text(
        0.5,
        0.5,
        text,
        fontsize=34,
        fontweight="bold",
        color=ALARM,
        alpha=0.22,
        ha="center",
        va="center",
        rotation=20,
        zorder=10,
    )


def as_png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return buffer.getvalue()


def as_svg(figure: Figure) -> bytes:
    """The figure as SVG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
