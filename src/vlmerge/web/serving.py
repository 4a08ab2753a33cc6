"""A site on 127.0.0.1 until Ctrl-C: its port, its token, the address for the person, and the browser."""

from __future__ import annotations

import contextlib
import socket
import webbrowser
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from vlmerge.errors import ConfigError
from vlmerge.web.gate import TOKEN, Gate, new_token

ADDRESS = "127.0.0.1"
TRIED_PORTS = 20
"""Ports that are tried from the wanted one on, where nobody named one."""


def serve(
    site: Callable[[str], ASGIApp],
    *,
    port: int | None,
    first_port: int,
    browser: bool,
    say: Callable[[str], None],
    waiting: str | None = None,
) -> None:
    """Serves a site until it is interrupted.

    Args:
        site: Token → the site.
        port: Named by the person; 0: any that is free.
        first_port: Where to begin where none is named.
        browser: Whether to open one.
        say: Tells the person a line.
        waiting: What the page waits for, where it has nothing to show yet.

    Raises:
        ConfigError: The port is taken.
    """
    with _bound(port, first_port) as door:
        number = door.getsockname()[1]
        token = new_token()
        address = f"http://{ADDRESS}:{number}/?{TOKEN}={token}"
        say(f"open {address}")
        if waiting is not None:
            say(waiting)
        say("Ctrl-C ends this server; a run goes on without it")
        if browser:
            with contextlib.suppress(webbrowser.Error):
                webbrowser.open(address)
        settings = uvicorn.Config(
            Gate(site(token), token, number),
            log_level="warning",
            access_log=False,  # addresses hold questions
            lifespan="off",
            proxy_headers=False,  # nobody stands between, whatever a header claims
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(settings)
        with contextlib.suppress(KeyboardInterrupt):  # That is how it ends.
            server.run(sockets=[door])


def _bound(port: int | None, first_port: int) -> socket.socket:
    """A listening socket; without a wish the first free port from `first_port` on."""
    wanted = range(first_port, first_port + TRIED_PORTS) if port is None else (port,)
    reason = ""
    for number in wanted:
        door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((ADDRESS, number))
            door.listen(128)
        except OSError as error:
            door.close()
            reason = str(error)
        else:
            return door
    raise ConfigError(
        "the port is taken" if port is not None else "no port is free",
        where=f"{ADDRESS}:{wanted[0]}",
        expected="a port that nobody listens on",
        found=reason,
        remedy="name another one with --port, or let vlmerge choose with --port 0",
    )
