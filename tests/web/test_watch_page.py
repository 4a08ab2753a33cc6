"""The page of a run, in a browser: what it shows, and what it keeps to itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from evolve.conftest import small_run, write_run
from report.conftest import HOSTILE, Kind, build

from vlmerge.standing import set_score
from vlmerge.store import Store

from .conftest import Server
from .devtools import Browser

COUNT = "Number(document.querySelector('[data-only={}]').textContent.split(' ').pop())"

FAINT = """(() => {
  const parse = (text) => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    return { rgb: parts.slice(0, 3), alpha: parts[3] ?? 1 };
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((part) => part / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (each) => {
    for (; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour.alpha === 1) return colour.rgb;
    }
    return [255, 255, 255];
  };
  const words = (each) => [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  const faint = [];
  for (const each of document.querySelectorAll('body *')) {
    if (each.closest('svg, [hidden], script, .unseen, option') || !words(each)) continue;
    const [a, b] = [light(parse(getComputedStyle(each).color).rgb), light(ground(each))];
    if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5) faint.push(`${each.className} ${each.textContent.trim()}`);
  }
  return faint;
})()"""
"""Elements whose words have less contrast than WCAG AA asks for (4.5)."""


def shown(browser: Browser, server: Server, path: str) -> None:
    browser.open(server.at(path))
    browser.until("document.querySelectorAll('.trials tbody tr').length && document.querySelectorAll('.card').length")


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_run_is_shown_at_every_width_in_both_languages(browser: Browser, watched: Server, width: int, lang: str) -> None:
    browser.size(width)
    shown(browser, watched, f"/run/small?lang={lang}")
    assert browser.run("document.documentElement.lang") == lang
    assert browser.run("document.querySelector('#state').textContent") == {"en": "finished", "ja": "完了"}[lang]
    assert browser.run("document.documentElement.scrollWidth") == width
    browser.until("[...document.querySelectorAll('.card img')].every((image) => image.complete && image.naturalWidth)")
    assert browser.run("document.querySelectorAll('#chart .dot').length") > 8
    # No phrase is missing: keys would stand there instead.
    assert not browser.run(r"/\b(web|chat)\.[a-z]+|undefined|NaN|\{\w+\}/.test(document.body.innerText)")


def test_the_figure_has_words_and_a_table_for_those_who_do_not_see_it(browser: Browser, watched: Server) -> None:
    shown(browser, watched, "/run/small")
    says = browser.run("document.querySelector('#chart svg').getAttribute('aria-label')")
    state = watched.state("small")
    best = max(point["score"] for point in state["chart"]["points"] if point["score"] is not None)
    assert f"{len(state['chart']['points'])} candidates" in says
    assert f"{best:.1f}" in says
    assert browser.run("document.querySelector('#chart svg').getAttribute('role')") == "img"
    assert browser.run("document.querySelectorAll('#chart-table tbody tr').length") == len(state["chart"]["spreads"])
    assert browser.run("[...document.querySelectorAll('.card img')].every((image) => image.alt.length > 3)")
    assert browser.run("document.querySelectorAll('h1').length") == 1
    named = "(each) => each.textContent.trim() || each.ariaLabel || each.labels?.length"
    assert browser.run(f"[...document.querySelectorAll('button, select, input')].every({named})")


def test_what_stands_in_the_table_is_what_the_store_holds(watched: Server, runs: Path) -> None:
    with Store.read_only(runs / "small" / "run.sqlite") as store:
        expected = {
            (trial.trial, split): set_score(store, trial, split)
            for trial in store.trials()
            for split in ("search", "validation", "holdout")
        }
    for line in watched.state("small")["trials"]:
        for split in ("search", "validation", "holdout"):
            score = expected[line["trial"], split]
            assert line[split] == (None if score is None else pytest.approx(100 * score, abs=0.006))


def test_the_table_sorts_and_finds(browser: Browser, watched: Server) -> None:
    shown(browser, watched, "/run/small")
    browser.click("th[data-key=search] button")
    first = "Number(document.querySelector('.trials tbody .column-search').textContent)"
    best = max(line["search"] or 0 for line in watched.state("small")["trials"])
    assert browser.until(first) == pytest.approx(best, abs=0.051)
    assert browser.run("document.querySelector('th[data-key=search]').ariaSort") == "descending"
    browser.click("th[data-key=search] button")
    assert browser.run("document.querySelector('th[data-key=search]').ariaSort") == "ascending"
    assert browser.run(first) <= best
    browser.run("document.querySelector('#find').focus()")
    for letter in "equal":
        browser.press(letter, ord(letter.upper()), letter)
    browser.until("document.querySelectorAll('.trials tbody tr').length === 1")
    assert "equal weights" in browser.run("document.querySelector('.trials tbody').innerText")


def test_two_trials_side_by_side(browser: Browser, watched: Server, runs: Path) -> None:
    with Store.read_only(runs / "small" / "run.sqlite") as store:
        host, swap = store.trial("host"), store.trial("swap:ja")
        assert host is not None
        assert swap is not None
        told = [{a.question: a for a in store.answers(trial.trial, "search")} for trial in (host, swap)]
        gains = sum(told[0][key].score > told[1][key].score + 0.005 for key in told[0])
        losses = sum(told[0][key].score < told[1][key].score - 0.005 for key in told[0])
        other = sum(told[0][key].text != told[1][key].text for key in told[0])
    shown(browser, watched, "/run/small")
    browser.click("#more-trials")
    for side, trial in (("a", host.trial), ("b", swap.trial)):
        browser.click(f".trials [aria-label='Put trial {trial} on side {side.upper()}']")
        browser.until(f"document.querySelector('#side-{side}').value === '{trial}'")
    # In one go, as a browser does it: between the two an answer about the set before may come in.
    chosen = "document.querySelector('#filter-set').value = 'search'"
    browser.run(f"{chosen}; document.querySelector('#filter-set').dispatchEvent(new Event('change'))")
    browser.until(f"{COUNT.format('gain')} === {gains} && {COUNT.format('loss')} === {losses}")
    assert browser.run(COUNT.format("differ")) == other
    browser.click("[data-only=loss]")
    browser.until("document.querySelector('[data-only=loss]').ariaPressed === 'true'")
    assert browser.run("document.querySelectorAll('.card.loss').length") == losses
    assert browser.run("document.querySelectorAll('.card').length") == losses
    assert browser.run("[...document.querySelectorAll('.card')].every((card) => card.querySelector('mark'))")
    browser.click("#swap")
    browser.until(f"{COUNT.format('gain')} === {losses}")


def test_a_kind_of_question_can_be_looked_at_alone(watched: Server) -> None:
    whole = watched.json("/run/small/compare.json?a=1&b=2&set=search")
    assert sum(whole["kinds"].values()) == whole["questions"] == 9
    for kind, count in whole["kinds"].items():
        part = watched.json(f"/run/small/compare.json?a=1&b=2&set=search&kind={kind}")
        assert part["questions"] == count
        assert {item["kind"] for item in part["items"]} == {kind}


def test_everything_can_be_done_with_the_keyboard(browser: Browser, watched: Server) -> None:
    shown(browser, watched, "/run/small")
    names: list[str] = []
    for _ in range(60):
        browser.press("Tab", 9)
        names.append(browser.run("document.activeElement.id || document.activeElement.textContent.trim()"))
    # The order of the page; the way past the table comes first.
    places = [
        names.index(name)
        for name in ("Skip to the comparison", "日本語", "The curve as a table", "find", "A", "more-trials", "side-a")
    ]
    assert places == sorted(places)
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    browser.run("document.querySelector('[data-only=all]').focus()")
    browser.press("Enter", 13, "\r")
    browser.until("document.querySelector('[data-only=all]').ariaPressed === 'true'")
    assert browser.run("document.activeElement.dataset.only") == "all"


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_their_ground(browser: Browser, watched: Server, dark: bool) -> None:
    browser.size(1280, dark=dark)
    shown(browser, watched, "/run/small")
    assert browser.run(FAINT) == []


def test_nothing_moves_where_a_person_wants_stillness(browser: Browser, watched: Server) -> None:
    browser.size(1280, still=True)
    shown(browser, watched, "/run/small")
    assert browser.run(
        "[...document.querySelectorAll('*')].every((each) => getComputedStyle(each).transitionDuration === '0s')"
    )
    assert browser.run("getComputedStyle(document.querySelector('#state'), '::before').animationName") == "none"


def test_words_of_models_and_files_are_words(browser: Browser, started: Callable[..., Server], tmp_path: Path) -> None:
    folder = build(tmp_path, Kind(contaminated=True))
    server = started("watch", folder)
    shown(browser, server, "/")
    assert "demo <run>" in browser.run("document.querySelector('h1').textContent")
    assert "3 pictures stand on both sides" in browser.run("document.querySelector('#contaminated').textContent")
    browser.click("[data-only=all]")
    seen = 0
    for _ in range(8):
        seen += browser.run(
            "[...document.querySelectorAll('.card dd')].filter((e) => e.textContent.includes('alert(1)')).length"
        )
        if seen or browser.run("document.querySelector('#more-cards').hidden"):
            break
        before = browser.run("document.querySelectorAll('.card').length")
        browser.click("#more-cards")
        browser.until(f"document.querySelectorAll('.card').length > {before}")
    assert seen, HOSTILE
    assert browser.run("document.querySelectorAll('.card script, .card img[src*=evil]').length") == 0


def test_several_runs_are_compared(browser: Browser, started: Callable[..., Server], runs: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(runs / "small", tmp_path / "runs" / name)
    (tmp_path / "runs" / "notes").mkdir()
    build_folder = tmp_path / "runs" / "third"
    build_folder.mkdir()
    server = started("watch", tmp_path / "runs")
    browser.open(server.at("/"))
    browser.until(
        "document.querySelectorAll('.runs tbody tr').length === 2 && document.querySelectorAll('#chart .series').length === 2"
    )
    build(build_folder, Kind(finished=False))
    browser.until(
        "document.querySelectorAll('.runs tbody tr').length === 3 && document.querySelectorAll('#chart .series').length === 3"
    )
    for width in (1280, 390):
        browser.size(width)
        assert browser.run("document.documentElement.scrollWidth") == width
    assert server.ask("/run/notes")[0] == 404
    browser.click(".runs tbody a")
    browser.until("location.pathname.startsWith('/run/') && document.querySelectorAll('.card').length")


def test_a_folder_without_runs_waits_for_one(browser: Browser, started: Callable[..., Server], tmp_path: Path) -> None:
    server = started("watch", tmp_path)
    browser.open(server.at("/"))
    browser.until("document.querySelector('#none').textContent.startsWith('There is no run')")
    write_run(tmp_path, small_run())
    assert server.json("/runs.json") == []
