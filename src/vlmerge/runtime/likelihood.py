"""How likely given texts are after given prompts: the model's own forward over whole rows, its pictures' features kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from vlmerge.errors import CandidateFailure
from vlmerge.runtime.features import Pictures
from vlmerge.runtime.prompts import Encoded, Prompter
from vlmerge.runtime.tower import Seen, Tower
from vlmerge.types import Question


@dataclass(frozen=True)
class Continuation:
    """Tokens whose likelihood is asked for.

    Attributes:
        read: Token ids that the model reads: the prompt and the continuation without its last token.
        wanted: The continuation's token ids; each is predicted from what is read before it.
        pictures: Digests of the prompt's pictures.
        prompt: The prompt with its continuation, where it has pictures: what its processor says of each token is kept.
    """

    read: tuple[int, ...]
    wanted: tuple[int, ...]
    pictures: Pictures = ()
    prompt: Question | None = None


@torch.inference_mode()
def likelihoods(
    model: Any,
    tower: Tower | None,
    prompter: Prompter,
    prompts: Sequence[Encoded],
    wanted: Sequence[Sequence[tuple[int, ...]]],
    seen: Sequence[Seen],
) -> list[tuple[float, bool]]:
    """Reads one batch, padded on the right, where a causal decoder does not see it.

    Args:
        model: A live transformers model.
        tower: Its tower, where it sees.
        prompter: Its prompter.
        prompts: What is read, all of it with as many pictures or none.
        wanted: Of each row one continuation or several, which end where the row's last token predicts.
        seen: What was seen of each row's pictures; empty without pictures.

    Returns:
        Row by row, continuation by continuation: the sum of log-probabilities in float32, and whether every token is the
        likeliest.

    Raises:
        CandidateFailure: The logits are not finite.
    """
    device = next(model.parameters()).device
    lengths = [len(prompt.ids) for prompt in prompts]
    longest = max(lengths)
    ids = torch.tensor([[*prompt.ids, *[0] * (longest - len(prompt.ids))] for prompt in prompts], device=device)
    mask = torch.tensor([[1] * length + [0] * (longest - length) for length in lengths], device=device)
    arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    for name in prompts[0].by_token:
        arguments[name] = torch.cat([cut(prompt.by_token[name], longest) for prompt in prompts]).to(device)
    for name in prompts[0].by_picture:
        arguments[name] = torch.cat([prompt.by_picture[name] for prompt in prompts]).to(device)
    first = min(length - max(map(len, tokens)) for length, tokens in zip(lengths, wanted, strict=True))
    if "logits_to_keep" in prompter.reads:
        arguments["logits_to_keep"] = torch.arange(first, longest, device=device)
    if tower is None:
        logits = model(**arguments).logits
    else:
        with tower.remembering(seen, sum(prompt.pixel_rows for prompt in prompts)) as pixels:
            logits = model(**arguments, **pixels).logits
    logits = logits[:, first - longest :]
    found: list[tuple[Tensor, Tensor]] = []
    for row, length, continuations in zip(logits, lengths, wanted, strict=True):
        for tokens in continuations:
            end = length - first
            predicted = row[end - len(tokens) : end].float()
            target = torch.tensor(tokens, device=device)
            chosen = predicted.log_softmax(-1).gather(-1, target[:, None])
            found.append((chosen.sum(), (predicted.argmax(-1) == target).all()))
    sums = torch.stack([each for each, _ in found])
    if not bool(torch.isfinite(sums).all()):
        raise CandidateFailure("the logits are not finite")
    likeliest = torch.stack([each for _, each in found])
    numbers = cast("list[float]", sums.tolist())  # pyright: ignore[reportUnknownMemberType] - torch leaves it open
    flags = cast("list[bool]", likeliest.tolist())  # pyright: ignore[reportUnknownMemberType] - torch leaves it open
    return list(zip(numbers, flags, strict=True))


def cut(by_token: Tensor, length: int) -> Tensor:
    """What is known of each token, [1, tokens, …], cut or filled with zeros on the right to a length."""
    have = by_token[:, :length]
    return torch.cat([have, have.new_zeros((1, length - have.shape[1], *have.shape[2:]))], 1)
