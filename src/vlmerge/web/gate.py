"""The door of the local server: who may come in, how much may be brought, and what a browser may do with what it gets.

A page of some other site can make a browser send requests to 127.0.0.1 (CSRF), or have its own name point there (DNS
rebinding), and other users of the machine can reach the port as well. So every request needs this machine's name in `Host` and
the token that the terminal printed (in the address once, then in a cookie); what changes something needs the token in a header
of its own, too, and must come from this very site.
"""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
"""Names under which a browser may reach the server; the port may be another one, where it is forwarded (ssh -L)."""

TOKEN = "token"
TOKEN_HEADER = "x-vlmerge-token"
LARGEST_BODY = 32 << 20
"""Bytes that a request may bring: a photograph."""

POLICY = (
    "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def new_token() -> str:
    """A secret for one server's life."""
    return secrets.token_urlsafe(24)


class Gate:
    """Middleware: lets through what comes from this machine's user, and refuses everything else.

    Args:
        app: The site.
        token: The secret of this server.
        port: Its port: browsers share cookies between the ports of a machine.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app = app
        self._token = token
        self._cookie = f"vlmerge-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self._refusal(Request(scope))
        if answer is not None:
            await answer(scope, receive, send_guarded)
            return
        await self._app(scope, _bounded(receive), send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        """What a request gets instead of the site; None: it may come in."""
        headers = request.headers
        host = headers.get("host", "")
        if _name(f"//{host}") not in LOCAL_NAMES:
            return _refuse(403, "this server answers to 127.0.0.1 and localhost only")
        if _length(headers) > LARGEST_BODY:
            return _refuse(413, f"at most {LARGEST_BODY >> 20} MiB")
        safe = request.method in ("GET", "HEAD")
        origin = headers.get("origin")
        foreign = origin is not None and origin != f"http://{host}"
        if foreign or (not safe and (origin is None or headers.get("sec-fetch-site", "same-origin") != "same-origin")):
            return _refuse(403, "this request comes from another site")
        asked = request.query_params.get(TOKEN)
        if asked is not None and safe and self._is_token(asked):
            return self._welcome(request)
        if not self._is_token(request.cookies.get(self._cookie)):
            return _refuse(403, "open the address that vlmerge printed in the terminal: it holds this server's token")
        if not safe and not self._is_token(headers.get(TOKEN_HEADER)):
            return _refuse(403, "the token is missing")
        return None

    def _is_token(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), self._token.encode())

    def _welcome(self, request: Request) -> Response:
        """The same page without the token in its address, which histories and screenshots would show."""
        kept = [(key, value) for key, value in parse_qsl(request.url.query) if key != TOKEN]
        # No name of a host: "//evil.example" would be one.
        path = "/" + request.url.path.lstrip("/")
        answer = RedirectResponse(path + (f"?{urlencode(kept)}" if kept else ""), status_code=303)
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="lax")
        return answer


def _name(address: str) -> str | None:
    try:
        parts = urlsplit(address)
        return parts.hostname if parts.username is None and parts.path == "" else None
    except ValueError:
        return None


def _length(headers: Headers) -> int:
    given = headers.get("content-length", "0")
    return int(given) if given.isdigit() else LARGEST_BODY + 1


def _bounded(receive: Receive) -> Receive:
    """Counts what comes without a length (chunked), and hangs up where it is too much."""
    seen = 0

    async def receive_bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > LARGEST_BODY else message

    return receive_bounded


def _refuse(status: int, why: str) -> Response:
    return PlainTextResponse(f"vlmerge: {why}\n", status_code=status)
