"""Beams, sampling and repetition penalties: transformers' own `generate`, fed with cached picture features."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from vlmerge.errors import CandidateFailure
from vlmerge.runtime.decode import Written
from vlmerge.runtime.prompts import Encoded, Prompter
from vlmerge.types import Decoding


@torch.inference_mode()
def generate(
    model: Any,
    prompter: Prompter,
    prompts: Sequence[Encoded],
    features: Sequence[Sequence[Tensor]],
    decoding: Decoding,
    ends: Sequence[int],
) -> list[Written]:
    """Answers one batch.

    Args:
        model: A live transformers model.
        prompter: Its prompter, for the padding token.
        prompts: Encoded questions.
        features: Features of each question's pictures in order, each [picture tokens, hidden].
        decoding: Beams, temperature, penalty, length, seed. The same seed gives every candidate the same random numbers.
        ends: Token ids that end an answer.
    """
    from transformers import GenerationConfig

    device = next(model.parameters()).device
    longest = max(len(prompt.ids) for prompt in prompts)
    padding = prompter.tokenizer.pad_token_id
    if padding is None or padding == prompter.placeholder:
        padding = ends[0]
    ids = torch.tensor([[padding] * (longest - len(p.ids)) + list(p.ids) for p in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p.ids)) + [1] * len(p.ids) for p in prompts], device=device)
    sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p} if decoding.temperature > 0 else {}
    config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.num_beams,
        do_sample=decoding.temperature > 0,
        repetition_penalty=decoding.repetition_penalty,
        eos_token_id=list(ends),
        pad_token_id=padding,
        **sampling,
    )
    pictures: dict[str, Any] = {}
    if count := sum(map(len, features)):
        # Stands for the pixels, of which transformers needs to know no more than that they are there.
        pictures["pixel_values"] = torch.zeros((count, 1, 1, 1), device=device)
    devices = [device] if device.type == "cuda" else []
    random: Any = torch.random
    with random.fork_rng(devices=devices), _cached_features(model, features):
        random.manual_seed(decoding.seed)
        sequences = model.generate(
            input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=[_require_finite], **pictures
        )
    return [_written(row[longest:].tolist(), ends) for row in sequences]


@contextlib.contextmanager
def _cached_features(model: Any, features: Sequence[Sequence[Tensor]]) -> Generator[None]:
    """Lets the model's own forward find cached features where it would run the vision tower."""
    count = sum(map(len, features))
    if not count:
        yield
        return
    inner = model.model

    def look_up(pixel_values: Tensor, **_: Any) -> SimpleNamespace:
        # Some versions ask before they repeat rows for beams, some after. They would then repeat each picture, not each
        # question's pictures: right for one picture, wrong for two.
        beams = len(pixel_values) // count
        return SimpleNamespace(pooler_output=[one for pictures in features for _ in range(beams) for one in pictures])

    inner.get_image_features = look_up
    try:
        yield
    finally:
        del inner.get_image_features


def _require_finite(_: Tensor, scores: Tensor) -> Tensor:
    """A logits processor: NaN would otherwise end the run inside the sampler, as if it were a bug."""
    # -inf is how other processors forbid a token.
    if bool((scores.isnan() | (scores == math.inf)).any()) or bool((scores == -math.inf).all(-1).any()):
        raise CandidateFailure("the logits are not finite")
    return scores


def _written(ids: list[int], ends: Sequence[int]) -> Written:
    for place, token in enumerate(ids):
        if token in ends:
            return Written(tuple(ids[:place]), True)
    return Written(tuple(ids), False)
