"""The store: writing a run's record, and reading it.

Written at ask (a generation's genomes), at each finished candidate (trial, answers, scores: one transaction) and at tell. A
candidate in a race is written with each block of questions that it has answered.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmerge.atomic import put
from vlmerge.errors import RunFolderError
from vlmerge.store.file import TABLES, connect, damaged, not_a_run
from vlmerge.store.moved import moved, moved_text
from vlmerge.store.records import AnswerRecord, Fitness, Generation, ModelRecord, QuestionRecord, Split, TaskRecord, Trial
from vlmerge.types import SCHEMA, Genome

CONFIGS = ("config", "config_asked")
"""Keys whose values are YAML."""


class Store:
    """A run's SQLite file. Open it with `create`, `open` or `read_only`; close it, or use it in a `with`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection
        self._connection.row_factory = sqlite3.Row
        self._depth = 0

    @classmethod
    def create(cls, path: Path) -> Store:
        """Makes a new store; the tables appear in one transaction, so a killed creation leaves an empty file at most."""
        store = cls(connect(path), path)
        with store.transaction():
            if not store._tables():
                for statement in TABLES.strip().split(";\n"):
                    store._connection.execute(statement)
                store._set("schema", SCHEMA)
        return store

    @classmethod
    def open(cls, path: Path) -> Store:
        """Opens an existing store for going on."""
        if not path.is_file():
            raise not_a_run(path)
        store = cls(connect(path), path)
        store._check_schema()
        return store

    @classmethod
    def read_only(cls, path: Path) -> Store:
        """Opens an existing store for looking, also while another process writes to it."""
        if not path.is_file():
            raise not_a_run(path)
        try:
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30, isolation_level=None)
            store = cls(connection, path)
            store._check_schema()
        except sqlite3.DatabaseError as error:
            raise damaged(path, error) from error
        return store

    def close(self) -> None:
        """Closes the file; the write-ahead log is folded in by the last connection."""
        self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Generator[None]:
        """All or nothing. Nested transactions join the outer one."""
        if self._depth == 0:
            self._connection.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                self._connection.execute("ROLLBACK")
            raise
        self._depth -= 1
        if self._depth == 0:
            self._connection.execute("COMMIT")

    def snapshot(self, path: Path) -> None:
        """Writes a whole copy of the store beside `path` and renames it there (for folders that cannot hold a live store)."""
        partial = path.with_name(f".{path.name}.partial")
        partial.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(partial)) as copy:
            self._connection.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
        put(partial, path)

    # ── meta ──

    def get(self, key: str, default: Any = None) -> Any:
        """A JSON value by key. Keys in use: schema, config (the run's YAML), standing, left_out, holdout_views, finished, …"""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row["value"])

    def set(self, key: str, value: Any) -> None:
        """Writes a JSON value."""
        with self.transaction():
            self._set(key, value)

    def relocate(self, old: str, new: str) -> None:
        """Names what lies in the folder `old` as lying in `new`: in the run's models, recipes and settings, all or nothing."""
        execute = self._connection.execute
        with self.transaction():
            for model in self.models():
                name, path = moved(model.name, old, new), moved(model.path, old, new)
                execute("UPDATE models SET name = ?, path = ? WHERE name = ?", (name, path, model.name))
                execute("UPDATE models SET label = ? WHERE label = ?", (name, model.name))
            for row in execute("SELECT trial, recipe FROM trials").fetchall():
                execute("UPDATE trials SET recipe = ? WHERE trial = ?", (moved_text(row["recipe"], old, new), row["trial"]))
            for row in execute("SELECT key, value FROM meta").fetchall():
                value = json.loads(row["value"])
                self._set(row["key"], moved_text(value, old, new) if row["key"] in CONFIGS else moved(value, old, new))

    # ── what a run is made of ──

    def record_setting(
        self,
        models: Sequence[ModelRecord],
        tasks: Sequence[TaskRecord],
        questions: Sequence[QuestionRecord],
        thumbnails: Mapping[str, tuple[str, bytes]],
        meta: Mapping[str, Any],
    ) -> None:
        """Writes models, tasks, questions and thumbnails (digest → origin, JPEG bytes), once, in one transaction."""
        execute = self._connection.executemany
        with self.transaction():
            execute(
                "INSERT INTO models VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                [
                    (m.name, i, m.label, m.is_host, m.is_base, m.path, m.revision, m.fingerprint, m.licence, m.family,
                     m.parameters)
                    for i, m in enumerate(models)
                ],
            )  # fmt: skip
            execute(
                "INSERT INTO tasks VALUES (?,?,?,?,?,?,?,?,?)",
                [
                    (t.split, t.task, i, t.metric, t.weight, t.label, t.decoding, t.prompt, t.source)
                    for i, t in enumerate(tasks)
                ],
            )
            execute(
                "INSERT INTO questions VALUES (?,?,?,?,?,?,?,?,?)",
                [
                    (q.split, q.task, q.question, i, q.text, _json(q.references), q.kind, q.group, _json(q.pictures))
                    for i, q in enumerate(questions)
                ],
            )
            execute("INSERT INTO pictures VALUES (?,?,?)", [(d, origin, data) for d, (origin, data) in thumbnails.items()])
            for key, value in meta.items():
                self._set(key, value)

    def models(self) -> list[ModelRecord]:
        """The models, in the recipe's order."""
        rows = self._connection.execute("SELECT * FROM models ORDER BY position")
        records = [ModelRecord(**_fields(row, "position")) for row in rows]
        return [replace(record, is_host=bool(record.is_host), is_base=bool(record.is_base)) for record in records]

    def tasks(self, split: Split | None = None) -> list[TaskRecord]:
        """The tasks, in the run's order."""
        rows = self._connection.execute("SELECT * FROM tasks ORDER BY position")
        return [TaskRecord(**_fields(row, "position")) for row in rows if split in (None, row["split"])]

    def questions(self, split: Split | None = None, task: str | None = None) -> list[QuestionRecord]:
        """The questions, in the order in which they are asked."""
        return [
            QuestionRecord(
                split=row["split"],
                task=row["task"],
                question=row["question"],
                text=row["text"],
                references=tuple(json.loads(row["reference_answers"])),
                kind=row["kind"],
                group=row["picture_group"],
                pictures=tuple(json.loads(row["pictures"])),
            )
            for row in self._connection.execute("SELECT * FROM questions ORDER BY position")
            if split in (None, row["split"]) and task in (None, row["task"])
        ]

    def thumbnail(self, digest: str) -> bytes:
        """JPEG bytes of a picture, at most 256 pixels on its longer side."""
        return self._connection.execute("SELECT thumbnail FROM pictures WHERE digest = ?", (digest,)).fetchone()["thumbnail"]

    def picture_origin(self, digest: str) -> str:
        """Where a picture came from: a path, or a row of a table."""
        return self._connection.execute("SELECT origin FROM pictures WHERE digest = ?", (digest,)).fetchone()["origin"]

    # ── the loop ──

    def record_ask(self, stage: int, generation: int, genomes: Sequence[Genome]) -> None:
        """Writes what the optimizer asked for, before any of it is evaluated."""
        with self.transaction():
            self._connection.execute(
                "INSERT INTO generations (stage, generation, genomes) VALUES (?,?,?)", (stage, generation, _json(genomes))
            )

    def record_tell(
        self, stage: int, generation: int, fitness: Sequence[Fitness | None], mean: Genome, sigma: float, seconds: float
    ) -> None:
        """Writes what the optimizer was told; None stands for a failed candidate."""
        with self.transaction():
            self._connection.execute(
                "UPDATE generations SET fitness = ?, mean = ?, sigma = ?, seconds = ? WHERE stage = ? AND generation = ?",
                (_json(fitness), _json(mean), sigma, seconds, stage, generation),
            )

    def generations(self, stage: int | None = None) -> list[Generation]:
        """All generations that were asked for, in order."""
        rows = self._connection.execute("SELECT * FROM generations ORDER BY stage, generation")
        return [
            Generation(
                stage=row["stage"],
                generation=row["generation"],
                genomes=tuple(tuple(genome) for genome in json.loads(row["genomes"])),
                fitness=None if row["fitness"] is None else _fitness(json.loads(row["fitness"])),
                mean=None if row["mean"] is None else tuple(json.loads(row["mean"])),
                sigma=row["sigma"],
                seconds=row["seconds"],
            )
            for row in rows
            if stage in (None, row["stage"])
        ]

    def record_trial(self, trial: Trial, answers: Sequence[AnswerRecord] = (), places: Sequence[int] = ()) -> None:
        """Writes a candidate with its answers and scores, all or nothing; `places` as in `record_answers`."""
        with self.transaction():
            self._connection.execute(
                "INSERT INTO trials VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    trial.trial, trial.label, trial.kind, trial.stage, trial.generation, trial.position,
                    None if trial.genome is None else _json(trial.genome), trial.recipe, trial.status, trial.reason,
                    _json(dict(trial.seconds)), trial.finished_at,
                ),
            )  # fmt: skip
            self.record_answers(trial.trial, answers, places)

    def update_trial(self, trial: Trial, answers: Sequence[AnswerRecord] = (), places: Sequence[int] = ()) -> None:
        """Writes what became of a candidate that was recorded before its end, with further answers, all or nothing.

        Args:
            trial: Status, reason, seconds and time of it are written.
            answers: Further answers.
            places: As in `record_answers`.
        """
        with self.transaction():
            self._connection.execute(
                "UPDATE trials SET status = ?, reason = ?, seconds = ?, finished_at = ? WHERE trial = ?",
                (trial.status, trial.reason, _json(dict(trial.seconds)), trial.finished_at, trial.trial),
            )
            self.record_answers(trial.trial, answers, places)

    def record_answers(self, trial: int, answers: Sequence[AnswerRecord], places: Sequence[int] = ()) -> None:
        """Adds answers of a trial on further questions (validation, holdout), all or nothing.

        Args:
            trial: Its number.
            answers: Of questions that it has not answered yet.
            places: Of each answer, its question's place among those of the set; empty: all of them, in order.
        """
        order = places or range(len(answers))
        with self.transaction():
            self._connection.executemany(
                "INSERT INTO answers VALUES (?,?,?,?,?,?,?,?)",
                [
                    (trial, a.split, a.task, place, a.question, a.text, a.tokens, a.score)
                    for place, a in zip(order, answers, strict=True)
                ],
            )

    def next_trial(self) -> int:
        """The number that the next trial gets."""
        return self._connection.execute("SELECT COALESCE(MAX(trial), 0) + 1 AS n FROM trials").fetchone()["n"]

    def trials(self) -> list[Trial]:
        """All trials, in the order of evaluation."""
        return [_trial(row) for row in self._connection.execute("SELECT * FROM trials ORDER BY trial")]

    def trial(self, key: int | str) -> Trial | None:
        """One trial, by number or by label."""
        column = "trial" if isinstance(key, int) else "label"
        row = self._connection.execute(f"SELECT * FROM trials WHERE {column} = ?", (key,)).fetchone()
        return None if row is None else _trial(row)

    def answers(self, trial: int, split: Split, task: str | None = None) -> list[AnswerRecord]:
        """A trial's answers on one set, by task and then in the order of the questions."""
        rows = self._connection.execute(
            "SELECT * FROM answers WHERE trial = ? AND split = ? ORDER BY task, position", (trial, split)
        )
        return [AnswerRecord(**_fields(row, "trial", "position")) for row in rows if task in (None, row["task"])]

    def answers_of_recipe(self, recipe: str, split: Split) -> list[AnswerRecord]:
        """What any trial of a recipe that did not fail has answered on a set, in the order of the trials."""
        rows = self._connection.execute(
            "SELECT answers.* FROM answers JOIN trials USING (trial) WHERE recipe = ? AND split = ? AND status != 'failed' "
            "ORDER BY trial, task, position",
            (recipe, split),
        )
        return [AnswerRecord(**_fields(row, "trial", "position")) for row in rows]

    def has_answers(self, trial: int, split: Split) -> bool:
        """Whether the trial was scored on that set: of the search set a part was asked of whoever a race stopped."""
        found = self._connection.execute(
            "SELECT 1 FROM answers JOIN trials USING (trial) WHERE trial = ? AND split = ? "
            "AND NOT (split = 'search' AND status IN ('racing', 'stopped', 'sampled')) LIMIT 1",
            (trial, split),
        )
        return found.fetchone() is not None

    def task_means(self, split: Split) -> dict[int, dict[str, tuple[int, float]]]:
        """Trial → task → how many questions of it were answered, and their mean score."""
        found: dict[int, dict[str, tuple[int, float]]] = {}
        asked = "SELECT trial, task, COUNT(*) AS count, AVG(score) AS mean FROM answers WHERE split = ? GROUP BY trial, task"
        for row in self._connection.execute(asked, (split,)):
            found.setdefault(row["trial"], {})[row["task"]] = (row["count"], row["mean"])
        return found

    def scores(self, split: Split) -> Iterator[tuple[int, str, str, float]]:
        """(trial, task, question, score) of every answer on a set."""
        query = "SELECT trial, task, question, score FROM answers WHERE split = ?"
        for row in self._connection.execute(query, (split,)):
            yield row["trial"], row["task"], row["question"], row["score"]

    def stopped(self, stage: int, generation: int) -> frozenset[int]:
        """Positions of a generation's candidates that a race stopped: what the optimizer was told of them is no score."""
        query = "SELECT position FROM trials WHERE stage = ? AND generation = ? AND status = 'stopped'"
        return frozenset(row["position"] for row in self._connection.execute(query, (stage, generation)))

    def answers_by_trial(self, split: Split) -> dict[int, int]:
        """Trial → how many answers it gave on a set; without those that gave none."""
        query = "SELECT trial, COUNT(*) AS n FROM answers WHERE split = ? GROUP BY trial ORDER BY trial"
        return {row["trial"]: row["n"] for row in self._connection.execute(query, (split,))}

    # ── inside ──

    def _set(self, key: str, value: Any) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?,?)", (key, _json(value)))

    def _tables(self) -> list[str]:
        return [row["name"] for row in self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]

    def _check_schema(self) -> None:
        try:
            schema = self.get("schema") if "meta" in self._tables() else None
        except sqlite3.DatabaseError as error:
            raise damaged(self.path, error) from error
        if schema != SCHEMA:
            raise RunFolderError(
                "this store was not written by this version",
                where=str(self.path),
                expected=f"schema {SCHEMA}",
                found=f"schema {schema}",
                remedy="use the version of vlmerge that made it, or another folder",
            )


def _fitness(told: list[float | list[float] | None]) -> tuple[Fitness | None, ...]:
    return tuple(tuple(each) if isinstance(each, list) else each for each in told)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _fields(row: sqlite3.Row, *left_out: str) -> dict[str, Any]:
    return {key: row[key] for key in row.keys() if key not in left_out}  # noqa: SIM118 - a Row iterates over values


def _trial(row: sqlite3.Row) -> Trial:
    fields: dict[str, Any] = _fields(row)
    genome = None if row["genome"] is None else tuple(json.loads(row["genome"]))
    fields |= {"genome": genome, "seconds": json.loads(row["seconds"])}
    return Trial(**fields)
