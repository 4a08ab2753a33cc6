"""Where a server is, what it is called there, and the key that it asks for: taken from the environment, never kept."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from vlmerge.errors import EndpointError

TAIL = "/chat/completions"
HERE = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Endpoint:
    """A model behind an address.

    Attributes:
        url: Address up to where `/chat/completions` begins, without a slash at its end.
        model: The model's name there.
        key: Sent as a bearer token; not shown, not kept.
        timeout: Seconds of silence after which a request has failed.
        attempts: How often a request is tried in all.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 120.0
    attempts: int = 6

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine: then no proxy stands between."""
        return urlsplit(self.url).hostname in HERE

    def hide(self, text: str) -> str:
        """What a server says, without the key: some repeat it when they refuse it."""
        return text.replace(self.key, "(the key)") if self.key else text

    def __str__(self) -> str:
        return f"{self.model} at {self.url}"


def open_endpoint(url: str, model: str, *, key_env: str | None, timeout: float = 120.0) -> Endpoint:
    """An endpoint with its key. Nothing is asked yet.

    Args:
        url: Its address; `/chat/completions` at the end may be there or not.
        model: The model's name there.
        key_env: Name of the environment variable that holds the key; None: no key is sent.
        timeout: Seconds of silence after which a request has failed.

    Raises:
        EndpointError: No http(s) address; an environment variable that is not set.
    """
    key = None
    if key_env is not None:
        key = os.environ.get(key_env, "").strip()
        if not key:
            raise EndpointError(
                "the key for a server is not there",
                where=f"the environment variable {key_env}",
                expected=f"the key of {url}",
                found="nothing",
                remedy=f"export {key_env}=… in the shell that starts vlmerge; it is never written down",
            )
        if not key.isascii() or not key.isprintable():
            raise EndpointError(
                "the key for a server cannot be sent",
                where=f"the environment variable {key_env}",
                expected="a key in plain ASCII, on one line",
                remedy="copy the key again",
            )
    return Endpoint(check_address(url), model, key, timeout)


def check_address(url: str) -> str:
    """The address as it is used; raises EndpointError for one that cannot be."""
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, usable = urlsplit(""), False
    if parts.username or parts.password:
        raise EndpointError(
            "an address may not hold a name or a password",
            expected="an address that may be written down: run files and reports show it",
            remedy="take out what stands before the @, and name the environment variable that holds the key",
        )
    if not usable or parts.query or parts.fragment:
        # What stands behind may be a key: it is not repeated.
        shown = re.split(r"[?#]", url, maxsplit=1)[0]
        raise EndpointError(
            "this is no address of a server",
            expected="http://… or https://…, up to where /chat/completions begins; most end in /v1",
            found=shown if shown == url else f"{shown} and more behind it",
            remedy="for a server on this machine: http://127.0.0.1:8000/v1",
        )
    return url.strip().rstrip("/").removesuffix(TAIL).rstrip("/")
