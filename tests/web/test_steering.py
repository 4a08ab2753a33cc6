"""Stopping a run and going on with it from the page, while another process does the work."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from evolve.conftest import contents, small_run, write_run

from vlmerge.errors import RunFolderError
from vlmerge.run_folder import STOP_NAME, ask_to_stop, is_worked_on, open_run
from vlmerge.store import Store
from vlmerge.web.sight import visible_picture, visible_sets

from .conftest import Server
from .devtools import Browser


def holdout_pictures(run: Path) -> list[str]:
    with Store.read_only(run / "run.sqlite") as store:
        seen = {digest for split in ("search", "validation") for q in store.questions(split) for digest in q.pictures}
        return [digest for q in store.questions("holdout") for digest in q.pictures if digest not in seen]


def test_a_run_is_watched_stopped_and_goes_on(
    browser: Browser, started: Callable[..., Server], runs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    command = [sys.executable, "-m", "vlmerge", "evolve", str(write_run(tmp_path, small_run())), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    server = started("watch", tmp_path)
    browser.open(server.at("/"))
    browser.until("document.querySelectorAll('.runs tbody a').length === 1")
    browser.click(".runs tbody a")
    browser.until("document.querySelector('#state')?.textContent === 'running'")
    # In the middle of the first candidate, or of loading the models: what is begun is finished, and no more.
    browser.click("#stop")
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 130, output
    assert f"To go on: python -m vlmerge evolve {tmp_path / 'small.yaml'} --out {out}" in output
    assert not (out / STOP_NAME).exists()
    browser.until("document.querySelector('#state').textContent === 'stopped' && !document.querySelector('#go-on').hidden")
    before = server.state("small")
    assert 1 <= before["tried"] < 30
    # The holdout was not looked at by the run: not by the page either.
    hidden = holdout_pictures(out)
    assert hidden
    assert "holdout" not in before["sets"]
    assert before["has_holdout"]
    assert {server.ask(f"/run/small/picture?digest={digest}")[0] for digest in hidden} == {404}
    assert server.json("/run/small/compare.json?a=1&b=1&set=holdout")["set"] != "holdout"
    # The same page, never loaded again, sees the rest.
    browser.click("#go-on")
    browser.until("['starting', 'running'].includes(document.querySelector('#state').textContent)")
    assert server.ask("/run/small/go-on", "POST")[0] == 409
    browser.until("document.querySelector('#state').textContent !== 'starting'")
    for _ in range(5):  # It takes its time on a busy machine.
        try:
            browser.until("document.querySelector('#state').textContent === 'finished'")
            break
        except AssertionError:
            assert server.state("small")["state"] in ("running", "waiting")
    after = server.state("small")
    assert after["state"] == "finished"
    browser.until(f"document.querySelector('#trials-count').textContent.startsWith('{after['tried']} trials')")
    assert after["tried"] > before["tried"]
    assert "holdout" in after["sets"]
    assert {server.ask(f"/run/small/picture?digest={digest}")[0] for digest in hidden} == {200}
    assert contents(out) == contents(runs / "small")
    assert "page:" in (out / "evolve.log").read_text()
    assert server.ask("/run/small/go-on", "POST")[0] == 409
    assert server.ask("/run/small/stop", "POST")[0] == 409


def test_what_a_run_that_cannot_go_on_says_is_shown(started: Callable[..., Server], runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "small", tmp_path / "broken")
    with Store.open(tmp_path / "broken" / "run.sqlite") as store:
        store.set("finished", False)
        store.set("config_asked", "tasks: [broken")
    server = started("watch", tmp_path / "broken")
    assert server.state("broken")["state"] == "stopped"
    assert server.ask("/run/broken/go-on", "POST")[0] == 200
    while (state := server.state("broken"))["state"] == "waiting" or not (state["trouble"] or state["state"] == "stopped"):
        pass
    assert state["trouble"]


def test_asking_to_stop_is_for_whoever_works_now(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with open_run(run) as folder:
        folder.store.set("config_asked", "something")
        assert is_worked_on(run)
        assert not folder.stop_asked()
        ask_to_stop(run)
        assert folder.stop_asked()
        assert not folder.stop_asked()
        ask_to_stop(run)
    assert not is_worked_on(run)
    with pytest.raises(RunFolderError, match="nobody works on this run folder"):
        ask_to_stop(run)
    with open_run(run) as folder:  # The last one was not heard in time: it is not for the next process.
        assert not folder.stop_asked()


def test_looking_for_the_lock_does_not_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    for locks in (Path("/proc/locks"), tmp_path / "no such list"):
        monkeypatch.setattr("vlmerge.run_folder.LOCKS", locks)
        with open_run(run) as folder:
            folder.store.set("config_asked", "something")
            assert is_worked_on(run)
        assert not is_worked_on(run)
        assert not is_worked_on(tmp_path / "nowhere")


def test_the_holdout_is_seen_when_the_run_has_seen_it(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "small", tmp_path / "run")
    picture = holdout_pictures(tmp_path / "run")[0]
    with Store.open(tmp_path / "run" / "run.sqlite") as store:
        assert visible_sets(store) == ("search", "validation", "holdout")
        assert visible_picture(store, picture) is not None
        store.set("holdout_views", 0)
        assert visible_sets(store) == ("search", "validation")
        assert visible_picture(store, picture) is None
