"""A hub on this machine: the endpoints that huggingface_hub's client uses, over real HTTP, and a cache as it lays one out."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEXT_COMMIT = "fedcba9876543210fedcba9876543210fedcba98"
LARGE = (".safetensors", ".bin", ".model")

H = TypeVar("H")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def blob_name(name: str, data: bytes) -> str:
    """Under which name the client's cache keeps a file: sha256 for large files (LFS), git's hash for others."""
    return sha256(data) if name.endswith(LARGE) else git_hash(data)


@dataclass
class Repository:
    """A model on the hub.

    Attributes:
        files: Name → contents.
        commit: What its branch main points to.
        gated: Needs the token `good`.
        private: Looks as if it did not exist without the token `good`.
    """

    files: dict[str, bytes]
    commit: str = COMMIT
    gated: bool = False
    private: bool = False

    @classmethod
    def of(cls, folder: Path, **more) -> Repository:
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        return cls(files, **more)


@dataclass
class Hub:
    """A running hub.

    Attributes:
        url: Its endpoint.
        repositories: Id → repository; may be changed while it runs.
        served: (method, path, bytes of body sent) of each request, in order.
        failing: Status that every request gets instead of an answer, if set.
        break_once: Names of large files whose next download stops in the middle.
    """

    url: str
    repositories: dict[str, Repository]
    served: list[tuple[str, str, int]] = field(default_factory=list)
    failing: int | None = None
    break_once: set[str] = field(default_factory=set)

    @property
    def cdn(self) -> str:
        """Where large files are: to the client another host, as on the real hub, which it sends no token to."""
        return self.url.replace("127.0.0.1", "localhost")

    def bytes_of(self, part: str) -> int:
        """Bytes sent so far for paths that contain `part`."""
        return sum(size for _, path, size in self.served if part in path)


class HubHandler(BaseHTTPRequestHandler):
    """What every stand-in's handler is: quiet, and it knows its hub."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Any:
        return self.server.hub

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(handler: type[HubHandler], made: Callable[[str], H]) -> Iterator[H]:
    """Serves a hub, which is made from its address, until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub = made(f"http://127.0.0.1:{server.server_port}")
    server.hub = hub
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def running_hub(repositories: Mapping[str, Repository]) -> AbstractContextManager[Hub]:
    """Serves until the block ends."""
    return served(_Handler, lambda url: Hub(url, dict(repositories)))


def lay_out_cache(
    cache: Path, name: str, files: Mapping[str, bytes], *, commit: str = COMMIT, branch: str | None = "main"
) -> Path:
    """A model in a cache folder as the client lays it out: blobs by hash, snapshots of links, refs."""
    root = cache / f"models--{name.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    for file, data in files.items():
        blob = root / "blobs" / blob_name(file, data)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link = snapshot / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(*[".."] * (2 + file.count("/")), "blobs", blob.name))
    if branch is not None:
        (root / "refs").mkdir(parents=True, exist_ok=True)
        (root / "refs" / branch).write_text(commit)
    return snapshot


class _Handler(HubHandler):
    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        if self.hub.failing:
            return self.send(self.hub.failing, b"no")
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            return self.model_info(*found.groups(), with_sizes="blobs" in parse_qs(parts.query))
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(*found.groups())
        if found := re.fullmatch(r"/cdn/([0-9a-f]{64})/(.+)", path):
            return self.large_file(*found.groups())
        return self.refuse(404, "RepoNotFound")

    def repository(self, name: str, revision: str, *, contents: bool) -> Repository | None:
        repository = self.hub.repositories.get(name)
        known = self.headers.get("Authorization") == "Bearer good"
        if repository is None or (repository.private and not known):
            self.refuse(401, "RepoNotFound")
            return None
        if contents and repository.gated and not known:
            self.refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
            return None
        if revision not in ("main", repository.commit):
            self.refuse(404, "RevisionNotFound")
            return None
        return repository

    def model_info(self, name: str, revision: str, *, with_sizes: bool) -> None:
        repository = self.repository(name, revision, contents=False)
        if repository is None:
            return
        siblings = []
        for file, data in repository.files.items():
            sibling = {"rfilename": file}
            if with_sizes:
                sibling |= {"size": len(data), "blobId": git_hash(data)}
                if file.endswith(LARGE):
                    sibling["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
            siblings.append(sibling)
        info = {"id": name, "modelId": name, "sha": repository.commit, "siblings": siblings, "tags": [], "private": False}
        self.send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def resolve(self, name: str, revision: str, file: str) -> None:
        repository = self.repository(name, revision, contents=True)
        if repository is None:
            return None
        headers = {"X-Repo-Commit": repository.commit}
        if file not in repository.files:
            return self.refuse(404, "EntryNotFound", headers)
        data = repository.files[file]
        if file.endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
            return self.send(302, b"", headers | {"Location": f"{self.hub.cdn}/cdn/{sha256(data)}/{file}"})
        return self.send(200, data, headers | {"ETag": f'"{git_hash(data)}"'})

    def large_file(self, digest: str, file: str) -> None:
        if self.headers.get("Authorization"):
            return self.refuse(400, "TokenLeaked")
        data = next(
            data
            for repository in self.hub.repositories.values()
            for data in repository.files.values()
            if sha256(data) == digest
        )
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
            return self.send(206, data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"})
        cut = self.command == "GET" and file in self.hub.break_once
        self.hub.break_once -= {file} if cut else set()
        return self.send(200, data, cut=cut)

    def refuse(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, cut: bool = False) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = body[: len(body) // 2] if cut else body
        if self.command == "GET":
            self.wfile.write(sent)
        self.hub.served.append((self.command, self.path, len(sent) if self.command == "GET" else 0))
        if cut:
            self.wfile.flush()
            self.close_connection = True
