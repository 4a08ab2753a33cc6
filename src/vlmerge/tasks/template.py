"""A folder to begin one's own task with: questions, the pictures that they are about, and a run file that says what is what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmerge.atomic import make_folder, write_text
from vlmerge.errors import TaskError

Colour = tuple[int, int, int]
RED: Colour = (200, 40, 40)
BLUE: Colour = (40, 80, 200)
GREEN: Colour = (40, 150, 70)

PICTURES: Mapping[str, tuple[Colour, Colour]] = {
    "red-blue.png": (RED, BLUE),
    "blue-green.png": (BLUE, GREEN),
    "green-red.png": (GREEN, RED),
}
"""Example pictures: the colours of their left and right half."""

SEARCHED: tuple[Mapping[str, Any], ...] = (
    {
        "id": "1",
        "image": "pictures/red-blue.png",
        "question": "左半分は何色ですか?",
        "answer": "左半分は赤色です。",
        "kind": "left",
    },
    {
        "id": "2",
        "image": "pictures/red-blue.png",
        "question": "右半分は何色ですか?",
        "answers": ["右半分は青色です。", "青です。"],
        "kind": "right",
    },
    {
        "id": "3",
        "image": "pictures/blue-green.png",
        "question": "左半分は何色ですか?",
        "answer": "左半分は青色です。",
        "kind": "left",
    },
)
HELD_OUT: tuple[Mapping[str, Any], ...] = (
    {
        "id": "1",
        "image": "pictures/green-red.png",
        "question": "左半分は何色ですか?",
        "answer": "左半分は緑色です。",
        "kind": "left",
    },
)

RUN = """\
# A run on questions of your own. The examples in this folder are read as they are; put yours in their place.
#
# questions.jsonl: one JSON object a line, with
#   image     path of the picture, relative to the file; `images: [...]` for several; left out for a question without one
#   question  as a person would ask it; the model's own chat template is put around it
#   answer    a good answer; `answers: [...]` for several, of which the best counts
#   id        unique within the file; left out everywhere, lines are numbered
#   kind      what sort of question it is (optional); `kinds: [left]` asks these alone
#   options   for multiple choice (optional): a list; `answer` is then one of them, or its letter, and `metric: jmmmu` scores it
# A parquet file with the same columns does as well. Look at it with: vlmerge tasks check questions.jsonl --against run.yaml
#
# A hundred questions about fifty pictures are a beginning; fewer, and chance decides who wins.

merge:
  models: [YOUR-VLM, A-LANGUAGE-MODEL, THEIR-BASE]   # hub ids or folders; the vision-language model first
  base_model: THEIR-BASE
  method: linear
  space: auto

tasks:
  - name: questions.jsonl
    metric: char_rougeL            # characters in common; rougeL_ja for Japanese words; `vlmerge tasks` lists all
    # fields: {question: question_ja, answer: answer_ja}   # ours: theirs, where your columns have other names

validation: {fraction: 0.25}       # of the pictures: what picks the winner. The search does not see it

holdout:                           # what is reported. Neither the search nor the choice of the winner sees it, so put other
  - name: holdout.jsonl            # pictures here. A picture in two sets is found by its pixels and refused
    metric: char_rougeL

search: {max_fevals: 160, seed: 1}
decoding: {max_new_tokens: 48}     # longest answer
"""


def write_template(folder: Path) -> list[str]:
    """Writes a new task's folder; gives the names of its files.

    Raises:
        TaskError: There is something at the place already.
    """
    from PIL import Image

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TaskError(
            "there is something at the place of a new task",
            where=str(folder),
            expected="a new folder, or an empty one",
            remedy="name another folder",
        )
    make_folder(folder / "pictures")
    for name, (left, right) in PICTURES.items():
        picture = Image.new("RGB", (96, 64), left)
        picture.paste(right, (48, 0, 96, 64))
        picture.save(folder / "pictures" / name)
    for name, rows in (("questions.jsonl", SEARCHED), ("holdout.jsonl", HELD_OUT)):
        write_text(folder / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write_text(folder / "run.yaml", RUN)
    return ["questions.jsonl", "holdout.jsonl", "run.yaml", *(f"pictures/{name}" for name in PICTURES)]
