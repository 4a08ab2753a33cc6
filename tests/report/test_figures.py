"""Figures are honest about contamination, never show empty boxes, and leave matplotlib as they found it."""

import io
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from conftest import HOSTILE
from matplotlib.figure import Figure
from PIL import Image

from vlmerge.report.canvas import drawing
from vlmerge.report.drawn_text import columns, wrap
from vlmerge.report.figure_examples import draw_examples
from vlmerge.report.figure_recipe import draw_recipe, tint
from vlmerge.report.figure_search import draw_search
from vlmerge.report.figures import draw_figures
from vlmerge.report.fonts import LATIN, Typeface, find_typeface
from vlmerge.report.phrases import read_phrases
from vlmerge.report.view import RunView, read_view
from vlmerge.store import STORE_NAME, Store

BARE = Typeface((LATIN,), None)
"""A machine without Japanese fonts."""


@pytest.fixture(scope="module")
def view(finished: Path) -> RunView:
    with Store.read_only(finished / STORE_NAME) as store:
        return read_view(store)


def drawn(view: RunView, typeface: Typeface, *, contaminated: bool = False) -> dict[str, Figure]:
    say = read_phrases("ja" if typeface.japanese else "en")
    assert view.examples is not None
    assert view.recipe is not None
    with drawing(typeface):
        return {
            "wide": draw_search(view.history, view.rows, say, say.candidate, narrow=False, contaminated=contaminated),
            "narrow": draw_search(view.history, view.rows, say, say.candidate, narrow=True, contaminated=contaminated),
            "examples": draw_examples(view.examples, say, say.candidate, typeface, contaminated=contaminated),
            "recipe": draw_recipe(view.recipe, say, contaminated=contaminated),
        }


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.mark.parametrize("typeface", [BARE, find_typeface()], ids=["no Japanese font", "this machine's fonts"])
def test_every_character_drawn_has_a_glyph(view: RunView, typeface: Typeface) -> None:
    for name, figure in drawn(view, typeface).items():
        for text in texts(figure):
            assert typeface.shows(text), (name, text)


def test_without_a_japanese_font_the_pictures_stand_with_a_note(view: RunView) -> None:
    said = texts(drawn(view, BARE)["examples"])
    assert any("install a Japanese font" in text for text in said)
    assert not any("?" * 3 in text for text in said)


def test_an_english_run_needs_no_japanese_font() -> None:
    assert BARE.shows("A ship is on the left.")
    assert not BARE.shows("船")
    assert BARE.drawable("a船\x00b") == "a?b"


def test_contamination_is_written_across_every_figure(view: RunView) -> None:
    for clean, marked in zip(drawn(view, BARE).items(), drawn(view, BARE, contaminated=True).items(), strict=True):
        assert "CONTAMINATED" not in texts(clean[1])
        assert "CONTAMINATED" in texts(marked[1]), marked[0]
    assert not any("never searched" in text for text in texts(drawn(view, BARE, contaminated=True)["wide"]))


def test_figure_1_shows_search_baselines_and_the_winner_on_the_holdout(view: RunView) -> None:
    said = texts(drawn(view, BARE)["wide"])
    winner = view.row("winner", "holdout")
    assert winner is not None
    assert f"{winner.score:.1f}" in said
    for row in view.rows:
        if row.set == "search" and row.task == "all" and row.candidate in ("equal", "grid", "host"):
            assert any(f"{row.score:.1f}" in text for text in said), row.candidate
    assert {"best so far", "mean of a generation ± deviation", "one weight per model", "weights by layer group"} <= set(said)


def test_figure_2_shows_all_three_outcomes(view: RunView) -> None:
    assert view.examples is not None
    said = " ".join(texts(drawn(view, BARE)["examples"]))
    for name, count in zip(("gains", "losses", "ties"), view.examples.counts.values(), strict=True):
        assert f"{name}: {count} questions" in said


def test_pngs_and_svgs_are_whole_and_the_same_every_time(view: RunView) -> None:
    def draw() -> dict:
        return draw_figures(
            history=view.history, rows=view.rows, examples=None, recipe=view.recipe, phrases=read_phrases("en"),
            typeface=BARE, contaminated=False,
        )  # fmt: skip

    before = dict(matplotlib.rcParams)
    first, second = draw(), draw()
    assert dict(matplotlib.rcParams) == before
    assert first == second
    assert set(first) == {"search", "search-narrow", "recipe"}
    for image in first.values():
        assert image.svg.rstrip().endswith(b"</svg>")
        assert b"<script" not in image.svg
        if image.png is not None:
            with Image.open(io.BytesIO(image.png)) as picture:
                assert picture.width > 500


@pytest.mark.parametrize("text", ["背景は青です。" * 9, "a long English answer with words " * 4, "x" * 200, HOSTILE, ""])
def test_wrapped_lines_lose_nothing_and_fit(text: str) -> None:
    lines = wrap(text, 20)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(columns(line) <= 20 + 2 for line in lines)  # a hanging mark may stand over the end
    assert not any(line[:1] in "。、" for line in lines if line)


def test_the_colours_tell_the_sign() -> None:
    assert tint(0.0, 1.0) == tint(None, 1.0) == (1.0, 1.0, 1.0)
    assert tint(0.5, 1.0)[2] > tint(0.5, 1.0)[0]
    assert tint(-0.5, 1.0)[0] > tint(-0.5, 1.0)[2]


def test_a_report_needs_neither_torch_nor_pyplot(finished: Path, tmp_path: Path) -> None:
    code = f"""
import sys
import vlmerge.report
assert not {{"matplotlib", "jinja2", "rich", "torch", "transformers"}} & set(sys.modules), "imported too early"
from pathlib import Path
from vlmerge.report import write_report
from vlmerge.store import Store
write_report(Path({str(tmp_path)!r}), store=Store.read_only(Path({str(finished / STORE_NAME)!r})))
assert not {{"torch", "transformers", "datasets", "matplotlib.pyplot"}} & set(sys.modules), "imported at all"
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    assert (tmp_path / "report.html").is_file()
