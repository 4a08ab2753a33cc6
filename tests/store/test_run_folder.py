"""Laws of the run folder: what it refuses, what it leaves behind, and how a run moves between machines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlmerge.cache import cache_folder
from vlmerge.config.plain_yaml import dump_plain
from vlmerge.errors import RunFolderError, UserError
from vlmerge.run_folder import BEGUN, can_hold_live_store, open_run, settle
from vlmerge.store import STORE_NAME, ModelRecord, Store, Trial


@pytest.fixture(params=["folder", "local"])
def where(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("VLMERGE_STORE", request.param)
    monkeypatch.setenv("VLMERGE_CACHE", str(tmp_path / "cache"))
    return request.param


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Moves to a machine by name: its own cache, the drive shared, the store local."""
    monkeypatch.setenv("VLMERGE_STORE", "local")

    def move(name: str) -> None:
        monkeypatch.setenv("VLMERGE_CACHE", str(tmp_path / name))

    return move


def try_one(store: Store, label: str) -> None:
    store.record_trial(Trial(store.next_trial(), label, "baseline", None, None, None, None, "", "scored", None, {}, "now"))


def labels(path: Path) -> list[str]:
    with Store.read_only(path / STORE_NAME) as store:
        return [trial.label for trial in store.trials()]


def everything(path: Path) -> set[str]:
    return {str(entry.relative_to(path)) for entry in path.rglob("*") if entry.is_file()}


def killed(path: Path, *, record: str = "") -> None:
    """Opens the run in another process and kills it there."""
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom vlmerge.run_folder import open_run\n"
        "with open_run(Path(sys.argv[1])) as folder:\n"
        "    folder.write('run.yaml', 'a: 1')\n"
        "    if sys.argv[2]: folder.store.set('config_asked', sys.argv[2])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path), record], env=dict(os.environ), check=False)
    assert done.returncode == -9


@pytest.mark.usefixtures("where")
def test_a_failed_start_leaves_nothing(tmp_path: Path):
    with pytest.raises(UserError, match="no such model"), open_run(tmp_path / "runs/one"):
        raise UserError("no such model")
    assert everything(tmp_path) == set()
    assert not (tmp_path / "runs/one").exists()


@pytest.mark.usefixtures("where")
def test_a_failed_start_in_an_empty_folder_leaves_the_folder(tmp_path: Path):
    (tmp_path / "one").mkdir()
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path / "one"):
        raise KeyboardInterrupt
    assert (tmp_path / "one").is_dir()
    assert everything(tmp_path) == set()


@pytest.mark.usefixtures("where")
def test_what_is_recorded_outlives_an_error(tmp_path: Path):
    def begin_and_fail() -> None:
        with open_run(tmp_path / "one") as folder:
            folder.store.set("config_asked", "a")
            try_one(folder.store, "host")
            raise UserError("drive full")

    with pytest.raises(UserError, match="drive full"):
        begin_and_fail()
    assert labels(tmp_path / "one") == ["host"]
    with open_run(tmp_path / "one") as folder:
        assert folder.store.next_trial() == 2


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("record", ["", "a"])
def test_a_run_killed_before_its_first_generation_can_go_on(tmp_path: Path, record: str):
    killed(tmp_path / "one", record=record)
    assert (tmp_path / "one" / STORE_NAME).is_file()
    with open_run(tmp_path / "one") as folder:
        assert folder.store.get("config_asked") == (record or None)


def test_a_folder_without_its_snapshot_goes_on_from_the_local_store(machine, tmp_path: Path):
    machine("here")
    killed(tmp_path / "one", record="a")
    (tmp_path / "one" / STORE_NAME).unlink()
    with open_run(tmp_path / "one") as folder:
        assert folder.store.get("config_asked") == "a"


def test_an_emptied_folder_is_a_new_run_and_the_old_store_is_set_aside(machine, tmp_path: Path):
    machine("here")
    killed(tmp_path / "one", record="a")
    for file in (tmp_path / "one").iterdir():
        file.unlink()
    with open_run(tmp_path / "one") as folder:
        assert folder.store.get("config_asked") is None
        with Store.open(folder.store.path.with_name(f"former.{STORE_NAME}")) as former:
            assert former.get("config_asked") == "a"


def test_another_machine_takes_the_snapshot_over_and_back(machine, tmp_path: Path):
    path = tmp_path / "drive/one"
    for place, label in (("here", "first"), ("there", "second"), ("here", "third")):
        machine(place)
        with open_run(path) as folder:
            folder.store.set("config_asked", "a")
            try_one(folder.store, label)
            assert folder.elsewhere
            assert folder.store.path.is_relative_to(tmp_path / place)
    assert labels(path) == ["first", "second", "third"]
    assert everything(path) == {STORE_NAME}


def test_the_local_store_wins_where_it_is_ahead(machine, tmp_path: Path):
    machine("here")
    path = tmp_path / "drive/one"
    with open_run(path) as folder:
        folder.store.set("config_asked", "a")
        try_one(folder.store, "first")
        folder.publish()
        old = (path / STORE_NAME).read_bytes()
        try_one(folder.store, "second")
    (path / STORE_NAME).write_bytes(old)
    assert labels(path) == ["first"]
    with open_run(path) as folder:
        assert labels(path) == ["first", "second"]
        assert folder.store.next_trial() == 3


