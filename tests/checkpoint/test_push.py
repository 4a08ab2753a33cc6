"""Pushing to the hub: over real HTTP to a hub on this machine, by huggingface_hub's own client."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import yaml
from hub_writing import WritableHub, Written, running_writable_hub

from vlmerge.errors import CheckpointError, RunFolderError
from vlmerge.push import Pushed, pack, push
from vlmerge.report import Parent, merge_card
from vlmerge.store import STORE_NAME, Store

# The client's own upload by LFS warns of how it calls its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

OPEN = {"vlm": "apache-2.0", "lm": "mit"}


def written(folder: Path, licences: Mapping[str, str | None] = OPEN) -> Path:
    """A checkpoint in shards as vlmerge leaves one."""
    tiny.in_shards(folder)
    parents = [
        Parent(name, name, "source" if number else "host", licence, None, None, False)
        for number, (name, licence) in enumerate(licences.items())
    ]
    card = merge_card("a merge", "linear", "merge_method: linear\n", parents, sees=True, merged=3, kept={})
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "recipe.yaml").write_text("merge_method: linear\n", encoding="utf-8")
    (folder / "figures").mkdir()
    (folder / "figures" / "search.png").write_bytes(b"\x89PNG")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "mine").write_text("stays here")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WritableHub]:
    """An empty hub, and somebody who is logged in to it. Large files go by LFS: Xet has a protocol of its own."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    with running_writable_hub() as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        (tmp_path / "token").write_text("good")
        yield hub
        close_session()


def pushed(folder: Path, repository: str = "me/merged", **how) -> Pushed:
    lines: list[str] = []
    return push(pack(folder, private=how.get("private", False)), repository, say=lines.append, **how)


def on_disk(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(".")}


def test_what_arrives_is_what_is_on_the_disk(hub: WritableHub, tmp_path: Path) -> None:
    folder = written(tmp_path / "model")
    done = pushed(folder)
    repository = hub.repositories["me/merged"]
    assert repository.branches["main"] == on_disk(folder) | {".gitattributes": b""}
    assert not repository.private
    assert (done.repository, done.files, done.removed) == ("me/merged", len(on_disk(folder)), ())
    assert repository.commits[done.commit] == repository.branches["main"]
    assert len(repository.commits) == 1


def test_a_name_alone_is_in_the_persons_own_space_and_private_is_private(hub: WritableHub, tmp_path: Path) -> None:
    assert pushed(written(tmp_path / "model"), "merged", private=True).repository == "me/merged"
    assert hub.repositories["me/merged"].private
    hub.repositories["me/public"] = Written()
    with pytest.raises(CheckpointError, match="everybody can see it"):
        pushed(tmp_path / "model", "me/public", private=True)
    assert hub.repositories["me/public"].commits == {}


def test_a_branch_gets_the_model_and_main_stays(hub: WritableHub, tmp_path: Path) -> None:
    folder = written(tmp_path / "model")
    pushed(folder, revision="v2")
    branches = hub.repositories["me/merged"].branches
    assert branches["main"] == {".gitattributes": b""}
    assert on_disk(folder).items() <= branches["v2"].items()


def test_weights_of_another_model_do_not_stay_beside_it(hub: WritableHub, tmp_path: Path) -> None:
    before = {"model.safetensors": b"old", "pytorch_model.bin": b"old", "notes.txt": b"mine", "README.md": b"old"}
    hub.repositories["me/merged"] = Written(branches={"main": before})
    done = pushed(written(tmp_path / "model"))
    assert done.removed == ("model.safetensors", "pytorch_model.bin")
    assert hub.repositories["me/merged"].branches["main"] == on_disk(tmp_path / "model") | {"notes.txt": b"mine"}


def test_an_upload_that_broke_off_leaves_the_branch_and_sends_large_files_once(hub: WritableHub, tmp_path: Path) -> None:
    folder = written(tmp_path / "model")
    hub.breaking = "/commit/"
    with pytest.raises(CheckpointError, match="the branch is as it was before"):
        pushed(folder)
    assert hub.repositories["me/merged"].branches["main"] == {".gitattributes": b""}
    hub.breaking = None
    sent = [path for method, path in hub.served if method == "PUT"]
    pushed(folder)
    assert [path for method, path in hub.served if method == "PUT"] == sent
    assert len(sent) == sum(name.endswith((".safetensors", ".png")) for name in on_disk(folder))


def test_what_arrived_changed_is_told(hub: WritableHub, tmp_path: Path) -> None:
    hub.changing = True
    with pytest.raises(CheckpointError, match="not what is on this disk"):
        pushed(written(tmp_path / "model"))


