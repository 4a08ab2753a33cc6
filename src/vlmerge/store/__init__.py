"""The record of a run: one SQLite file that survives a crash. Everything else in a run folder can be made again from it."""

from __future__ import annotations

from vlmerge.store.file import STORE_NAME
from vlmerge.store.moved import moved_text
from vlmerge.store.records import (
    SPLITS,
    AnswerRecord,
    Fitness,
    Generation,
    Kind,
    ModelRecord,
    QuestionRecord,
    Split,
    Status,
    TaskRecord,
    Trial,
    label_of,
)
from vlmerge.store.store import Store

__all__ = [
    "SPLITS",
    "STORE_NAME",
    "AnswerRecord",
    "Fitness",
    "Generation",
    "Kind",
    "ModelRecord",
    "QuestionRecord",
    "Split",
    "Status",
    "Store",
    "TaskRecord",
    "Trial",
    "label_of",
    "moved_text",
]
