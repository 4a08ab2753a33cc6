"""Servers as a person starts them, a browser where there is one, and real small runs to look at."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from evolve.conftest import finished  # noqa: F401 - a fixture

from .devtools import Browser, browser_path


class Server:
    """A server of `vlmerge`, and a visitor who has its address."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.address = address
        self.port = parts.port or 0
        self.token = parts.query.partition("=")[2]

    def at(self, path: str) -> str:
        """The address of a page, token included."""
        return f"http://127.0.0.1:{self.port}{path}{'&' if '?' in path else '?'}token={self.token}"

    def ask(
        self, path: str, method: str = "GET", *, body: bytes | None = None, headers: dict[str, str | None] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of one request; by default as the page itself would send it. None takes a header away."""
        own: dict[str, str | None] = {"Host": f"127.0.0.1:{self.port}", "Cookie": f"vlmerge-{self.port}={self.token}"}
        if method == "POST":
            own |= {"Origin": f"http://127.0.0.1:{self.port}", "X-Vlmerge-Token": self.token}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            given = {name: value for name, value in (own | (headers or {})).items() if value is not None}
            connection.request(method, path, body=body, headers=given)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        """What a page's script would get."""
        status, _, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)

    def state(self, run: str) -> Any:
        """A run as its page sees it."""
        return self.json(f"/run/{quote(run)}/state.json")


@contextmanager
def serving(*arguments: object) -> Generator[Server]:
    """Starts `vlmerge …` on any free port, and ends it."""
    command = [sys.executable, "-u", "-m", "vlmerge", *map(str, arguments), "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("open http://127.0.0.1:"), (line, process.poll() is not None and process.communicate())
        yield Server(line.split()[1])
    finally:
        process.terminate()
        _, complaints = process.communicate(timeout=60)
        assert process.returncode == 0, complaints
        assert complaints == ""


@pytest.fixture(scope="session")
def started() -> Iterator[Callable[..., Server]]:
    """Starts servers that live as long as the tests."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(serving(*arguments))


@pytest.fixture(scope="session")
def runs(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A folder with one finished run (`small`), for reading."""
    folder = tmp_path_factory.mktemp("watched") / "runs"
    shutil.copytree(finished, folder / "small")
    return folder


@pytest.fixture(scope="session")
def watched(started: Callable[..., Server], runs: Path) -> Server:
    """`vlmerge watch` on the finished run."""
    return started("watch", runs / "small")


@pytest.fixture(scope="session")
def only_browser() -> Iterator[Browser]:
    """One browser for all tests."""
    program = browser_path()
    if program is None:
        pytest.skip("needs Chromium or Chrome, and this machine has none")
    browser = Browser(program)
    yield browser
    browser.close()


@pytest.fixture
def browser(only_browser: Browser) -> Iterator[Browser]:
    """The browser, at desktop width; a test fails where its page complained on the console or asked another server."""
    only_browser.complaints.clear()
    only_browser.requests.clear()
    only_browser.size(1280)
    yield only_browser
    assert only_browser.complaints == []
    assert {urlsplit(address).hostname for address in only_browser.requests} <= {"127.0.0.1", None}
    only_browser.run("document.location.href = 'about:blank'")