def test_the_snapshot_of_another_run_wins_over_the_local_store(machine, tmp_path: Path):
    machine("there")
    with open_run(tmp_path / "other") as folder:
        folder.store.set("config_asked", "b")
    machine("here")
    with open_run(tmp_path / "one") as folder:
        folder.store.set("config_asked", "a")
        try_one(folder.store, "first")
    (tmp_path / "other" / STORE_NAME).replace(tmp_path / "one" / STORE_NAME)
    with open_run(tmp_path / "one") as folder:
        assert folder.store.get("config_asked") == "b"


def test_a_damaged_snapshot_is_named_and_kept(machine, tmp_path: Path):
    machine("here")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / STORE_NAME).write_text("no database, but long enough to be looked at" * 50)
    before = (tmp_path / "one" / STORE_NAME).read_bytes()
    with pytest.raises(RunFolderError, match=r"one/run\.sqlite"), open_run(tmp_path / "one"):
        pass
    assert (tmp_path / "one" / STORE_NAME).read_bytes() == before


@pytest.mark.usefixtures("where")
def test_two_processes_never_work_on_one_folder(tmp_path: Path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom vlmerge.run_folder import open_run\nopen_run(Path(sys.argv[1])).__enter__()"
    )
    with open_run(tmp_path / "one") as folder:
        folder.store.set("config_asked", "a")
        other = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "one")], capture_output=True, text=True, check=False
        )
        assert "another process works on this run folder" in other.stderr
    with open_run(tmp_path / "one") as folder:
        assert folder.store.get("config_asked") == "a"


@pytest.mark.usefixtures("where")
def test_a_foreign_folder_is_refused_and_not_touched(tmp_path: Path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("")
    for path in (folder, tmp_path / "file"):
        with pytest.raises(RunFolderError, match="--out"), open_run(path):
            pass
    assert everything(tmp_path) == {"thesis/thesis.tex", "file"}


@pytest.mark.usefixtures("where")
def test_a_store_of_another_version_is_refused_and_kept(tmp_path: Path):
    (tmp_path / "one").mkdir()
    with Store.create(tmp_path / "one" / STORE_NAME) as store:
        store.set("schema", 999)
    with pytest.raises(RunFolderError, match="schema 999"), open_run(tmp_path / "one"):
        pass
    assert (tmp_path / "one" / STORE_NAME).is_file()


MOUNTS = r"""
overlay / overlay rw 0 0
/dev/sda1 /data ext4 rw 0 0
server:/home /data/shared nfs4 rw 0 0
/dev/sdb1 /data/shared/disk ext4 rw 0 0
drive /content/drive fuse.drive rw 0 0
drive /content/My\040Drive fuse rw 0 0
systemd-1 /auto autofs rw 0 0
server:/auto /auto nfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "can"),
    [
        ("/root/run", True),
        ("/data/run", True),
        ("/data/shared/run", False),
        ("/data/shared/disk/run", True),
        ("/data/shared2/run", True),
        ("/content/run", True),
        ("/content/drive/MyDrive/run", False),
        ("/content/My Drive/run", False),
        ("/auto/run", False),
    ],
)
def test_the_innermost_mount_decides(path: str, can: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VLMERGE_STORE", raising=False)
    (tmp_path / "mounts").write_text(MOUNTS.lstrip())
    assert can_hold_live_store(Path(path), tmp_path / "mounts") is can
    link = tmp_path / "link"
    link.symlink_to(path)
    assert can_hold_live_store(link, tmp_path / "mounts") is can


def test_the_cache_folder_knows_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VLMERGE_CACHE", "~/kept")
    assert cache_folder() == tmp_path / "kept"
    monkeypatch.delenv("VLMERGE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache/vlmerge"


@pytest.mark.usefixtures("where")
def test_the_record_of_a_run_of_two_parts_learns_where_its_folder_was_moved(tmp_path: Path):
    run, away = tmp_path / "one", tmp_path / "it's: moved, 甲@1"
    other = str(tmp_path / "one-more" / "merged" / "model")  # Another run's, which stays where it is.

    def named(folder: Path) -> str:
        return dump_plain({"scale": 1e-7, "models": [{"model": str(folder / "merged" / "model")}, {"model": other}]})

    with open_run(run) as folder:
        found = str(run / "merged" / "model")
        models = [ModelRecord(name, name, name == found, False, name, None, "", None, "llava", 1) for name in (found, other)]
        meta = {BEGUN: str(run), "config": named(run), "config_asked": named(run), "notes": {"dropped": {found: {"a": 1}}}}
        folder.store.record_setting(models, [], [], {}, meta)
        folder.store.record_trial(Trial(1, "a", "baseline", None, None, None, None, named(run), "scored", None, {}, "now"))
        folder.write_yaml("recipe.yaml", named(run))
    settle(run)
    assert labels(run) == ["a"]
    run.rename(away)
    settle(away)
    with Store.read_only(away / STORE_NAME) as store:
        there = str(away / "merged" / "model")
        assert [(model.name, model.label, model.path) for model in store.models()] == [(each,) * 3 for each in (there, other)]
        assert (store.get("config"), store.get("config_asked"), store.get(BEGUN)) == (named(away), named(away), str(away))
        assert store.get("notes") == {"dropped": {there: {"a": 1}}}
        assert [trial.recipe for trial in store.trials()] == [named(away)]
    # What lies beside the record names it from the folder.
    assert (away / "recipe.yaml").read_text() == named(Path()).replace("model: merged", "model: ./merged")
