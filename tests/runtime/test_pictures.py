"""Questions about no, one and several pictures, from the files that people have, through the live model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from vlmerge.config.run import TaskSpec
from vlmerge.errors import TaskError
from vlmerge.runtime.live import LiveModel
from vlmerge.runtime.tower import Seen, Tower
from vlmerge.tasks import load_task
from vlmerge.types import Decoding, Question

from .conftest import FAMILY
from .test_live_merge import RECIPES

PICTURES = FAMILY / "bench" / "search"
GREEDY = Decoding(max_new_tokens=20)
BEAMS = Decoding(max_new_tokens=12, num_beams=3)
ROWS: list[dict[str, Any]] = [
    {"question": "What color is the background?", "answer": "x", "images": ["000.png"]},
    {"question": "What is on the left?", "answer": "x", "images": []},
    {"question": "What is on the left?", "answer": "x", "images": ["001.png", "004.png"]},
    {"question": "Describe the picture.", "answer": "x", "images": ["004.png", "001.png"]},
    {"question": "下に見えるのは何ですか?", "answer": "x", "images": ["004.png"]},
    {"question": "There is a cat on the left.<q>What is on the left?", "answer": "x"},
    {"question": "何が見えますか?", "answer": "x", "images": ["012.png", "012.png"]},
]


def written(path: Path, rows: Iterable[dict[str, Any]], *, inside: bool) -> Path:
    """The rows as JSONL beside paths, or as parquet with the pictures inside, as `datasets` writes it."""
    if not inside:
        lines = [
            json.dumps(row | ({"images": [str(PICTURES / n) for n in row["images"]]} if "images" in row else {}))
            for row in rows
        ]
        (path / "asked.jsonl").write_text("\n".join(lines), encoding="utf-8")
        return path / "asked.jsonl"
    import datasets

    features = datasets.Features(
        {"question": datasets.Value("string"), "answer": datasets.Value("string"), "images": datasets.List(datasets.Image())}
    )
    loaded = [
        row | {"images": [{"bytes": (PICTURES / n).read_bytes(), "path": None} for n in row.get("images", [])]} for row in rows
    ]
    table = datasets.Dataset.from_list(loaded, features=features)
    table.to_parquet(path / "asked.parquet")
    return path / "asked.parquet"


def plain(live: LiveModel, question: Question, **how: Any) -> str:
    """transformers' own answer: processor and model as a user would call them, one question at a time."""
    prompter = live.prompter
    pictures = [picture.open() for picture in question.pictures] or None
    inputs = prompter.processor(text=[prompter.text(question)], images=pictures, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    ids = live._model.generate(**inputs, do_sample=False, **how)
    return prompter.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def embedded(live: LiveModel, question: Question, **how: Any) -> str:
    """The same from embeddings that have the pictures in place, so that nothing can mistake one picture for another."""
    prompter, model = live.prompter, live._model
    inputs = prompter.processor(
        text=[prompter.text(question)], images=[picture.open() for picture in question.pictures], return_tensors="pt"
    )
    features = torch.cat(list(model.get_image_features(pixel_values=inputs["pixel_values"]).pooler_output))
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    embeddings[inputs["input_ids"] == prompter.placeholder] = features
    ids = model.generate(inputs_embeds=embeddings, attention_mask=inputs["attention_mask"], do_sample=False, **how)
    return prompter.tokenizer.decode(ids[0], skip_special_tokens=True)


@pytest.mark.parametrize("inside", [False, True], ids=["jsonl", "parquet"])
@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_task_may_mix_no_one_and_several_pictures(live: LiveModel, tmp_path: Path, inside: bool, batch_size: int) -> None:
    live.merge(RECIPES["sum-free linear"])
    live.batch_size = batch_size
    asked = load_task(TaskSpec(name=str(written(tmp_path, ROWS, inside=inside)))).questions()
    assert [len(question.pictures) for question in asked] == [len(row.get("images", [])) for row in ROWS]
    answers = {answer.question.id: answer.text for answer in live.answer(asked, GREEDY)}
    assert answers == {question.id: plain(live, question, max_new_tokens=20) for question in asked}
    assert len(set(answers.values())) > 4
    assert live.prompt(asked[2]).count("<image>") == 2


def test_the_order_of_pictures_counts(live: LiveModel, tmp_path: Path) -> None:
    """Two pictures the other way round are another question: other group, other answer from a cache that knows both."""
    same = [dict(ROWS[3], images=order) for order in (["001.png", "004.png"], ["004.png", "001.png"])]
    one, two = load_task(TaskSpec(name=str(written(tmp_path, same, inside=False)))).questions()
    assert one.group != two.group
    answers = {answer.question.id: answer.text for answer in live.answer([one, two], GREEDY)}
    assert answers[one.id] != answers[two.id]
    with torch.inference_mode():
        assert answers == {question.id: plain(live, question, max_new_tokens=20) for question in (one, two)}


def test_beams_see_every_picture_of_their_question(live: LiveModel, tmp_path: Path) -> None:
    live.merge(RECIPES["sum-free linear"])
    rows = [row for row in ROWS if row.get("images")]
    asked = load_task(TaskSpec(name=str(written(tmp_path, rows, inside=False)))).questions()
    with torch.inference_mode():
        expected = {question.id: embedded(live, question, max_new_tokens=12, num_beams=3) for question in asked}
    assert {answer.question.id: answer.text for answer in live.answer(asked, BEAMS)} == expected


def test_beams_see_them_also_where_transformers_repeats_the_pixels(live: LiveModel) -> None:
    """Older versions repeat each picture as often as there are beams, whatever question it belongs to."""
    one, two, three = (torch.full((1, 1), float(number)) for number in (1, 2, 3))
    tower = Tower(live._model, torch.device("cpu"))
    with tower.remembering([Seen((one, two)), Seen((three,))], 3) as given:
        for beams, expected in ((1, [1, 2, 3]), (2, [1, 2, 1, 2, 3, 3])):
            pixels = given["pixel_values"].repeat_interleave(beams, dim=0)
            found = live._model.model.get_image_features(pixel_values=pixels).pooler_output
            assert [features.item() for features in found] == expected


@pytest.mark.parametrize("images", [["000.png"], []])
def test_a_picture_token_in_the_text_is_named(live: LiveModel, tmp_path: Path, images: list[str]) -> None:
    """Data sets made for LLaVA's training have it there; the prompt would then ask about a picture more than there is."""
    rows = [ROWS[0], {"id": "q7", "question": "<image>\nWhat is on the left?", "answer": "x", "images": images}]
    asked = load_task(TaskSpec(name=str(written(tmp_path, rows, inside=False)))).questions()
    with pytest.raises(TaskError, match=r"picture(.|\n)*'q7'(.|\n)*take <image> out"):
        list(live.answer(asked, GREEDY))
