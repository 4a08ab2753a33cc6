"""The live model on a GPU: it merges what the CPU merges, and says what transformers says there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from vlmerge.config.recipe import Recipe
from vlmerge.errors import CandidateFailure
from vlmerge.merge import Prepared
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.runtime.room import Room, plan_room
from vlmerge.types import Answer, Decoding, Question

from .conftest import questions
from .test_live_merge import RECIPES, linear, weights_of

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
GREEDY = Decoding(max_new_tokens=24)
LEFT_OVER = 2.0**-18
"""What float32 sums in another order may differ by, as a share of the tensor's largest value: it shows where values cancel."""


def live_on(family: Prepared, device: str, dtype: str = "auto", host_dtype: str = "float16") -> LiveModel:
    return LiveModel.load(family, choose_placement(device, dtype, batch_size=16, host_dtype=host_dtype))


def asked() -> list[Question]:
    return questions("holdout", "ja", 12) + questions("search", "en", 12)


def by_question(answers: list[Answer]) -> dict[tuple[str, str], str]:
    return {(answer.question.task, answer.question.id): answer.text for answer in answers}


def plain(live: LiveModel, question: Question, **how: object) -> str:
    """transformers' own answer on the same device, one question at a time."""
    prompter = live.prompter
    inputs = prompter.processor(
        text=[prompter.text(question)], images=[picture.open() for picture in question.pictures], return_tensors="pt"
    )
    inputs.pop("token_type_ids", None)
    inputs = {name: tensor.to(DEVICE) for name, tensor in inputs.items()}
    with torch.inference_mode():
        ids = live._model.generate(**inputs, do_sample=False, **how)
    return prompter.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("out_dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", RECIPES)
def test_merges_are_the_cpus_up_to_one_unit_in_the_last_place(name: str, out_dtype: str, family: Prepared) -> None:
    """One unit of the output dtype, and seldom that: a GPU multiplies and adds in one rounding, and sums in another order."""
    recipe: Recipe = RECIPES[name].model_copy(update={"out_dtype": out_dtype})
    here, there = live_on(family, "cpu"), live_on(family, DEVICE, host_dtype=out_dtype)
    for live in (here, there):
        live.merge(linear(0.2, 0.2, 0.2))  # what this changed and the next keeps must come back
        live.merge(recipe)
    expected, found = weights_of(here), weights_of(there)
    assert expected.keys() == found.keys()
    unit = torch.finfo(getattr(torch, out_dtype)).eps
    equal = total = 0
    for role, wanted in expected.items():
        got = found[role].cpu().float()
        assert found[role].dtype == getattr(torch, out_dtype)
        allowed = unit * torch.maximum(got.abs(), wanted.abs()) + LEFT_OVER * wanted.abs().max()
        assert bool(((got - wanted).abs() <= allowed).all()), role
        equal += int((got == wanted).sum())
        total += wanted.numel()
    assert equal > 0.99 * total
    if name == "swap":
        assert equal == total  # copies


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_answers_are_those_of_generate_on_the_same_device(batch_size: int, family: Prepared) -> None:
    live = live_on(family, DEVICE, "float32")
    live.merge(RECIPES["sum-free linear"])
    live.batch_size = batch_size
    answers = by_question(list(live.answer(asked(), GREEDY)))
    assert answers == {(one.task, one.id): plain(live, one, max_new_tokens=24) for one in asked()}
    assert len(set(answers.values())) > 5


def test_beams_are_those_of_generate_on_the_same_device(family: Prepared) -> None:
    live = live_on(family, DEVICE, "float32")
    live.merge(RECIPES["sum-free linear"])
    few = questions("search", "ja", 5)
    answers = by_question(list(live.answer(few, Decoding(max_new_tokens=16, num_beams=3))))
    assert answers == {(one.task, one.id): plain(live, one, max_new_tokens=16, num_beams=3) for one in few}


def test_answers_are_nearly_always_the_cpus(family: Prepared) -> None:
    """Not always: cuDNN computes the patch embedding in TF32 unless told otherwise, and a near tie may fall the other way."""
    answers: list[dict[tuple[str, str], str]] = []
    for device in ("cpu", DEVICE):
        live = live_on(family, device, "float32")
        live.merge(RECIPES["sum-free linear"])
        answers.append(by_question(list(live.answer(asked(), GREEDY))))
    here, there = answers
    assert here.keys() == there.keys()
    assert sum(here[key] == there[key] for key in here) >= 0.9 * len(here)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_answer_the_same_when_asked_again(dtype: str, family: Prepared) -> None:
    """Another candidate in between, pictures in the cache: nothing of it may show."""
    recipe = RECIPES["slerp"].model_copy(update={"out_dtype": dtype})
    live = live_on(family, DEVICE, host_dtype=dtype)
    assert live.placement.dtype == dtype
    live.merge(recipe)
    first = by_question(list(live.answer(asked(), GREEDY)))
    live.merge(RECIPES["swap"].model_copy(update={"out_dtype": dtype}))
    between = by_question(list(live.answer(asked(), GREEDY)))
    live.merge(recipe)
    assert by_question(list(live.answer(asked(), GREEDY))) == first
    assert between != first


def test_sampling_on_a_gpu_depends_on_its_seed_and_on_nothing_else(family: Prepared) -> None:
    live = live_on(family, DEVICE, "float32")
    hot = Decoding(max_new_tokens=12, temperature=1.5, seed=3)
    first = by_question(list(live.answer(asked(), hot)))
    torch.rand(7, device=DEVICE)
    assert by_question(list(live.answer(asked(), hot))) == first


def test_weights_that_overflow_fail_the_candidate_and_not_the_next_one(family: Prepared) -> None:
    live = live_on(family, DEVICE)
    live.merge(RECIPES["slerp"])
    before = weights_of(live)
    with pytest.raises(CandidateFailure, match=r"layers|embed|norm|head"):
        live.merge(linear(1e6, 1e6, 1e6))
    live.merge(RECIPES["slerp"])
    after = weights_of(live)
    assert all(torch.equal(before[role], after[role]) for role in before)


@pytest.mark.parametrize("home", ["host", "file"])
def test_parents_that_do_not_fit_on_the_card_are_moved_tensor_by_tensor(
    family: Prepared, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    there = live_on(family, DEVICE)

    def elsewhere(*given: Any) -> Room:
        room = plan_room(*given)
        return replace(room, homes=dict.fromkeys(room.homes, home))

    monkeypatch.setattr("vlmerge.runtime.live.plan_room", elsewhere)
    moved = live_on(family, DEVICE)
    for live in (there, moved):
        live.merge(RECIPES["task arithmetic"])
    expected, found = weights_of(there), weights_of(moved)
    assert all(torch.equal(expected[role], found[role]) for role in expected)
