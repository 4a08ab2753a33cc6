"""Pictures and questions for systems that answer elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Four questions about two pictures, one of them turned by its EXIF."""
    Image.new("RGB", (8, 6), "red").save(tmp_path / "red.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4), "blue").save(tmp_path / "blue.jpg", exif=exif)
    rows = [
        {"id": "a", "image": "red.png", "question": "何色ですか?", "answer": "赤です。"},
        {"id": "b", "image": "red.png", "question": "What colour?", "answer": "red"},
        {"id": "c", "image": "blue.jpg", "question": "青いですか?", "answer": "はい、青いです。"},
        {"id": "d", "question": "1+1は?", "answer": "2です"},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    return path
