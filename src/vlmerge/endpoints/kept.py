"""What servers have said, in a small SQLite file in vlmerge's cache: what was interrupted goes on, a verdict is paid once."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from vlmerge.cache import cache_folder
from vlmerge.endpoints.address import Endpoint
from vlmerge.endpoints.chat import Reply, Request
from vlmerge.errors import EndpointError

FILE = "replies.sqlite"

TABLE = """CREATE TABLE IF NOT EXISTS replies (
  key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL, text TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
  tokens INTEGER NOT NULL, cut INTEGER NOT NULL, said_at TEXT NOT NULL) WITHOUT ROWID"""


def key_of(endpoint: Endpoint, request: Request) -> str:
    """Equal for equal questions alone: address, model, options, every text, and the pixels of every picture."""
    turns = [[turn.role, turn.text, [picture.digest for picture in turn.pictures]] for turn in request.turns]
    plain = json.dumps([endpoint.url, endpoint.model, request.options(), turns], sort_keys=True)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()


class Kept:
    """The file. Opened for each step, so that several processes can use it. What was withheld is remembered, not written.

    Args:
        path: Default: `replies.sqlite` in vlmerge's cache.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_folder() / FILE
        self._withheld: dict[str, Reply] = {}

    def find(self, key: str) -> Reply | None:
        """What was said to it, if it was asked before."""
        if key in self._withheld:
            return self._withheld[key]
        if not self.path.is_file():
            return None
        with self._open() as connection:
            row = connection.execute("SELECT text, prompt_tokens, tokens, cut FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else Reply(row[0], row[1], row[2], bool(row[3]))

    def keep(self, key: str, endpoint: Endpoint, reply: Reply) -> None:
        """Writes it down; the last one counts. What had no answer the next process asks again: a filter may change."""
        if reply.withheld:
            self._withheld[key] = reply
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        row = (key, endpoint.url, endpoint.model, reply.text, reply.prompt_tokens, reply.tokens, int(reply.cut), now)
        with self._open() as connection:
            connection.execute("INSERT OR REPLACE INTO replies VALUES (?,?,?,?,?,?,?,?)", row)

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        connection = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            connection.execute(TABLE)
            yield connection
        except (sqlite3.Error, OSError) as error:
            raise EndpointError(
                "what servers have said cannot be kept",
                where=str(self.path),
                expected="an SQLite file that can be written",
                found=str(error),
                remedy="remove the file, or name another folder in VLMERGE_CACHE",
            ) from error
        finally:
            if connection is not None:
                connection.close()
