"""The page holds everything it shows, believes nothing it was told, and claims no more than the run allows."""

import re
import string
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import HOSTILE, Kind

from vlmerge.errors import RunFolderError
from vlmerge.report import rows, write_report
from vlmerge.report.page import render
from vlmerge.report.phrases import LANGUAGES, Language, read_phrases
from vlmerge.report.view import read_view
from vlmerge.store import STORE_NAME, Store

LOADING = {"src", "srcset", "href", "data", "action", "poster", "background", "formaction", "xlink:href"}


class Reader(HTMLParser):
    """Elements with their attributes, and the text of the page as a person sees it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.said: list[str] = []
        self.by_section: dict[str, list[str]] = {}
        self.section = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag == "section":
            self.section = dict(attrs).get("id") or ""

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.said.append(data)
            self.by_section.setdefault(self.section, []).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())

    def words(self, section: str) -> str:
        return " ".join(" ".join(self.by_section.get(section, [])).split())


def read(folder: Path) -> Reader:
    return Reader((folder / "report.html").read_text())


def page_of(folder: Path, lang: Language = "en") -> Reader:
    """The page alone: drawing figures takes most of a report's time."""
    with Store.read_only(folder / STORE_NAME) as store:
        return Reader(render(read_view(store), read_phrases(lang), {}))


@pytest.fixture(scope="module")
def page(finished: Path) -> Reader:
    return read(finished)


def test_answers_are_text_and_nothing_else(page: Reader, finished: Path) -> None:
    html = (finished / "report.html").read_text()
    with Store.read_only(finished / STORE_NAME) as store:
        said = {a.text for t in store.trials() for a in store.answers(t.trial, "holdout")}
    assert HOSTILE in said
    assert "<script>alert(1)" in page.text  # a person reads it …
    assert [tag for tag, _ in page.elements].count("script") == 1  # … a browser does not run it
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "{{ 7*7 }}" in page.words("examples")  # nor does the template
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", html)
    assert "<h1>demo &lt;run&gt;</h1>" in html


