"""The SQLite file of a run: its tables, how it is opened, and what is said of one that is not there or damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from vlmerge.errors import RunFolderError

STORE_NAME = "run.sqlite"

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE models (
  name TEXT PRIMARY KEY, position INTEGER NOT NULL, label TEXT NOT NULL, is_host INTEGER NOT NULL, is_base INTEGER NOT NULL,
  path TEXT NOT NULL, revision TEXT, fingerprint TEXT NOT NULL, licence TEXT, family TEXT NOT NULL,
  parameters INTEGER NOT NULL);
CREATE TABLE tasks (
  split TEXT NOT NULL, task TEXT NOT NULL, position INTEGER NOT NULL, metric TEXT NOT NULL, weight REAL NOT NULL, label TEXT,
  decoding TEXT NOT NULL, prompt TEXT NOT NULL, source TEXT NOT NULL, PRIMARY KEY (split, task)) WITHOUT ROWID;
CREATE TABLE questions (
  split TEXT NOT NULL, task TEXT NOT NULL, question TEXT NOT NULL, position INTEGER NOT NULL, text TEXT NOT NULL,
  reference_answers TEXT NOT NULL, kind TEXT, picture_group TEXT NOT NULL, pictures TEXT NOT NULL,
  PRIMARY KEY (split, task, question)) WITHOUT ROWID;
CREATE TABLE pictures (digest TEXT PRIMARY KEY, origin TEXT NOT NULL, thumbnail BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE generations (
  stage INTEGER NOT NULL, generation INTEGER NOT NULL, genomes TEXT NOT NULL, fitness TEXT, mean TEXT, sigma REAL, seconds REAL,
  PRIMARY KEY (stage, generation)) WITHOUT ROWID;
CREATE TABLE trials (
  trial INTEGER PRIMARY KEY, label TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, stage INTEGER, generation INTEGER,
  position INTEGER,
  genome TEXT, recipe TEXT NOT NULL, status TEXT NOT NULL, reason TEXT, seconds TEXT NOT NULL, finished_at TEXT NOT NULL);
CREATE TABLE answers (
  trial INTEGER NOT NULL REFERENCES trials, split TEXT NOT NULL, task TEXT NOT NULL, position INTEGER NOT NULL,
  question TEXT NOT NULL, text TEXT NOT NULL, tokens INTEGER NOT NULL, score REAL NOT NULL,
  PRIMARY KEY (trial, split, task, position)) WITHOUT ROWID;
"""


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise damaged(path, error) from error
    return connection


def not_a_run(path: Path) -> RunFolderError:
    return RunFolderError(
        "this is not a run folder",
        where=str(path.parent),
        expected=f"a folder with {path.name}",
        found="no such file",
        remedy="name the folder that `vlmerge evolve` printed",
    )


def damaged(path: Path, error: sqlite3.DatabaseError) -> RunFolderError:
    return RunFolderError(
        "the store cannot be read",
        where=str(path),
        expected="an SQLite database",
        found=str(error),
        remedy="restore it from a backup, or start in another folder",
    )
