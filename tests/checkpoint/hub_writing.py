"""The hub of `hub_stand_in`, which one can also write to: repositories, branches, large files by LFS, commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from hub_stand_in import LARGE, HubHandler, git_hash, served, sha256

OWNER = "me"


@dataclass
class Written:
    """A repository: branch → files, and what each commit holds."""

    private: bool = False
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {".gitattributes": b""}})
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)


@dataclass
class WritableHub:
    """A running hub.

    Attributes:
        url: Its endpoint.
        repositories: Id → repository.
        large: sha256 → contents of large files that have arrived.
        served: (method, path) of each request, in order.
        refusing: Status of every request, if set.
        breaking: Paths that are answered with 400 as long as they contain this.
        changing: Large files arrive changed: a byte is another one.
    """

    url: str
    repositories: dict[str, Written] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    served: list[tuple[str, str]] = field(default_factory=list)
    refusing: int | None = None
    breaking: str | None = None
    changing: bool = False


def running_writable_hub() -> AbstractContextManager[WritableHub]:
    """Serves until the block ends."""
    return served(_Handler, WritableHub)


class _Handler(HubHandler, BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.body())

    def do_PUT(self) -> None:
        self.answer(self.body())

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.served.append((self.command, path))
        if found := re.fullmatch(r"/large/([0-9a-f]{64})", path):  # Another host, on the real hub: no token.
            assert "Authorization" not in self.headers
            self.hub.large[found[1]] = body[:-1] + b"?" if self.hub.changing else body
            return self.send({})
        if self.hub.breaking and self.hub.breaking in path:
            return self.send({"error": "no"}, 400)
        if self.headers.get("Authorization") != "Bearer good" or self.hub.refusing == 401:
            return self.send({"error": "Invalid credentials in Authorization header"}, 401)
        if self.hub.refusing:
            return self.send({"error": "no"}, self.hub.refusing)
        if path == "/api/validate-yaml":
            return self.send({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        for pattern, answer in ROUTES:
            if found := re.fullmatch(pattern, path):
                return answer(self, body, *found.groups())
        return self.send({"error": f"unknown {path}"}, 404)

    def create(self, wanted: dict) -> None:
        name = f"{wanted.get('organization') or OWNER}/{wanted['name']}"
        there = name in self.hub.repositories
        if not there:
            private = bool(wanted.get("private")) or wanted.get("visibility") == "private"
            self.hub.repositories[name] = Written(private)
        self.send({"url": f"{self.hub.url}/{name}"}, 409 if there else 200)

    def branch(self, _: bytes, name: str, branch: str) -> None:
        branches = self.hub.repositories[name].branches
        there = branch in branches
        branches.setdefault(branch, dict(branches["main"]))
        self.send({}, 409 if there else 200)

    def preupload(self, body: bytes, name: str, branch: str) -> None:
        there = self.hub.repositories[name].branches[branch]
        modes = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if each["path"].endswith((*LARGE, ".png")) else "regular",
                "shouldIgnore": False,
                "oid": git_hash(there[each["path"]]) if each["path"] in there else None,
            }
            for each in json.loads(body)["files"]
        ]
        self.send({"files": modes})

    def batch(self, body: bytes, _name: str) -> None:
        objects = []
        for each in json.loads(body)["objects"]:
            known = {} if each["oid"] in self.hub.large else {
                "actions": {"upload": {"href": f"{self.hub.url}/large/{each['oid']}", "header": {}}}
            }  # fmt: skip
            objects.append({"oid": each["oid"], "size": each["size"], **known})
        self.send({"transfer": "basic", "objects": objects})

    def commit(self, body: bytes, name: str, branch: str) -> None:
        repository = self.hub.repositories[name]
        files = dict(repository.branches[branch])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repository.branches[branch] = files
        oid = hashlib.sha1(body).hexdigest()
        repository.commits[oid] = files
        self.send({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})

    def info(self, _: bytes, name: str, revision: str | None = None) -> None:
        repository = self.hub.repositories[name]
        files = repository.commits.get(revision or "") or repository.branches[revision or "main"]
        siblings = []
        for file, data in files.items():
            large = {"lfs": {"sha256": sha256(data), "size": len(data), "pointerSize": 130}}
            more = large if file.endswith((*LARGE, ".png")) else {}
            siblings.append({"rfilename": file, "size": len(data), "blobId": git_hash(data), **more})
        self.send({"id": name, "sha": revision or "0" * 40, "private": repository.private, "tags": [], "siblings": siblings})

    def send(self, value: object, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        if status == 401:
            self.send_header("X-Error-Message", "Invalid credentials in Authorization header")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


ROUTES = (
    (r"/api/models/([^/]+/[^/]+)/branch/(.+)", _Handler.branch),
    (r"/api/models/([^/]+/[^/]+)/preupload/(.+)", _Handler.preupload),
    (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler.batch),
    (r"/api/models/([^/]+/[^/]+)/commit/(.+)", _Handler.commit),
    (r"/api/models/([^/]+/[^/]+)/revision/(.+)", _Handler.info),
    (r"/api/models/([^/]+/[^/]+)", _Handler.info),
)
