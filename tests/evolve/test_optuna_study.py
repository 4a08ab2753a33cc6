"""A run as a study of Optuna's: opened by Optuna, equal to the store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from vlmerge.errors import RunFolderError
from vlmerge.optuna_study import write_study
from vlmerge.store import STORE_NAME, Store

optuna = pytest.importorskip("optuna", reason="pip install 'vlmerge[optuna]'")


def test_optuna_opens_what_the_store_holds(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    with Store.read_only(finished / STORE_NAME) as store:
        trials, standing = store.trials(), store.get("standing")
        fitness = {(g.stage, g.generation): g.fitness for g in store.generations()}
        assert write_study(store, file) == len(trials)
        assert write_study(store, file) == len(trials)  # Written again, not added to.
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{file}")
    assert study.direction.name == "MAXIMIZE"
    assert study.user_attrs["stages"] == ["global", "groups"]
    read = study.get_trials()
    assert [each.user_attrs["label"] for each in read] == [trial.label for trial in trials]
    for ours, theirs in zip(trials, read, strict=True):
        assert theirs.state.name == {"scored": "COMPLETE", "failed": "FAIL"}[ours.status]
        assert theirs.user_attrs["recipe"] == ours.recipe
        assert theirs.user_attrs["kind"] == ours.kind
        assert tuple(theirs.params.values()) == (ours.genome or ())
        if ours.kind == "searched":
            assert theirs.value == pytest.approx(100 * fitness[ours.stage, ours.generation][ours.position])
            assert theirs.user_attrs["stage"] == study.user_attrs["stages"][ours.stage]
            assert all(name.startswith(f"{theirs.user_attrs['stage']}: ") for name in theirs.params)
    winner = read[standing["winner"] - 1]
    assert "winner" in winner.user_attrs["row"]
    rows = json.loads((finished / "results.json").read_text())["rows"]
    scores = {row["set"]: row["score"] for row in rows if (row["candidate"], row["task"]) == ("winner", "all")}
    found = {"search": winner.value, "validation": winner.user_attrs["validation"], "holdout": winner.user_attrs["holdout"]}
    assert found == pytest.approx(scores, abs=1e-3)


@pytest.mark.parametrize("contents", [b"", b"my notes", b"SQLite format 3\0"])
def test_another_file_is_not_touched(finished: Path, tmp_path: Path, contents: bytes) -> None:
    file = tmp_path / "mine.db"
    file.write_bytes(contents)
    with Store.read_only(finished / STORE_NAME) as store, pytest.raises(RunFolderError, match="not a study that vlmerge wrote"):
        write_study(store, file)
    assert file.read_bytes() == contents
    assert [path.name for path in tmp_path.iterdir()] == ["mine.db"]


def test_a_study_of_a_run_that_goes_on(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    with Store.open(run / STORE_NAME) as store:
        for key in ("standing", "finished"):
            store.set(key, None)
        assert write_study(store, tmp_path / "study.db") == len(store.trials())
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert not study.user_attrs["finished"]
