"""A small server that speaks OpenAI's chat protocol, on this machine, and can be told to fail."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Trouble:
    """What one request gets instead of an answer."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    silence: float = 0.0
    broken: bool = False


Answering = Callable[[list[dict[str, Any]]], "str | Trouble | dict[str, Any]"]


@dataclass
class ChatServer:
    """The server as a test sees it.

    Attributes:
        answer: The conversation → what is said; or the trouble that it gets into, or the whole choice.
        models: What /v1/models lists.
        key: A key that it asks for.
        troubles: Used up one by one, a request each.
        asked: The bodies of all requests that were answered, in order of arrival.
        tries: All requests, answered or not.
        most: Most requests that were there at one time.
    """

    answer: Answering
    models: tuple[str, ...] = ("tiny",)
    key: str | None = None
    pause: float = 0.0
    troubles: list[Trouble] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    tries: int = 0
    most: int = 0
    port: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def come(self) -> Trouble | None:
        with self._lock:
            self.tries += 1
            self._now += 1
            self.most = max(self.most, self._now)
            return self.troubles.pop(0) if self.troubles else None

    def go(self) -> None:
        with self._lock:
            self._now -= 1

    def note(self, body: dict[str, Any]) -> None:
        with self._lock:
            self.asked.append(body)


def last_text(messages: list[dict[str, Any]]) -> str:
    """The text of the last message, pictures aside."""
    content = messages[-1]["content"]
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")


def shown(messages: list[dict[str, Any]]) -> list[bytes]:
    """The files of the pictures in the last message."""
    content = messages[-1]["content"]
    urls = [] if isinstance(content, str) else [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return [base64.b64decode(url.partition(";base64,")[2], validate=True) for url in urls]


@contextmanager
def serving(server: ChatServer) -> Generator[ChatServer]:
    """Runs it on a free port while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            found = self.path == "/v1/models"
            self.send(200 if found else 404, {"data": [{"id": name} for name in server.models]} if found else {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            trouble = server.come()
            try:
                self.respond(body, trouble)
            except (BrokenPipeError, ConnectionResetError):
                pass  # The visitor had no patience.
            finally:
                server.go()

        def respond(self, body: dict[str, Any], trouble: Trouble | None) -> None:
            time.sleep(server.pause + (trouble.silence if trouble else 0))
            if trouble is not None and trouble.broken:
                self.connection.close()
                return
            if trouble is not None and trouble.status != 200:
                self.send(trouble.status, trouble.body.encode(), trouble.headers)
                return
            if self.path != "/v1/chat/completions":
                self.send(404, {"detail": "Not Found"})
                return
            if server.key is not None and self.headers["Authorization"] != f"Bearer {server.key}":
                self.send(401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})
                return
            if body["model"] not in server.models:
                self.send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
                return
            server.note(body)
            said = server.answer(body["messages"])
            if isinstance(said, Trouble):
                self.send(said.status, said.body.encode(), said.headers)
                return
            whole = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 7, "completion_tokens": 3}
            self.send(200, {"choices": [said if isinstance(said, dict) else whole], "usage": usage})

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    server.port = listening.server_address[1]
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
