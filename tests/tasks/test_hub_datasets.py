"""Data sets of a hub, by the real client against a local server that answers as the hub does; and what it may refuse."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

COMMITS = {"main": "a" * 40, "v1": "b" * 40}
TABLE = "data/test-00000-of-00001.parquet"
CARD = b"---\nlicense: mit\n---\n"
ASK = """
import json, sys
from vlmerge.config.run import TaskSpec
from vlmerge.errors import TaskError
from vlmerge.tasks import load_task
answers = []
commits = json.loads(sys.argv[2])
for keys in json.loads(sys.argv[1]):
    try:
        task = load_task(TaskSpec(**keys), commits=commits)
        answers.append(" | ".join([task.name, task.source, *(question.text for question in task.questions())]))
    except TaskError as error:
        answers.append(error.message())
print(json.dumps([answers, commits]))
"""


def parquet(**columns: list[str]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


FILES = {
    COMMITS["main"]: {"README.md": CARD, TABLE: parquet(question=["new 1", "new 2"], answer=["a", "b"])},
    COMMITS["v1"]: {"README.md": CARD, TABLE: parquet(question=["old"], answer=["a"])},
}


class Hub(BaseHTTPRequestHandler):
    """org/open can be read, org/gated has files behind a licence, everything else is not there."""

    known = ("open", "gated")

    def do_GET(self) -> None:
        wanted = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}").get("paths", [])
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "datasets"] and len(parts) > 3:
            what, revision, *folder = parts[4:] or ("revision", "main")
            self.api(parts[3], what, revision, *folder, paths=wanted)
        elif parts[0] == "datasets":
            self.file(parts[2], parts[4], "/".join(parts[5:]))
        else:
            self.reply(404, b"")

    do_HEAD = do_POST = do_GET  # noqa: N815 - http.server's own names

    def api(self, name: str, what: str, revision: str, *folder: str, paths: list[str]) -> None:
        commit = COMMITS.get(revision, revision)
        if name not in self.known or commit not in FILES:
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif what == "tree":
            here = "/".join(folder)
            files = [self.entry(commit, path) for path in FILES[commit] if path.rpartition("/")[0] == here]
            folders = {} if here else {path.split("/")[0] for path in FILES[commit] if "/" in path}
            self.reply(200, [*files, *({"type": "directory", "path": each, "oid": "d" * 40, "size": 0} for each in folders)])
        elif what == "paths-info":
            self.reply(200, [self.entry(commit, path) for path in paths if path in FILES[commit]])
        else:
            siblings = [{"rfilename": path} for path in FILES[commit]]
            facts = {"id": f"org/{name}", "sha": commit, "private": False, "tags": [], "siblings": siblings}
            self.reply(200, facts | {"gated": "manual" if name == "gated" else False})

    def file(self, name: str, revision: str, path: str) -> None:
        commit = COMMITS.get(revision, revision)
        if name == "gated":
            self.reply(403, b"", {"X-Error-Code": "GatedRepo"})
        elif name not in self.known:
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif path not in FILES[commit]:
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            tag = str(self.entry(commit, path)["oid"])
            self.reply(200, FILES[commit][path], {"ETag": f'"{tag}"', "X-Repo-Commit": commit})

    @staticmethod
    def entry(commit: str, path: str) -> dict[str, object]:
        content = FILES[commit][path]
        return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def reply(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Stays silent."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def ask(home: Path, environment: dict[str, str], *specs: dict[str, object]) -> list[str]:
    """Loads tasks in a process of their own: the hub's client reads its environment once, at import."""
    return ask_again(home, environment, {}, *specs)[0]


def ask_again(
    home: Path, environment: dict[str, str], commits: dict[str, str], *specs: dict[str, object]
) -> tuple[list[str], dict[str, str]]:
    """The same at the commits that were read before; gives those that were read now, too."""
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    surroundings |= {"HF_HOME": str(home), **environment}
    command = [sys.executable, "-c", ASK, json.dumps(specs), json.dumps(commits)]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answers, read = json.loads(done.stdout)
    return answers, read


def test_a_data_set_of_the_hub_at_a_revision_and_again_offline(endpoint: str, tmp_path: Path) -> None:
    online, offline = {"HF_ENDPOINT": endpoint}, {"HF_HUB_OFFLINE": "1"}
    main, pinned = {"name": "hf:org/open"}, {"name": "hf:org/open@v1"}
    new, old = "org/open | org/open@aaaaaaaaaaaa, split test | new 1", "org/open | org/open@bbbbbbbbbbbb, split test | old"
    first, other_split = ask(tmp_path, online, main, main | {"split": "train"})
    assert first == f"{new} | new 2"
    assert "`split:` one of test" in other_split
    assert ask(tmp_path, offline, main | {"limit": 1}) == [new]

    assert ask(tmp_path, online, pinned) == [old]
    # Offline, the library takes what was kept last: v1, for the main branch too.
    snapshot = tmp_path / "hub" / "datasets--org--open" / "snapshots" / COMMITS["main"]
    again, refused, by_path = ask(tmp_path, offline, pinned, main, main | {"path": str(snapshot)})
    assert again == old
    assert refused.startswith("the hub cannot be reached")
    assert f"`path: {snapshot}`" in refused
    assert by_path == f"org/open | {snapshot}, split test | new 1 | new 2"


def test_a_branch_that_has_moved_changes_nothing_for_who_began_before(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online, main = {"HF_ENDPOINT": endpoint}, {"name": "hf:org/open"}
    monkeypatch.setitem(COMMITS, "main", COMMITS["v1"])
    (before,), commits = ask_again(tmp_path, online, {}, main)
    assert commits == {"org/open@main": COMMITS["v1"]}
    monkeypatch.undo()
    (moved,), _ = ask_again(tmp_path, online, {}, main)
    assert (before.rpartition(" | ")[2], moved.rpartition(" | ")[2]) == ("old", "new 2")
    assert ask_again(tmp_path, online, commits, main) == ([before], commits)
    assert ask_again(tmp_path / "elsewhere", online, commits, main) == ([before], commits)


def test_refusals_name_what_to_do(endpoint: str, tmp_path: Path) -> None:
    gated, missing = ask(tmp_path, {"HF_ENDPOINT": endpoint}, {"name": "hf:org/gated"}, {"name": "hf:org/missing"})
    assert gated.startswith("a data set is gated")
    assert f"{endpoint}/datasets/org/gated" in gated
    assert "HF_TOKEN" in gated
    assert missing.startswith("a data set does not exist, or is private")
    (offline,) = ask(tmp_path, {"HF_HUB_OFFLINE": "1"}, {"name": "ja-vg-vqa-500"})
    assert offline.startswith("a data set cannot be reached")
    assert "`path:`" in offline