def test_the_page_loads_nothing(page: Reader) -> None:
    for tag, attributes in page.elements:
        for name in LOADING & set(attributes):
            assert (attributes[name] or "").startswith("data:image/"), (tag, name)
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
    policy = [a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in (policy[0] or "")
    styles = [text for text in page.said if "url(" in text]
    assert not styles


def test_the_headline_is_the_holdout_against_the_hardest_row(page: Reader) -> None:
    assert "questions that the search never saw" in page.text
    assert "No claim" not in page.text
    assert "CONTAMINATED" not in page.text
    assert "winner − one weight per model" in page.text
    assert "best row without a search" in page.text
    assert page.text.count("English kept") >= 2
    assert "The holdout was looked at once." in page.text


def test_everything_the_page_owes_is_there(page: Reader) -> None:
    sections = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert sections == ["course", "table", "examples", "recipe", "archive", "method", "models", "tensors", "absent", "rebuild"]
    for said in ("host, unmerged", "ja swapped in, scaled", "chat vector, ja", "grid, best of nine", "equal weights"):
        assert said in page.words("table")
    for said in ("char_rouge_l", "greedy, at most 128 tokens", "<s><image><q>pictures-ja<a>"):
        assert said in page.words("table")
    for said in ("apache-2.0", "llama2", "not recorded", "aaaaaaaaaaaaaaaa", "0123456789ab"):
        assert said in page.words("models")
    assert "140 candidates were searched (139 scored, 1 failed)" in page.words("method")
    assert "no base: it is the base itself" in page.words("absent")
    assert "1 candidates failed: NaN in the merged weights" in page.words("absent")
    assert "57 tensors are merged" in page.words("tensors")
    assert "93 tensors are kept from the host: ja has none" in page.words("tensors")
    assert "vlmerge merge recipe.yaml OUT" in page.words("rebuild")
    assert "merge_method: linear" in page.words("recipe")
    assert "layers 0–2" in page.words("recipe")


def test_it_can_be_read_without_seeing(page: Reader) -> None:
    assert all("alt" in attributes for tag, attributes in page.elements if tag == "img")
    assert all(attributes.get("scope") for tag, attributes in page.elements if tag == "th")
    assert dict(page.elements)["html"]["lang"] == "en"


def test_a_winner_that_needed_no_search_is_called_so(make_run: Callable[[Kind], Path]) -> None:
    folder = make_run(Kind(generations=5))
    with Store.open(folder / STORE_NAME) as store:
        found = store.get("standing")
        by_hand = ("equal", "grid", "swap:ja", "swap_scaled:ja", "chat_vector:ja", "host", "swap:base")
        hardest = max((row for row in rows(store) if row.set == "holdout" and row.task == "all" and row.candidate in by_hand),
                      key=lambda row: row.score)  # fmt: skip
        store.set("standing", {**found, "winner": hardest.trial})
    assert "the search found nothing better" in page_of(folder).text


def test_a_run_without_a_holdout_claims_nothing(make_run: Callable[[Kind], Path]) -> None:
    folder = make_run(Kind(holdout=False, generations=6))
    page = page_of(folder)
    assert "No claim: this run has no holdout." in page.text
    assert "questions that the search never saw." not in page.words("")
    assert "There is no holdout: no claim is made." in page.words("method")


def test_contamination_stands_at_every_table_and_figure(make_run: Callable[[Kind], Path]) -> None:
    folder = make_run(Kind(contaminated=True, generations=6, task="JA-VLM-Bench-In-the-Wild"))
    page = page_of(folder)
    for section in ("", "course", "table", "examples", "recipe"):
        assert "CONTAMINATED" in page.words(section), section
    assert "3 pictures stand on both sides" in page.words("method")
    assert "never saw" not in page.text
    assert "disjoint" not in page.text


def test_published_figures_stand_apart_and_are_marked(make_run: Callable[[Kind], Path]) -> None:
    folder = make_run(Kind(generations=5, task="JA-VLM-Bench-In-the-Wild"))
    page = page_of(folder)
    for said in ("51.25", "48.97", "44.58", "metric", "decoding", "prompt", "5 beams"):
        assert said in page.words("published")
    assert "51.25" not in page.words("table")


def test_a_run_that_goes_on_reloads_and_says_how_far_it_is(make_run: Callable[[Kind], Path]) -> None:
    folder = make_run(Kind(finished=False, generations=6))
    page = page_of(folder)
    assert "60 of 180 candidates" in page.text
    assert re.search(r"about \d+ min left", page.text)
    assert any(a.get("http-equiv") == "refresh" for t, a in page.elements if t == "meta")
    assert dict(page.elements)["body"]["data-reload"]
    assert "winner on" not in page.text
    assert "best so far, search score" in page.text


def test_a_finished_page_is_left_alone(page: Reader) -> None:
    assert not any(a.get("http-equiv") == "refresh" for t, a in page.elements if t == "meta")
    assert "data-reload" not in dict(page.elements)["body"]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_run_that_has_just_begun_has_a_page(make_run: Callable[[Kind], Path], lang: Language) -> None:
    folder = make_run(Kind(finished=False, generations=0))
    page = page_of(folder, lang)
    assert dict(page.elements)["html"]["lang"] == lang
    assert "180" in page.text


def test_an_empty_store_has_a_page(tmp_path: Path) -> None:
    Store.create(tmp_path / STORE_NAME).close()
    assert "The run has begun" in read(write_report(tmp_path).parent).text


def test_languages_say_the_same_things() -> None:
    tables = {language: read_phrases(language).table for language in LANGUAGES}
    assert set(tables["en"]) == set(tables["ja"])
    for key, phrase in tables["en"].items():
        fields = [sorted({name for _, name, _, _ in string.Formatter().parse(p) if name}) for p in (phrase, tables["ja"][key])]
        assert fields[0] == fields[1], key
        assert isinstance(phrase, str), key


def test_every_phrase_that_the_page_asks_for_is_there() -> None:
    source = Path(write_report.__code__.co_filename).parent
    asked = set()
    for path in [*source.glob("*.py"), *(source / "templates").glob("*.j2")]:
        asked |= set(re.findall(r"""\b(?:t|say)\(f?"([a-z_]+\.[a-z_]+(?:\.[a-z_]+)?)"[,)]""", path.read_text()))
        asked |= set(re.findall(r"""\bt\('([a-z_]+\.[a-z_]+)'[,)]""", path.read_text()))
    assert len(asked) > 60
    assert asked <= set(read_phrases("en").table)


def test_the_japanese_page_is_japanese(finished: Path) -> None:
    page = page_of(finished, "ja")
    assert "探索で一度も使っていない" in page.text
    assert "チャットベクトル" in page.words("table")
    for english in ("winner", "holdout", "candidate"):
        assert english not in page.words("table")


def test_nothing_half_written_is_left(finished: Path) -> None:
    assert not [path for path in finished.rglob("*") if "partial" in path.name]
    assert {path.name for path in (finished / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("search", "examples", "recipe") for kind in ("png", "svg")
    }


def test_a_run_that_goes_on_draws_what_its_page_shows_and_no_more(make_run: Callable[[Kind], Path]) -> None:
    folder = make_run(Kind(finished=False))
    with Store.open(folder / STORE_NAME) as store:
        write_report(folder, store=store)
    assert {path.name for path in (folder / "figures").iterdir()} == {"search.svg"}
    assert (folder / "report.html").read_text().count("data:image/svg+xml") == 1
    write_report(folder)  # What a person asks for is drawn whole.
    assert {path.name for path in (folder / "figures").iterdir()} > {"search.svg", "search.png", "recipe.png"}
    assert (folder / "report.html").read_text().count("data:image/svg+xml") > 1


def test_a_folder_that_cannot_be_written_is_the_persons_to_mend(make_run: Callable[[Kind], Path]) -> None:
    folder = make_run(Kind(finished=False, generations=1))
    (folder / "figures").write_text("a file where the figures should go")
    with pytest.raises(RunFolderError, match="the report cannot be written") as caught:
        write_report(folder)
    assert str(folder) in caught.value.message()


@pytest.mark.parametrize("lang", LANGUAGES)
def test_what_comes_after_the_search_is_shown(make_run: Callable[[Kind], Path], lang: Language) -> None:
    folder = make_run(Kind())
    with Store.open(folder / STORE_NAME) as store:
        assert "importance" not in page_of(folder, lang).by_section  # a run of before there was such a thing
        standing = store.get("standing")
        tried = [
            {"step": "tied", "trial": 1, "difference": -4.0, "low": -6.0, "taken": False},
            {"step": "without ja", "trial": standing["global"], "difference": -0.2, "low": -0.7, "taken": True},
        ]
        told = {"winner": standing["winner"], "margin": 1.0, "level": 0.95, "numbers": [12, 3], "tried": tried, "reason": None}
        store.set("simplified", {**told, "trial": standing["global"], "done": True})
        store.set("standing", {**standing, "simple": standing["global"]})
        store.set(
            "ablation",
            [
                {
                    "what": "group",
                    "name": "layers 0-2 mlp",
                    "trial": 9,
                    "difference": -2.25,
                    "low": -3.0,
                    "high": -1.0,
                    "p": 0.01,
                }
            ],
        )
    page = page_of(folder, lang)
    say = read_phrases(lang)
    assert say("candidate.simple") in page.words("table")
    for said in (say("simple.without", name="ja"), "−0.2", "−0.7"):
        assert said in page.words("recipe")
    assert say("simple.tied") not in page.words("recipe")  # it was not taken
    assert f"{say('group.layers', first=0, last=2)} · {say('part.mlp')}" in page.words("importance")
    assert "−2.2" in page.words("importance")
    assert say("selection.bias") in page.words("course")
