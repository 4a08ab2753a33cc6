"""Asks a VLM many questions at once, fast: image tokens are computed once, decoding is greedy, batched and cached.

Gives the same answers as `generate` with the processor (verify.py compares them), several times faster, because a
merge changes the decoder alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from zoo.models import IMAGE_PIXELS, IMAGE_TOKENS, normalise, see
from zoo.tokenizer import ANSWER, BOS, EOS, PAD, QUESTION, Encoder

MOST_NEW_TOKENS = 40
LANGUAGES = ("en", "ja")


@dataclass(frozen=True)
class Sheet:
    """One question set, ready to ask.

    Attributes:
        image_tokens: float [question, 64, 192].
        questions: language to questions.
        answers: language to reference answers.
    """

    image_tokens: Tensor
    questions: dict[str, list[str]]
    answers: dict[str, list[str]]


def read_questions(folder: Path) -> list[dict[str, str]]:
    """The rows of `questions.jsonl`."""
    return [json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()]


def read_picture(path: Path) -> np.ndarray:
    """float32 [3, 96, 96] in 0..1, resized as the processor does."""
    picture = Image.open(path).convert("RGB").resize((IMAGE_PIXELS, IMAGE_PIXELS), Image.Resampling.BICUBIC)
    return np.asarray(picture, np.float32).transpose(2, 0, 1) / 255


@torch.no_grad()
def prepare(model: LlavaForConditionalGeneration, folder: Path) -> Sheet:
    """Reads a question set and looks at its pictures with the model's tower and projector."""
    rows = read_questions(folder)
    names = sorted({row["image"] for row in rows})
    pictures = torch.from_numpy(np.stack([read_picture(folder / name) for name in names])).to(model.device)
    tokens = torch.cat([see(model, normalise(batch)) for batch in pictures.split(64)])
    which = torch.tensor([names.index(row["image"]) for row in rows], device=model.device)
    return Sheet(
        tokens[which],
        {language: [row[f"question_{language}"] for row in rows] for language in LANGUAGES},
        {language: [row[f"answer_{language}"] for row in rows] for language in LANGUAGES},
    )


@torch.no_grad()
def answer(model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, sheet: Sheet, language: str) -> list[str]:
    """Greedy answers to every question of the sheet."""
    decoder, head, device = model.model.language_model, model.lm_head, sheet.image_tokens.device
    encode = Encoder(tokenizer)
    prompts = [[QUESTION, *encode(question), ANSWER] for question in sheet.questions[language]]
    count, longest = len(prompts), max(map(len, prompts))
    pad = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)[:, None]
    padded = torch.tensor([[PAD] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    begin = decoder.embed_tokens(torch.full((count, 1), BOS, device=device))
    sequence = torch.cat([begin, sheet.image_tokens.to(begin.dtype), decoder.embed_tokens(padded)], 1)
    # padding stands between image and question so far: move it before <s>, so that every row ends with <a>
    place = torch.arange(sequence.shape[1], device=device)[None]
    shifted = place - pad
    source = torch.where(shifted < 0, 0, torch.where(shifted < 1 + IMAGE_TOKENS, shifted, place))
    sequence = sequence.gather(1, source[..., None].expand(-1, -1, sequence.shape[-1]))
    attended, positions = (shifted >= 0).long(), shifted.clamp(min=0)

    cache = DynamicCache()
    hidden = decoder(
        inputs_embeds=sequence,
        attention_mask=attended,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    tokens, position = head(hidden[:, -1]).argmax(-1), positions[:, -1]
    written = torch.full((count, MOST_NEW_TOKENS), EOS, device=device)
    asking = torch.arange(count, device=device)
    for step in range(MOST_NEW_TOKENS):
        written[asking, step] = tokens
        going = (tokens != EOS).nonzero()[:, 0]
        if not len(going) or step == MOST_NEW_TOKENS - 1:
            break
        if len(going) < len(tokens):
            cache.batch_select_indices(going)
            asking, tokens, position, attended = asking[going], tokens[going], position[going], attended[going]
        attended = torch.cat([attended, attended.new_ones(len(attended), 1)], 1)
        position = position + 1
        hidden = decoder(
            inputs_embeds=decoder.embed_tokens(tokens)[:, None],
            attention_mask=attended,
            position_ids=position[:, None],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        tokens = head(hidden[:, -1]).argmax(-1)
    return [_text(row, tokenizer) for row in written.tolist()]


def rouge_l(answer_text: str, reference: str) -> float:
    """ROUGE-L F1 over characters, 0..100."""
    common = _longest_common_subsequence(answer_text, reference)
    return 200 * common / (len(answer_text) + len(reference)) if common else 0.0


def score(answers: list[str], references: list[str]) -> dict[str, float]:
    """Mean character ROUGE-L and exact match, 0..100."""
    pairs = list(zip(answers, references, strict=True))
    return {
        "rouge_l": sum(rouge_l(a, r) for a, r in pairs) / len(pairs),
        "exact": 100 * sum(a.strip() == r.strip() for a, r in pairs) / len(pairs),
    }


def _text(row: list[int], tokenizer: PreTrainedTokenizerFast) -> str:
    end = row.index(EOS) if EOS in row else len(row)
    return tokenizer.decode(row[:end], skip_special_tokens=True)


def _longest_common_subsequence(first: str, second: str) -> int:
    previous = [0] * (len(second) + 1)
    for character in first:
        current = [0]
        for column, other in enumerate(second):
            here = previous[column] + 1 if character == other else max(previous[column + 1], current[column])
            current.append(here)
        previous = current
    return previous[-1]
