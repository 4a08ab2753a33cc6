"""A site's HTML and files: templates filled in, phrases for the scripts, and the few files that a page may load."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from vlmerge.report.page import readable
from vlmerge.report.phrases import LANGUAGES, Language, Phrases, read_phrases

if TYPE_CHECKING:
    from jinja2 import Environment

FILES = {
    "style.css": ("vlmerge.report", "templates/style.css", "text/css"),
    "icon.svg": ("vlmerge.web", "static/icon.svg", "image/svg+xml"),
    "web.css": ("vlmerge.web", "static/web.css", "text/css"),
    "common.js": ("vlmerge.web", "static/common.js", "text/javascript"),
    "chart.js": ("vlmerge.web", "static/chart.js", "text/javascript"),
    "run.js": ("vlmerge.web", "static/run.js", "text/javascript"),
    "runs.js": ("vlmerge.web", "static/runs.js", "text/javascript"),
    "chat.js": ("vlmerge.web", "static/chat.js", "text/javascript"),
}
"""Name in an address → package, path in it, type. Nothing else is served."""


async def asset(request: Request) -> Response:
    """One of FILES."""
    known = FILES.get(request.path_params["name"])
    if known is None:
        return Response(status_code=404)
    return Response(_file(*known[:2]), media_type=known[2])


def language_of(request: Request, usual: Language) -> Language:
    """The language that the address asks for, else the usual one."""
    asked = request.query_params.get("lang")
    found: list[Language] = [language for language in LANGUAGES if language == asked]
    return found[0] if found else usual


def page(name: str, language: Language, token: str, **values: Any) -> Response:
    """A page.

    Args:
        name: Its template.
        language: Its language.
        token: For what its scripts change.
        values: For the template; every text of them is escaped.
    """
    say = phrases(language)
    table = {key: phrase for key, phrase in say.table.items() if key.partition(".")[0] in FOR_SCRIPTS}
    other: Mapping[str, str] = {"en": "ja", "ja": "en"}
    html = _environment().get_template(name).render(t=say, token=token, phrases=table, other=other[language], **values)
    return HTMLResponse(html)


FOR_SCRIPTS = frozenset(
    {
        "web",
        "chat",
        "figure",
        "candidate",
        "set",
        "stage",
        "time",
        "outcome",
        "empty_answer",
        "status",
        "lang",
        "none",
        "contaminated",
    }
)
"""Groups of phrases that scripts get."""


@functools.cache
def phrases(language: Language) -> Phrases:
    """The report's phrases and this package's."""
    return read_phrases(language, "vlmerge.web")


@functools.cache
def _file(package: str, path: str) -> str:
    return files(package).joinpath(path).read_text(encoding="utf-8")


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("vlmerge.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=readable,
    )
