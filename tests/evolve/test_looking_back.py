"""After the search: a simpler recipe beside the winner, decided once and kept; ablations, asked afterwards and never twice."""

from __future__ import annotations

import json
import shutil
import sqlite3
from importlib import import_module
from pathlib import Path

import pytest

from vlmerge.ablation import ablate
from vlmerge.config.recipe import load_recipe
from vlmerge.config.run import load_run
from vlmerge.errors import RunFolderError
from vlmerge.evolve import evolve
from vlmerge.store import Store

from .conftest import FAMILY, ForkedRuns, Quiet, contents, small_run, task, write_run
from .test_killed import killed


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose winner was searched, since only the host stands beside it; any margin is allowed."""
    folder = tmp_path_factory.mktemp("searched")
    run = small_run(
        merge={"models": [str(FAMILY / name) for name in ("vlm", "ja")], "base_model": str(FAMILY / "base")},
        tasks=[task("search", 3)],
        validation=[task("validation", 6)],
        holdout=[task("holdout", 3)],
        search={"max_fevals": 2, "global_fevals": 0, "population": 2, "start": "equal", "sigma": 0.02, "margin": 100},
        decoding={"max_new_tokens": 8},
    )
    write_run(folder, run)
    return go_on(folder)


def go_on(folder: Path) -> Path:
    """The run with the host alone set by hand, to its end."""
    loop = import_module("vlmerge.evolve")
    listed = loop.baselines
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "baselines", lambda *given: listed(*given)[:1])
        return evolve(load_run(folder / "small.yaml"), folder / "small", Quiet())


def copied(run: Path, folder: Path) -> Path:
    shutil.copytree(run, folder / "small")
    shutil.copyfile(run.parent / "small.yaml", folder / "small.yaml")
    return folder / "small"


def test_the_simplest_recipe_stands_beside_the_winner(searched: Path) -> None:
    with Store.read_only(searched / "run.sqlite") as store:
        standing, told = store.get("standing"), store.get("simplified")
        simple = store.trial(standing["simple"])
        assert simple is not None
        assert standing["winner"] == told["winner"] != standing["simple"] == told["trial"]
        assert store.has_answers(simple.trial, "validation")
        assert store.has_answers(simple.trial, "holdout")
        assert not store.has_answers(simple.trial, "search")  # it costs no search question
        assert store.get("holdout_views") == 1
    # Whatever the difference, it is allowed: everything is taken that can be.
    taken = [each["step"] for each in told["tried"] if each["taken"]]
    assert taken[0] == "tied"
    assert taken[-1] == "1 decimal"
    assert told["numbers"][1] < told["numbers"][0]
    rows = json.loads((searched / "results.json").read_text())["rows"]
    assert {row["set"] for row in rows if row["candidate"] == "simple"} == {"validation", "holdout"}
    recipe = load_recipe(searched / "simple.yaml")
    assert recipe.slices is None
    page = (searched / "report.html").read_text()
    assert "simplified recipe" in page
    assert "rounded to one decimal" in page


@pytest.mark.slow
def test_killed_while_simplifying_and_going_on_is_the_same_run(searched: Path, forked_runs: ForkedRuns, tmp_path: Path) -> None:
    run = copied(searched, tmp_path)
    with sqlite3.connect(run / "run.sqlite") as store:  # As it was right after the election's last question.
        store.execute(
            "DELETE FROM answers WHERE split = 'holdout' OR trial IN (SELECT trial FROM trials WHERE kind = 'simple')"
        )
        store.execute("DELETE FROM trials WHERE kind = 'simple'")
        store.execute("DELETE FROM meta WHERE key IN ('finished', 'standing', 'elected_on', 'simplified', 'holdout_views')")
    for place, count in (("in-simple", 2), ("in-trial", 1), ("in-meta", 4)):
        assert killed(forked_runs, place, count, tmp_path / "small.yaml", run, "1"), place
    go_on(tmp_path)
    assert contents(run) == contents(searched)


def test_ablation_asks_validation_alone_and_nothing_twice(searched: Path, tmp_path: Path) -> None:
    run = copied(searched, tmp_path)
    found = ablate(run, Quiet())
    names = [(one.what, one.name) for one in found]
    assert ("model", "ja") in names
    assert ("model", "vlm") in names
    with Store.read_only(run / "run.sqlite") as store:
        winner = store.trial(store.get("standing")["winner"])
        assert winner is not None
        assert ("group", "embeddings") in names
        for one in found:
            trial = store.trial(one.trial)
            assert trial is not None
            assert trial.kind == "ablation"
            assert not store.has_answers(trial.trial, "holdout")
        count = store.next_trial()
        ours, theirs = (
            [answer.score for answer in store.answers(number, "validation")] for number in (winner.trial, found[-1].trial)
        )
    assert found[-1].difference == pytest.approx(100 * (sum(theirs) - sum(ours)) / len(ours), abs=1e-3)
    before, after = contents(searched)["results"], contents(run)["results"]
    assert len(after.pop("ablation")) == len(found)
    assert before.pop("ablation") == []
    assert before == after  # rows, winner and holdout stay as they are
    assert "Set back: the winner" in (run / "report.html").read_text()
    assert ablate(run, Quiet()) == found
    with Store.read_only(run / "run.sqlite") as store:
        assert store.next_trial() == count


def test_what_cannot_be_ablated_is_refused_before_anything_is_loaded(searched: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run in this folder"):
        ablate(tmp_path, Quiet())
    run = copied(searched, tmp_path)
    with Store.open(run / "run.sqlite") as store:
        store.set("standing", {**store.get("standing"), "winner": store.get("standing")["host"]})
    with pytest.raises(RunFolderError, match="no genes that could be set back"):
        ablate(run, Quiet())
    with Store.open(run / "run.sqlite") as store:
        store.set("finished", False)
    with pytest.raises(RunFolderError, match="not finished"):
        ablate(run, Quiet())
