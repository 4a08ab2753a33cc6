"""Runs are compared on the questions that they share by content, paired by picture; what cannot be compared is said."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Kind, build
from typer.testing import CliRunner

from vlmerge.cli import app
from vlmerge.errors import RunFolderError
from vlmerge.runs_compared import compare_runs
from vlmerge.store import STORE_NAME, Store


@pytest.fixture(scope="module")
def smaller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with another search and half of the holdout, under another name for its task."""
    folder = build(
        tmp_path_factory.mktemp("smaller"),
        Kind(generations=9, scenes={"search": 16, "validation": 10, "holdout": 8}, task="other"),
    )
    with Store.open(folder / STORE_NAME) as store:
        store.set("name", "smaller")
    return folder


def test_shared_questions_are_found_by_content(finished: Path, smaller: Path) -> None:
    found = compare_runs([finished, smaller])
    table = found.tables[0]
    with Store.read_only(finished / STORE_NAME) as ours, Store.read_only(smaller / STORE_NAME) as theirs:
        scores = [
            {(q.text, q.pictures, q.question): a.score for a in store.answers(store.get("standing")["winner"], "holdout", task)
             for q in store.questions("holdout", task) if q.question == a.question}
            for store, task in ((ours, "pictures-ja"), (theirs, "other"))
        ]  # fmt: skip
    shared = scores[0].keys() & scores[1].keys()
    assert table.questions == len(shared) == len(scores[1])
    assert table.left_out == len(scores[0]) - len(shared) > 0
    means = [100 * sum(each[key] for key in shared) / len(shared) for each in scores]
    assert [one.score.mean for one in table.systems] == pytest.approx(means)
    first, second = table.systems
    assert (first.system, second.system, first.difference, first.p) == ("demo <run>", "smaller", None, None)
    assert second.difference is not None
    assert second.difference.mean == pytest.approx(means[1] - means[0])
    assert second.p is not None
    assert [table.task for table in found.tables] == ["pictures-ja", "pictures-en"]
    assert all("prompts differ" in note for note in found.notes)  # the invented prompts name the task


def test_any_row_is_compared_and_p_is_adjusted_for_all(finished: Path, smaller: Path, tmp_path: Path) -> None:
    third = build(tmp_path, Kind(generations=8))
    alone = compare_runs([finished, smaller], "host")
    both = compare_runs([finished, smaller, third], "host")
    assert len(both.tables[0].systems) == 3
    for table, few in zip(both.tables, alone.tables, strict=True):
        assert (table.systems[1].p or 0) >= (few.systems[1].p or 0)
    with pytest.raises(RunFolderError, match="no row 'nobody'"):
        compare_runs([finished, smaller], "nobody")


def test_another_protocol_is_told(finished: Path, make_run: Callable[[Kind], Path]) -> None:
    other = make_run(Kind(generations=8, contaminated=True))
    with Store.open(other / STORE_NAME) as store:
        store._connection.execute("UPDATE tasks SET decoding = 'beams', prompt = 'Q:' WHERE task = 'pictures-ja'")
        store.set("holdout_views", 2)
    notes = " ".join(compare_runs([finished, other]).notes)
    assert "decoding differs" in notes
    assert "prompts differ" in notes
    assert "CONTAMINATED" in notes
    assert "looked at 2 times" in notes
    with Store.open(other / STORE_NAME) as store:
        store._connection.execute("UPDATE tasks SET metric = 'exact_match'")
    with pytest.raises(RunFolderError, match="by exact_match, not by char_rouge_l"):
        compare_runs([finished, other])


def test_what_cannot_be_compared_is_refused(finished: Path, tmp_path: Path) -> None:
    kinds = {"goes-on": Kind(finished=False, generations=5), "no-holdout": Kind(holdout=False, generations=5)}
    folders = {}
    for name, kind in kinds.items():
        (tmp_path / name).mkdir()
        folders[name] = build(tmp_path / name, kind)
    for other, said in ((folders["goes-on"], "not finished"), (folders["no-holdout"], "no holdout"),
                        (finished, "compared with itself"), (tmp_path, "not a run folder")):  # fmt: skip
        with pytest.raises(RunFolderError, match=said):
            compare_runs([finished, other])
    strange = build(_made(tmp_path / "strange"), Kind(generations=5))
    with Store.open(strange / STORE_NAME) as store:
        store._connection.execute("UPDATE questions SET text = text || '!'")
    with pytest.raises(RunFolderError, match="share no holdout questions"):
        compare_runs([finished, strange])


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_command_prints_a_table_and_writes_a_page(finished: Path, smaller: Path, tmp_path: Path, lang: str) -> None:
    page = tmp_path / "deep" / "comparison.html"
    ran = CliRunner().invoke(app, ["report", str(finished), str(smaller), "--out", str(page), "--lang", lang, "--json"])
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert told["tables"][0]["questions"] > 0
    html = page.read_text(encoding="utf-8")
    assert "demo &lt;run&gt;" in html
    assert ("Runs compared" if lang == "en" else "実行の比較") in html
    assert "src=" not in html
    again = CliRunner().invoke(app, ["report", str(finished), str(smaller), "--out", str(page)])
    assert again.exit_code == 0, again.output
    page.write_text("my own notes")
    refused = CliRunner().invoke(app, ["report", str(finished), str(smaller), "--out", str(page)])
    assert "this one was not touched" in str(refused.exception)
    assert page.read_text() == "my own notes"
    one = CliRunner().invoke(app, ["report", str(finished), "--row", "host"])
    assert "two or more run folders" in str(one.exception)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
