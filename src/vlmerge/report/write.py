"""A run folder's report, all of it: results.json, the figures, the page."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlmerge.atomic import write_text
from vlmerge.errors import RunFolderError
from vlmerge.report.archive import Cell, archive
from vlmerge.report.figures import draw_figures, write_figures
from vlmerge.report.fonts import find_typeface
from vlmerge.report.page import render
from vlmerge.report.phrases import Language, read_phrases
from vlmerge.report.results import write_results
from vlmerge.report.view import RunView, read_view
from vlmerge.store import STORE_NAME, Store

PAGE_NAME = "report.html"


def write_report(folder: Path, *, lang: Language = "en", store: Store | None = None) -> Path:
    """Writes results.json, figures/ and report.html from the store alone, also while a run goes on; files are replaced whole.

    Args:
        folder: The run folder.
        lang: `en` or `ja`.
        store: The open store, where the caller has it (it need not live in the folder).

    Returns:
        Path of the page.

    Raises:
        RunFolderError: There is no store in the folder, or it cannot be read; the folder cannot be written.
    """
    if store is None:
        with Store.read_only(folder / STORE_NAME) as opened:
            return _write(folder, lang, opened, everything=True)
    return _write(folder, lang, store, everything=False)


def _write(folder: Path, lang: Language, store: Store, *, everything: bool) -> Path:
    """A run that goes on has no time for what its page does without: there it has figure 1 alone, as SVG."""
    view, phrases = read_view(store), read_phrases(lang)
    with _writing(folder):
        cells = archive(store) if view.finished else ()
        write_results(store, folder, view.rows, _more(view, cells))
    whole = everything or view.finished
    images = draw_figures(
        history=view.history,
        rows=view.rows,
        examples=view.examples if whole else None,
        recipe=view.path or view.recipe,
        importance=view.importance,
        front=view.front,
        phrases=phrases,
        typeface=find_typeface(),
        contaminated=bool(view.contaminated),
        brief=not whole,
    )
    page = render(view, phrases, images, cells)
    with _writing(folder):
        write_figures(folder, images)
        return write_text(folder / PAGE_NAME, page)


def _more(view: RunView, cells: Sequence[Cell]) -> dict[str, Any]:
    return {
        "selection": None if view.selection is None else asdict(view.selection),
        "sanity": [asdict(one) for one in view.sanity],
        "simplified": view.meta["simplified"],
        "importance": [asdict(one) for one in view.measured],
        "ablation": view.meta["ablation"] or [],
        **({"archive": [cell.plain() for cell in cells]} if cells else {}),
        **({} if view.front is None else {"front": view.front.plain()}),
        **({"constraints": [asdict(one) for one in view.keeping], "feasible": view.feasible} if view.keeping else {}),
    }


@contextlib.contextmanager
def _writing(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            "the report cannot be written into the run folder",
            where=str(folder),
            expected="a folder that can be written, with room on its disk",
            found=str(error),
            remedy="make room or change the permissions; a copy of the folder elsewhere can be reported on as well",
        ) from error
