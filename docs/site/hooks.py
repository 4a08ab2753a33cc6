"""What the documentation's site needs beyond MkDocs: one site in two languages, and links that work in the repository and here.

Pages are written as files of the repository: their links are relative paths that lead to other files of it, inside docs/ or
not. What they name outside of docs/ (an example, a notebook, the list of changes) becomes a file of the site, and links are
written anew. Of folders, which a site cannot show, only the words stay.

Japanese pages are those in docs/ja. Each page has the menu and the labels of its language, and the switch leads to the same
page in the other one where there is one. Lines of Japanese are joined without the space that a browser would show.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
JAPANESE = "日本語"
HOMES = {"README.md": "index.md", "README.ja.md": "ja/index.md"}
"""The repository's front pages are the site's."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
BLOCK = re.compile(r"(```.*?```)", re.DOTALL)

LINE_END = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef])\n *(?=[\u3000-\u9fff\uff00-\uffef])")
"""Between Japanese characters: a browser would show it as a space."""

_navigation: dict[str, Navigation] = {}


def on_files(files: Files, config: Any) -> Files:
    """Adds what the menu and pages name outside of docs/, and what those link to."""
    pages = [DOCS / file.src_uri for file in files.documentation_pages()]
    wanted = [ROOT / uri for uri in named_in(config.nav) if not (DOCS / uri).exists()]
    wanted += [target for page in pages for target in targets(page)]
    seen: set[Path] = set()
    while wanted:
        target = wanted.pop()
        if target in seen or not target.is_file() or target.is_relative_to(DOCS) or place(target) in HOMES.values():
            continue
        seen.add(target)
        files.append(File.generated(config, place(target), abs_src_path=str(target)))
        if target.suffix == ".md":
            wanted += targets(target)
    return files


def named_in(menu: Any) -> list[str]:
    """Every page of a menu, at whatever depth."""
    if isinstance(menu, str):
        return [menu]
    return [uri for each in (menu.values() if isinstance(menu, dict) else menu) for uri in named_in(each)]


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Writes a page's links to other files of the repository as the site's."""
    here = Path(str(page.file.abs_src_path))

    def rewritten(found: re.Match[str]) -> str:
        mark, words, path, anchor = found.groups()
        target = resolved(here, path)
        if target is None:
            return found[0]
        if target.is_dir():
            return words
        relative = os.path.relpath(place(target), Path(page.file.src_uri).parent).replace(os.sep, "/")
        return f"{mark}[{words}]({relative}{anchor or ''})"

    def written(part: str) -> str:
        part = LINK.sub(rewritten, part)
        return LINE_END.sub("", part) if language_of(page) == "ja" else part

    return "".join(part if part.startswith("```") else written(part) for part in BLOCK.split(markdown))


def on_nav(nav: Navigation, **_: Any) -> Navigation:
    """One menu for each language."""
    (japanese,) = [item for item in nav.items if item.title == JAPANESE]
    items = {"en": [item for item in nav.items if item is not japanese], "ja": list(japanese.children or [])}
    for item in items["ja"]:
        item.parent = None
    for language, own in items.items():
        pages = [page for page in nav.pages if language_of(page) == language]
        for page, before, after in zip(pages, [None, *pages], [*pages[1:], None], strict=False):
            page.previous_page, page.next_page = before, after
        _navigation[language] = Navigation(own, pages)
        _navigation[language].homepage = pages[0]
    return _navigation["en"]


def on_page_context(context: dict[str, Any], page: Page, config: Any, **_: Any) -> dict[str, Any]:
    """Gives a page the menu, the labels and the switch of its language."""
    language = language_of(page)
    own = _navigation[language]
    config.theme["language"] = language
    config.extra["homepage"] = own.homepage.url if own.homepage else ""
    config.extra["alternate"] = [
        {"name": name, "lang": code, "link": page.url if code == language else _twin(page, code)}
        for code, name in (("en", "English"), ("ja", JAPANESE))
    ]
    context["nav"] = own
    return context


def _twin(page: Page, language: str) -> str:
    """The same page in another language, else that language's first page."""
    uri = page.file.src_uri
    wanted = f"ja/{uri}" if language == "ja" else uri.removeprefix("ja/")
    pages = _navigation[language].pages
    return next((each.url for each in pages if each.file.src_uri == wanted), pages[0].url)


def language_of(page: Page) -> str:
    """Pages in docs/ja are Japanese."""
    return "ja" if page.file.src_uri.startswith("ja/") else "en"


def targets(page: Path) -> list[Path]:
    """The files and folders of the repository that a page links to."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    found = [resolved(page, path) for _, _, path, _ in LINK.findall(text)]
    return [target for target in found if target is not None]


def resolved(page: Path, path: str) -> Path | None:
    """What a relative link leads to; None where it leads out of the repository or to nothing, which MkDocs then tells of."""
    if ":" in path or path.startswith("/"):
        return None
    target = (page.parent / path).resolve()
    return target if target.exists() and target.is_relative_to(ROOT) else None


def place(target: Path) -> str:
    """Where a file of the repository stands on the site."""
    uri = target.relative_to(DOCS if target.is_relative_to(DOCS) else ROOT).as_posix()
    return HOMES.get(uri, uri)
