"""Answers by transformers' own `generate`, fed with cached picture features: beams, sampling, repetition penalties, and the
greedy answers of models whose prompts are read whole (`ways.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vlmerge.errors import CandidateFailure
from vlmerge.runtime.decode import Enough, Written
from vlmerge.runtime.prompts import Encoded, Prompter
from vlmerge.runtime.tower import Seen, Tower
from vlmerge.types import Decoding


@torch.inference_mode()
def generate(
    model: Any,
    tower: Tower | None,
    prompter: Prompter,
    prompts: Sequence[Encoded],
    seen: Sequence[Seen],
    decoding: Decoding,
    ends: Sequence[int],
    enough: Enough | None = None,
) -> list[Written]:
    """Answers one batch.

    Args:
        model: A live transformers model.
        tower: Its tower, where it sees.
        prompter: Its prompter, for the padding token.
        prompts: Encoded questions, all of them with pictures or none.
        seen: What was seen of each question's pictures; empty without pictures.
        decoding: Beams, temperature, penalty, length, seed. The same seed gives every candidate the same random numbers.
        ends: Token ids that end an answer.
        enough: Whether what a row has written so far suffices; not asked of beams, which are not yet answers.
    """
    from transformers import GenerationConfig

    device = next(model.parameters()).device
    longest = max(len(prompt.ids) for prompt in prompts)
    padding = prompter.tokenizer.pad_token_id
    if padding is None or padding == prompter.placeholder:
        padding = ends[0] if ends else 0
    ids = torch.tensor([[padding] * (longest - len(p.ids)) + list(p.ids) for p in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p.ids)) + [1] * len(p.ids) for p in prompts], device=device)
    more = {name: padded([p.by_token[name] for p in prompts], longest).to(device) for name in prompts[0].by_token}
    more |= {name: torch.cat([p.by_picture[name] for p in prompts]).to(device) for name in prompts[0].by_picture}
    sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p} if decoding.temperature > 0 else {}
    config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.num_beams,
        do_sample=decoding.temperature > 0,
        repetition_penalty=decoding.repetition_penalty,
        eos_token_id=list(ends) or None,
        pad_token_id=padding,
        **sampling,
    )
    devices = [device] if device.type == "cuda" else []
    random: Any = torch.random
    arguments: dict[str, Any] = {
        "input_ids": ids, "attention_mask": mask, "generation_config": config, "logits_processor": [_require_finite], **more,
    }  # fmt: skip
    if enough is not None and decoding.num_beams == 1:

        def stop(ids: Tensor, _: Any, **__: Any) -> Tensor:
            rows: list[list[int]] = ids[:, longest:].tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - torch leaves it open
            return torch.tensor([enough(_written(row, ends).ids) for row in rows], device=ids.device)

        arguments["stopping_criteria"] = [stop]
    with random.fork_rng(devices=devices):
        random.manual_seed(decoding.seed)
        if tower is None:
            sequences = model.generate(**arguments)
        else:
            with tower.remembering(seen, sum(prompt.pixel_rows for prompt in prompts)) as pixels:
                sequences = model.generate(**arguments, **pixels)
    return [_written(row[longest:].tolist(), ends) for row in sequences]


def padded(rows: Sequence[Tensor], longest: int) -> Tensor:
    """What is known of each prompt's tokens, [1, tokens, …], one below the other: [prompts, longest, …], zeros on the left."""
    whole = rows[0].new_zeros((len(rows), longest, *rows[0].shape[2:]))
    for place, row in enumerate(rows):
        whole[place, longest - row.shape[1] :] = row[0]
    return whole


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
