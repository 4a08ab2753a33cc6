"""One request to a chat endpoint, with patience: what may pass by itself is tried again, everything else is said in words.

The protocol is OpenAI's `POST /chat/completions` (and `GET /models`), which vLLM, llama.cpp, Ollama, SGLang and most commercial
models speak. Redirects are not followed, so that a key goes nowhere but to the address that was named.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, cast

from vlmerge.endpoints.address import TAIL, Endpoint
from vlmerge.endpoints.pictures import data_url
from vlmerge.errors import EndpointError
from vlmerge.types import Picture

PASSING = (408, 409, 425, 429)
"""Statuses below 500 that a second try may mend."""

OF_ONE_REQUEST = (400, 413, 422)
"""Statuses that speak of what was sent, not of who sent it or where to."""

FIRST_PAUSE = 1.0
"""Seconds before the second try; doubled before each further one, half of it by chance."""

LONGEST_PAUSE = 60.0
"""Seconds; also of what a server's Retry-After may ask for."""

LARGEST_REPLY = 16 << 20
"""Bytes."""

SHOWN = 500
"""Characters of what a server says of an error."""


@dataclass(frozen=True)
class Turn:
    """One message of a conversation; its pictures stand before its text."""

    role: str
    text: str
    pictures: tuple[Picture, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As the protocol has it."""
        if not self.pictures:
            return {"role": self.role, "content": self.text}
        shown = [{"type": "image_url", "image_url": {"url": data_url(picture)}} for picture in self.pictures]
        return {"role": self.role, "content": [*shown, {"type": "text", "text": self.text}]}


@dataclass(frozen=True)
class Request:
    """What is asked.

    Attributes:
        turns: The conversation, the last turn the user's.
        max_tokens: Longest answer.
        temperature: None: the server's own.
        top_p: None: the server's own.
        seed: None: none is sent.
        what: How to name it to a person.
    """

    turns: tuple[Turn, ...]
    max_tokens: int
    temperature: float | None = 0.0
    top_p: float | None = None
    seed: int | None = None
    what: str = ""

    def options(self) -> dict[str, Any]:
        """What goes beside the messages."""
        chosen = {"temperature": self.temperature, "top_p": self.top_p, "seed": self.seed}
        return {"max_tokens": self.max_tokens, **{name: value for name, value in chosen.items() if value is not None}}


@dataclass(frozen=True)
class Reply:
    """What was said.

    Attributes:
        text: The answer; a refusal in words is one.
        prompt_tokens: As the server counts them, 0 where it does not say.
        tokens: The same of the answer.
        cut: Whether the longest answer was reached.
        withheld: Why there is no answer at all, in words; empty where there is one, which may itself be empty.
    """

    text: str
    prompt_tokens: int = 0
    tokens: int = 0
    cut: bool = False
    withheld: str = ""


class Refused(EndpointError):  # noqa: N818 - an answer, too
    """A server that does not take this one request; it may take others: a prompt that is too long, a filter."""


class Silent(EndpointError):  # noqa: N818 - said as the person sees it
    """A server that was asked and gave no answer, after all attempts: whether it worked on one, nobody knows."""


class Unanswered(Exception):  # noqa: N818 - never leaves this package
    """A try that came to nothing and may be repeated."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        self.reason, self.pause = reason, pause
        super().__init__(reason)


class _Stays(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """A redirect is an answer like another one."""
        return


def complete(endpoint: Endpoint, request: Request, given_up: threading.Event | None = None) -> Reply:
    """Asks once, trying again after 429, 5xx, timeouts and broken connections.

    Args:
        endpoint: Who is asked.
        request: What is asked.
        given_up: Set by somebody else when waiting is no use any more.

    Raises:
        Refused: The server does not take this request.
        Silent: No answer after all attempts.
        EndpointError: Nobody there, a key that is refused, no such model, not this protocol.
    """
    payload = {"model": endpoint.model, "messages": [turn.plain() for turn in request.turns], **request.options()}
    event = given_up or threading.Event()
    reason, tried = "", 0
    while tried < endpoint.attempts:
        tried += 1
        try:
            return _reply(_post(endpoint, payload, request), endpoint)
        except _OtherName:
            payload["max_completion_tokens"] = payload.pop("max_tokens")
            tried -= 1
        except Unanswered as failure:
            reason = failure.reason
            pause = FIRST_PAUSE * 2 ** (tried - 1) * random.uniform(0.5, 1.0) if failure.pause is None else failure.pause
            if tried < endpoint.attempts and event.wait(min(pause, LONGEST_PAUSE)):
                break
    raise Silent(
        f"a server gave no answer in {tried} attempts",
        where=_place(endpoint, request),
        expected=f"an answer within {endpoint.timeout:g} s",
        found=reason,
        remedy="start again when it answers: what it has said so far is kept. A smaller `parallel` asks less of it at a time",
    )


def served_models(url: str, key: str | None, timeout: float = 30.0) -> list[str]:
    """Names of the models that a server has, as it lists them.

    Raises:
        EndpointError: It cannot be asked, or does not list any.
    """
    endpoint = Endpoint(url, "", key, timeout)
    try:
        found = _open(endpoint, urllib.request.Request(f"{url}/models", headers=_headers(endpoint)), "its list of models")
    except Unanswered as failure:
        found = failure.reason
    listed: object = cast("dict[str, object]", found).get("data") if isinstance(found, dict) else None
    names = [
        str(cast("dict[str, object]", each).get("id"))
        for each in (cast("list[object]", listed) if isinstance(listed, list) else [])
        if isinstance(each, dict)
    ]
    if not names:
        raise EndpointError(
            "the server does not say which models it has",
            where=f"{url}/models",
            found=endpoint.hide(str(cast("object", found)))[:200],
            remedy="name the model",
        )
    return names


class _OtherName(Exception):  # noqa: N818 - an answer, not an error
    """The server wants the longest answer by its other name."""


def _post(endpoint: Endpoint, payload: dict[str, Any], request: Request) -> Any:
    body = json.dumps(payload, ensure_ascii=False).encode()
    asked = urllib.request.Request(f"{endpoint.url}{TAIL}", data=body, headers=_headers(endpoint), method="POST")
    return _open(endpoint, asked, request.what, old_name="max_tokens" in payload)


def _headers(endpoint: Endpoint) -> dict[str, str]:
    key = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
    return {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "vlmerge", **key}


def _open(endpoint: Endpoint, request: urllib.request.Request, what: str, *, old_name: bool = False) -> Any:
    """The JSON that comes back; Unanswered where a second try may help."""
    proxies = [urllib.request.ProxyHandler({})] if endpoint.is_here else []
    opener = urllib.request.build_opener(_Stays(), *proxies)
    place = f"{endpoint}{f', {what}' if what else ''}"
    try:
        with opener.open(request, timeout=endpoint.timeout) as response:
            data: bytes = response.read(LARGEST_REPLY)
    except urllib.error.HTTPError as error:
        with error:
            said = endpoint.hide(_message(error))[:SHOWN]
        if error.code == 400 and old_name and "max_completion_tokens" in said:
            raise _OtherName from error
        raise _refusal(error, said, place, endpoint.hide(error.headers.get("Location", "elsewhere"))) from error
    except urllib.error.URLError as error:
        raise _unreached(error.reason, place) from error
    except (http.client.HTTPException, OSError) as error:
        raise _unreached(error, place) from error
    try:
        return json.loads(data)
    except ValueError as error:
        raise _not_the_protocol(place, endpoint.hide(data.decode(errors="replace"))[:200]) from error


def _message(error: urllib.error.HTTPError) -> str:
    """What a server says of an error, in one line."""
    try:
        data = error.read(LARGEST_REPLY)
    except (http.client.HTTPException, OSError):
        data = b""
    text = data.decode(errors="replace")
    try:
        found: Any = json.loads(text)
        inner: Any = found.get("error") or found
        said = inner if isinstance(inner, str) else inner.get("message") or inner.get("detail") or inner.get("code")
        code = None if isinstance(inner, str) else inner.get("code")
        text = str(said or text) + (f" ({code})" if isinstance(code, str) and code not in str(said) else "")
    except (ValueError, AttributeError):
        pass
    return " ".join(text.split()) or str(error.reason)


def _refusal(error: urllib.error.HTTPError, said: str, place: str, target: str) -> Exception:
    found = f"{error.code}: {said}"
    if (error.code in PASSING and "insufficient_quota" not in said) or error.code >= 500:
        return Unanswered(found, _wanted_pause(error))
    if error.code in (401, 403):
        what, remedy = (
            "a server refuses the key",
            ("export the key in an environment variable and name that (`api_key_env` of a judge, --api-key-env)"),
        )
        return EndpointError(what, where=place, expected="a key that it accepts", found=found, remedy=remedy)
    if error.code == 404:
        return EndpointError(
            "a server has no such address or no such model",
            where=place,
            expected="an address that ends where /chat/completions begins (most end in /v1), and a model that it has",
            found=found,
            remedy="check both; `curl ADDRESS/models` lists the models",
        )
    if 300 <= error.code < 400:
        return EndpointError(
            "a server sends its visitors elsewhere, and a key is not taken there",
            where=place,
            found=f"{error.code}: {target}",
            remedy="name the address that it sends to, if it is the right one",
        )
    what = "a server refuses the request"
    if error.code not in OF_ONE_REQUEST:
        remedy = "its quota is used up: start again when there is more" if error.code == 429 else "what it says is the reason"
        return EndpointError(what, where=place, found=found, remedy=remedy)
    remedy = "what it says is the reason: often a prompt that is too long, or pictures for a model without eyes"
    return Refused(what, where=place, found=found, remedy=remedy)


def _wanted_pause(error: urllib.error.HTTPError) -> float | None:
    try:
        return max(0.0, float(error.headers.get("Retry-After", "")))
    except ValueError:
        return None


def _unreached(error: object, place: str) -> Exception:
    if isinstance(error, TimeoutError):
        return Unanswered("no answer in time")
    if isinstance(error, ConnectionRefusedError):
        return EndpointError(
            "nobody answers at a server's address",
            where=place,
            expected="a server that runs",
            found="connection refused",
            remedy="start it, or correct address and port",
        )
    if isinstance(error, socket.gaierror):
        remedy = "correct the address; or is this machine offline?"
        return EndpointError("a server's name is not known", where=place, found=str(error), remedy=remedy)
    if isinstance(error, ssl.SSLError):
        remedy = "correct the address (http:// and https:// are not the same), or mend its certificate"
        return EndpointError("no safe connection to a server", where=place, found=str(error), remedy=remedy)
    return Unanswered(f"the connection broke: {error or type(error).__name__}")


def _not_the_protocol(place: str, found: str) -> EndpointError:
    return EndpointError(
        "a server does not speak OpenAI's chat protocol",
        where=place,
        expected='JSON with {"choices": [{"message": {"content": …}}]}',
        found=found,
        remedy="name the address of a chat endpoint; most end in /v1",
    )


def _reply(found: Any, endpoint: Endpoint) -> Reply:
    try:
        choice = found["choices"][0]
        message = choice["message"]
        content: Any = message.get("content")
        if isinstance(content, list):
            content = "".join(str(part.get("text", "")) for part in cast("list[dict[str, Any]]", content))
        content = content or message.get("refusal") or ""
        usage = cast("dict[str, Any]", found.get("usage") or {})
        prompt_tokens, tokens = (int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
        cut = choice.get("finish_reason") == "length"
        # Half of a character pair can stand in JSON; nothing could keep it.
        text = str(content).encode("utf-8", "replace").decode()
        return Reply(text, prompt_tokens, tokens, cut, "" if text else _why_withheld(choice, message))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        snippet = endpoint.hide(json.dumps(found, ensure_ascii=False))[:200]
        raise _not_the_protocol(str(endpoint), snippet) from error


def _why_withheld(choice: dict[str, Any], message: dict[str, Any]) -> str:
    """Why a message without text is no answer; an empty text is one, and so is a thought that reached the longest answer."""
    reason = choice.get("finish_reason")
    if message.get("tool_calls") or message.get("function_call"):
        return "it calls a tool instead of answering"
    if reason == "content_filter":
        return "its content filter holds the answer back"
    if message.get("content") is None and reason != "length":
        return f"it sends no text (content: null, finish_reason: {reason})"
    return ""


def _place(endpoint: Endpoint, request: Request) -> str:
    return f"{endpoint}{f', {request.what}' if request.what else ''}"
