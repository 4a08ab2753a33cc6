"""Who may come in: this machine's user alone, from this very page."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmerge.store import Store
from vlmerge.web.gate import LARGEST_BODY

from .conftest import Server

FOREIGN_HOSTS = (
    "evil.example",
    "evil.example:8765",
    "127.0.0.1.evil.example",
    "localhost@evil.example",
    "",
    "[::2]",
    "0.0.0.0",
)
LOCAL_HOSTS = ("127.0.0.1:1", "localhost:9999", "[::1]:8765", "localhost")


def test_the_address_with_the_token_opens_the_door_and_hides_the_token(watched: Server) -> None:
    status, headers, _ = watched.ask(f"/?lang=ja&token={watched.token}", headers={"Cookie": None})
    assert (status, headers["location"]) == (303, "/?lang=ja")
    assert watched.token in headers["set-cookie"]
    assert "HttpOnly" in headers["set-cookie"]


@pytest.mark.parametrize("cookie", [None, "vlmerge-{port}=wrong", "vlmerge-1={token}", "other={token}"])
def test_without_the_token_nothing_is_shown(watched: Server, cookie: str | None) -> None:
    given = None if cookie is None else cookie.format(port=watched.port, token=watched.token)
    for path in ("/", "/run/small", "/run/small/state.json", "/assets/run.js", "/?token=wrong", "/nowhere"):
        status, _, body = watched.ask(path, headers={"Cookie": given})
        assert status == 403, path
        assert b"token" in body
        assert watched.token.encode() not in body


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_another_name_for_this_machine_is_refused(watched: Server, host: str) -> None:
    assert watched.ask("/run/small", headers={"Host": host})[0] == 403
    assert watched.ask(f"/?token={watched.token}", headers={"Host": host})[0] == 403


@pytest.mark.parametrize("host", LOCAL_HOSTS)
def test_a_forwarded_port_is_fine(watched: Server, host: str) -> None:
    assert watched.ask("/run/small", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": None}, {"Origin": "http://127.0.0.1:1"},
        {"X-Vlmerge-Token": None}, {"X-Vlmerge-Token": "wrong"}, {"Cookie": None}, {"Sec-Fetch-Site": "cross-site"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/run/small/stop", "/run/small/go-on"])
def test_another_site_can_change_nothing(watched: Server, path: str, headers: dict[str, str | None]) -> None:
    assert watched.ask(path, "POST", headers=headers)[0] == 403


def test_looking_changes_nothing_and_changing_needs_a_post(watched: Server) -> None:
    assert watched.ask("/run/small/stop")[0] == 405
    assert watched.ask("/run/small/go-on")[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "/assets/..%2f..%2fcli.py", "/assets/../gate.py", "/assets/gate.py", "/assets/%2fetc%2fpasswd", "/run/..",
        "/run/..%2fsmall",
        "/run/%2e%2e/state.json", "/run/small%00/state.json", "/run/.", "/run//etc", "/../../etc/passwd", "/run/small/picture",
        "/run/small/picture?digest=../../run.sqlite", "/run/small/picture?digest=%27%20OR%201=1--", "/run/small/run.sqlite",
    ],
)  # fmt: skip
def test_nothing_but_its_own_pages_is_served(watched: Server, path: str) -> None:
    status, _, body = watched.ask(path)
    assert status == 404
    assert b"root:" not in body
    assert b"SQLite" not in body


def test_pictures_are_those_of_the_runs_questions(watched: Server, runs: Path) -> None:
    with Store.read_only(runs / "small" / "run.sqlite") as store:
        digest = store.questions("search")[0].pictures[0]
    status, headers, body = watched.ask(f"/run/small/picture?digest={digest}")
    assert (status, headers["content-type"], body[:2]) == (200, "image/jpeg", b"\xff\xd8")


def test_what_is_too_large_is_not_read(watched: Server) -> None:
    headers: dict[str, str | None] = {"Content-Length": str(LARGEST_BODY + 1)}
    assert watched.ask("/run/small/stop", "POST", headers=headers)[0] == 413


def test_every_answer_forbids_scripts_of_others_and_frames(watched: Server) -> None:
    for path in ("/run/small", "/run/small/state.json", "/nowhere", "/assets/run.js"):
        headers = watched.ask(path)[1]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_wrong_numbers_and_trials_are_refused(watched: Server) -> None:
    for query in ("a=1", "a=x&b=2", "a=-1&b=2", "a=1&b=99999999999999999999", "a=²&b=1"):
        assert watched.ask(f"/run/small/compare.json?{query.replace('²', '%C2%B2')}")[0] == 400, query
    assert watched.ask("/run/small/compare.json?a=1&b=9999")[0] == 404