@pytest.mark.parametrize(("status", "token"), [(None, None), (401, "good"), (None, "bad")])
def test_without_a_login_nothing_is_sent(hub: WritableHub, tmp_path: Path, status: int | None, token: str | None) -> None:
    hub.refusing = status
    (tmp_path / "token").write_text(token or "")
    with pytest.raises(CheckpointError, match="not logged in to the hub") as error:
        pushed(written(tmp_path / "model"))
    assert "hf auth login" in str(error.value)
    assert "good" not in str(error.value)
    assert hub.repositories == {}


def test_without_the_right_to_write_it_says_so(hub: WritableHub, tmp_path: Path) -> None:
    hub.refusing = 403
    with pytest.raises(CheckpointError, match="does not let you write there"):
        pushed(written(tmp_path / "model"))


def test_a_name_that_cannot_be_and_a_hub_that_is_away(
    hub: WritableHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    folder = written(tmp_path / "model")
    with pytest.raises(CheckpointError, match="can have this name"):
        pushed(folder, "me/a/b")
    assert hub.repositories == {}
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match="could not be pushed"):
        pushed(folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        pushed(folder)


@pytest.mark.parametrize(
    ("licences", "refused"),
    [
        ({"a": "cc-by-nc-nd-4.0", "b": "mit"}, "does not let this merge be shared"),
        ({"a": "cc-by-sa-4.0", "b": "gpl-3.0"}, "cannot both be"),
        ({"a": "cc-by-nc-4.0", "b": "mit"}, None),
        ({"a": "cc-by-sa-4.0", "b": "mit"}, None),
        ({"a": "a licence of its own", "b": None}, None),
    ],
)
def test_what_licences_forbid_is_refused_unless_told_otherwise(
    licences: Mapping[str, str | None], refused: str | None, tmp_path: Path
) -> None:
    folder = written(tmp_path / "model", licences)
    if refused is not None:
        with pytest.raises(CheckpointError, match=refused) as error:
            pack(folder)
        assert "--licence-checked" in str(error.value)
        assert pack(folder, private=True)
    lines = "\n".join(pack(folder, licence_checked=True).lines())
    fields = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert fields["merged_licences"] == licences
    assert ("non-commercial" in fields["tags"]) == any(licence and "-nc" in licence for licence in licences.values())
    assert ("not for commercial use" in lines) == ("cc-by-nc-4.0" in licences.values())
    assert ("unknown" in lines) == (None in licences.values())


def test_a_card_without_its_record_is_of_unknown_licences(tmp_path: Path) -> None:
    folder = written(tmp_path / "model", {"a": "cc-by-nd-4.0"})
    (folder / "README.md").write_text("My own words.")
    assert "unknown" in "\n".join(pack(folder).lines())


def test_what_is_not_whole_or_not_vlmerges_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "model")
    shard = next(folder.glob("*.safetensors"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-4])
    with pytest.raises(CheckpointError):
        pack(folder)
    shard.unlink()
    with pytest.raises(CheckpointError):
        pack(folder)
    shard.write_bytes(whole)
    assert pack(folder)
    (folder / "recipe.yaml").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint that vlmerge wrote"):
        pack(folder)
    with pytest.raises(CheckpointError, match="no checkpoint that vlmerge wrote"):
        pack(tmp_path / "nothing")


def test_of_a_run_its_winner_goes_once_it_is_finished(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    store = Store.create(run / STORE_NAME)
    model = written(run / "model")
    with pytest.raises(RunFolderError, match="not finished"):
        pack(run)
    store.set("finished", True)
    assert pack(run).folder == model
    shutil.rmtree(model)
    with pytest.raises(RunFolderError, match="not finished"):
        pack(run)
    store.close()


def test_the_command_tells_what_goes_and_prints_json(hub: WritableHub, tmp_path: Path) -> None:
    import json

    from typer.testing import CliRunner

    from vlmerge.cli import app

    folder = written(tmp_path / "model", {"a": "cc-by-nd-4.0", "b": "mit"})
    with pytest.raises(CheckpointError, match="does not let this merge be shared"):
        CliRunner().invoke(app, ["push", str(folder), "me/merged"], catch_exceptions=False)
    assert hub.served == []
    arguments = ["push", str(folder), "me/merged", "--licence-checked", "--revision", "v1", "--json"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["files"] == len(on_disk(folder))
    assert "CC BY-ND" in done.stderr
    assert on_disk(folder).items() <= hub.repositories["me/merged"].branches["v1"].items()
