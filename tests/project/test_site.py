"""The documentation's site builds without a warning, in two languages, and asks nothing of any other server."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("material") is None, reason="needs mkdocs-material: pip install 'vlmerge[docs]'"
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_of_the_documents_is_on_the_site(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file(), page


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Links lead out; scripts, styles, fonts and pictures are the site's own."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?([^\"\s>]+)", text)
        fetched += re.findall(r"<link[^>]*rel=\"?(?:stylesheet|preconnect|icon)[^>]*href=\"?([^\"\s>]+)", text)
        assert fetched
        assert not [address for address in fetched if "//" in address], page


def test_each_language_has_its_own_menu_labels_and_twin(site: Path) -> None:
    for name, other in (("start.html", "ja/start.html"), ("ja/start.html", "../start.html")):
        text = (site / name).read_text(encoding="utf-8")
        language = "ja" if name.startswith("ja/") else "en"
        assert re.search(rf"<html lang=\"?{language}\"?", text)
        assert re.search(rf"href=\"?{re.escape(other)}\"? hreflang", text) is not None
        titles = re.findall(r"md-tabs__link[^>]*>\s*([^<]+?)\s*<", text)
        assert ("ガイド" in titles) == (language == "ja")
        assert ("Guides" in titles) == (language == "en")


def test_lines_of_japanese_are_joined_without_a_space(site: Path) -> None:
    text = (site / "ja/start.html").read_text(encoding="utf-8")
    assert "数分で終わります。最後に" in text


def test_links_out_of_the_documents_lead_to_files_of_the_site(site: Path) -> None:
    text = (site / "ja/published-experiment.html").read_text(encoding="utf-8")
    assert "../examples/llava-1.5-elyza/honest.yaml" in text
    assert (site / "examples/llava-1.5-elyza/honest.yaml").read_bytes() == (
        ROOT / "examples/llava-1.5-elyza/honest.yaml"
    ).read_bytes()
