"""Our batched, cached, prefix-sharing decoding says what transformers' own generate says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from vlmerge.config.model_ref import ModelRef
from vlmerge.errors import CandidateFailure, CheckpointError
from vlmerge.merge import prepare_models
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.types import Decoding, Question

from .conftest import FAMILY, questions
from .test_live_merge import RECIPES

GREEDY = Decoding(max_new_tokens=40)


def generated(live: LiveModel, question: Question, limit: int) -> list[int]:
    """Token ids of transformers' own greedy answer: processor and model as a user would call them, one question at a time."""
    prompter = live.prompter
    pictures = [picture.open() for picture in question.pictures]
    inputs = prompter.processor(text=[prompter.text(question)], images=pictures, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    ids = live._model.generate(**inputs, max_new_tokens=limit, do_sample=False)
    answer = ids[0, inputs["input_ids"].shape[1] :].tolist()
    return answer[: answer.index(2)] if 2 in answer else answer


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_greedy_answers_equal_generate(live: LiveModel, batch_size: int) -> None:
    live.merge(RECIPES["sum-free linear"])
    live.batch_size = batch_size
    asked = questions("holdout", "ja", 12) + questions("search", "en", 12)
    answers = {(a.question.task, a.question.id): a for a in live.answer(asked, GREEDY)}
    assert len(answers) == len(asked)
    for question in asked:
        expected = live.prompter.tokenizer.decode(generated(live, question, 40), skip_special_tokens=True)
        assert answers[question.task, question.id].text == expected


def test_an_answer_stops_at_the_limit(live: LiveModel) -> None:
    asked = questions("search", "en", 6)
    short = list(live.answer(asked, replace(GREEDY, max_new_tokens=3)))
    assert all(answer.tokens <= 3 for answer in short)
    for answer in short:
        expected = generated(live, answer.question, 3)
        assert answer.text == live.prompter.tokenizer.decode(expected, skip_special_tokens=True)


def test_beams_and_penalties_equal_generate_without_cached_features(live: LiveModel) -> None:
    live.merge(RECIPES["sum-free linear"])
    decoding = Decoding(max_new_tokens=20, num_beams=3, repetition_penalty=1.3)
    for answer in live.answer(questions("search", "ja", 4), decoding):
        prompter = live.prompter
        pictures = [picture.open() for picture in answer.question.pictures]
        inputs = prompter.processor(text=[prompter.text(answer.question)], images=pictures, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        ids = live._model.generate(**inputs, max_new_tokens=20, num_beams=3, repetition_penalty=1.3, do_sample=False)
        text = prompter.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert answer.text == text


def test_sampling_depends_on_its_seed_and_on_nothing_else(live: LiveModel) -> None:
    asked = questions("search", "ja", 12)
    live.merge(RECIPES["slerp"])
    hot = Decoding(max_new_tokens=16, temperature=1.5, seed=1)
    state = torch.random.get_rng_state()
    first = [answer.text for answer in live.answer(asked, hot)]
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(5)
    assert [answer.text for answer in live.answer(asked, hot)] == first
    assert [answer.text for answer in live.answer(asked, replace(hot, seed=2))] != first


def test_a_plain_language_model_answers_text() -> None:
    ref = ModelRef(str(FAMILY / "base"))
    models = prepare_models([ref])
    live = LiveModel.load_single(models, choose_placement("cpu", host_dtype="float16"))
    passage = "There is a cat on the left. There is a pizza on the right.<q>What is on the left?<a>"
    asked = [Question(str(n), "text", passage if n else "Hello", (), ("",)) for n in range(2)]
    answers = {answer.question.id: answer.text for answer in live.answer(asked, GREEDY)}
    inputs = live.prompter.tokenizer([live.prompt(asked[1])], return_tensors="pt", return_token_type_ids=False)
    ids = live._model.generate(**inputs, max_new_tokens=40, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert answers["1"] == live.prompter.tokenizer.decode(ids, skip_special_tokens=True)
    with pytest.raises(CheckpointError, match="cannot be asked about pictures"):
        list(live.answer(questions("search", "en", 1), GREEDY))


def test_pictures_go_through_the_tower_once(live: LiveModel) -> None:
    seen: list[int] = []
    tower = live._model.get_image_features

    def counting(pixel_values: torch.Tensor, **keys: object) -> object:
        seen.append(len(pixel_values))
        return tower(pixel_values=pixel_values, **keys)

    live._model.get_image_features = counting
    asked = questions("search", "ja", 12)
    for weights in ("sum-free linear", "slerp"):
        live.merge(RECIPES[weights])
        list(live.answer(asked, GREEDY))
    assert sum(seen) == len({question.group for question in asked})


def test_logits_that_are_not_numbers_fail_the_candidate(live: LiveModel) -> None:
    live._model.model.language_model.norm.weight.fill_(math.inf)
    with pytest.raises(CandidateFailure, match="not finite"):
        list(live.answer(questions("search", "ja", 2), GREEDY))


def test_out_of_memory_halves_the_batch_and_goes_on(live: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LiveModel._generate
    live.batch_size = 8

    def small_card(self: LiveModel, asked: list[Question], *rest: object) -> object:
        if len(asked) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return whole(self, asked, *rest)

    asked = questions("search", "ja", 12)
    expected = {answer.question.id: answer.text for answer in live.answer(asked, GREEDY)}
    monkeypatch.setattr(LiveModel, "_generate", small_card)
    live.batch_size = 8
    assert {answer.question.id: answer.text for answer in live.answer(asked, GREEDY)} == expected
    assert live.batch_size == 2


def test_a_card_without_room_for_many_pictures_takes_fewer_together(live: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = live._model, list[int]()
    whole = type(model).get_image_features

    def small_card(self: object, pixel_values: torch.Tensor, **keys: object) -> object:
        seen.append(len(pixel_values))
        if len(pixel_values) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return whole(self, pixel_values=pixel_values, **keys)

    asked = questions("search", "ja", 9)
    expected = [answer.text for answer in live.answer(asked, GREEDY)]
    live._features.forget()
    monkeypatch.setattr(type(model), "get_image_features", small_card)
    assert [answer.text for answer in live.answer(asked, GREEDY)] == expected
    assert set(seen[-3:]) <= {1, 2}
    monkeypatch.setattr(type(model), "get_image_features", lambda self, **_: small_card(self, torch.zeros(9)))
    live._features.forget()
    with pytest.raises(CandidateFailure, match="single picture"):
        list(live.answer(asked, GREEDY))
