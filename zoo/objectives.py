"""What the training minimises: one class per objective; calling it draws a fresh batch and gives its loss.

Batches are drawn from seeded generators of the objective's own, so that a stage depends on its seed alone.
"""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaForConditionalGeneration

from zoo.examples import PicturePool, TextPool
from zoo.models import IMAGE_TOKENS, TOWER_HIDDEN, normalise, patch_features, see
from zoo.renderer import IGNORED, Renderer
from zoo.scenes import BACKGROUNDS
from zoo.tokenizer import BOS

PASSAGE_WEIGHT = 0.3
BACKGROUND_WEIGHT = 0.1
LABEL_SMOOTHING = 0.05
SHARPNESS = 12.0
"""Inverse temperature of the contrastive alignment."""


class Objective(Protocol):
    """A loss with the model that it is about."""

    model: LlavaForConditionalGeneration

    def __call__(self) -> Tensor:
        """Draws the next batch and gives its loss."""
        ...

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters outside the model that are trained along."""
        ...


class Naming:
    """Every patch names the thing under it, or the background colour, with a linear head that is thrown away."""

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        scenes: np.ndarray,
        renderer: Renderer,
        batch: int,
        device: str,
        seed: int,
    ) -> None:
        self.model, self._renderer, self._batch, self._device = model, renderer, batch, device
        self._scenes = torch.from_numpy(scenes).to(device)
        names = renderer.concept_count + len(BACKGROUNDS)
        self.head = nn.Sequential(nn.LayerNorm(TOWER_HIDDEN), nn.Linear(TOWER_HIDDEN, names)).to(device)
        self._generator = torch.Generator(device).manual_seed(seed)

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """The naming head's."""
        return self.head.parameters()

    def name(self, pictures: Tensor) -> Tensor:
        """Pixels 0..1 [n, 3, 96, 96] to logits [n, 64, names]."""
        return self.head(patch_features(self.model, normalise(pictures)))

    def __call__(self) -> Tensor:
        rows = self._scenes[torch.randint(len(self._scenes), (self._batch,), device=self._device, generator=self._generator)]
        pictures, labels = self._renderer.draw_with_labels(rows, self._generator)
        with _autocast(self._device):
            logits = self.name(pictures)
        shows_thing = labels < self._renderer.concept_count
        weight = torch.where(shows_thing, 1.0, BACKGROUND_WEIGHT) * (labels != IGNORED)
        loss = functional.cross_entropy(
            logits.float().flatten(0, 1),
            labels.flatten(),
            ignore_index=IGNORED,
            reduction="none",
            label_smoothing=LABEL_SMOOTHING,
        )
        return (loss * weight.flatten()).sum() / weight.sum()


class Reading:
    """Next-token prediction on text; tokens of the answer weigh 1, those before it `PASSAGE_WEIGHT`."""

    def __init__(self, model: LlavaForConditionalGeneration, pool: TextPool, batch: int, device: str, seed: int) -> None:
        self.model, self._batch, self._device = model, batch, device
        self._pool = pool
        self._tokens = torch.from_numpy(pool.tokens).to(device)
        self._positions = torch.from_numpy(pool.positions).to(device)
        self._rng = np.random.default_rng(seed)

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """None."""
        return ()

    def __call__(self) -> Tensor:
        rows = self._rng.integers(len(self._pool.tokens), size=self._batch)
        length = int(self._pool.lengths[rows].max())
        place = np.arange(length - 1)[None] + 1
        real = place < self._pool.lengths[rows, None]
        answer = real & (place >= self._pool.answer_starts[rows, None])
        passage = real & ~answer
        weight = answer / answer.sum() + PASSAGE_WEIGHT * passage / passage.sum()
        on_device = torch.from_numpy(rows).to(self._device)
        tokens = self._tokens[on_device, :length].long()
        positions = self._positions[on_device, :length].long()
        with _autocast(self._device):
            hidden = self.model.model.language_model(
                input_ids=tokens,
                position_ids=positions,
                attention_mask=_causal_mask(length, self._device),
                use_cache=False,
            ).last_hidden_state
            logits = self.model.lm_head(hidden[:, :-1])
        loss = functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        return (loss * torch.from_numpy(weight).float().to(self._device).flatten()).sum()


class Looking:
    """Answers to questions about pictures, with or without pulling projected patches towards word embeddings.

    Args:
        model: the VLM.
        pool: questions and scenes.
        renderer: draws the scenes, freshly augmented for every batch.
        batch: questions per step.
        device: where everything lives.
        seed: of the order and of the augmentation.
        words: token ids of the English name of every label (concepts, then backgrounds). When given, each projected
            patch is pulled towards the decoder's mean embedding of what it shows, contrastively (as in CLIP) and by
            distance, with weight `alignment`.
        alignment: weight of that pull.
    """

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        pool: PicturePool,
        renderer: Renderer,
        batch: int,
        device: str,
        seed: int,
        words: list[list[int]] | None = None,
        alignment: float = 0.0,
    ) -> None:
        self.model, self._renderer, self._batch, self._device = model, renderer, batch, device
        self._pool, self._words, self._alignment = pool, words, alignment
        self._tokens = torch.from_numpy(pool.tokens).to(device)
        self._scenes = torch.from_numpy(pool.scenes).to(device)
        self._rng = np.random.default_rng(seed)
        self._generator = torch.Generator(device).manual_seed(seed)

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """None."""
        return ()

    def __call__(self) -> Tensor:
        rows = self._rng.integers(len(self._pool.tokens), size=self._batch)
        length = int(self._pool.lengths[rows].max())
        place = np.arange(length)[None]
        answer = (place >= self._pool.answer_starts[rows, None]) & (place < self._pool.lengths[rows, None])
        on_device = torch.from_numpy(rows).to(self._device)
        tokens = self._tokens[on_device, :length].long()
        pictures, labels = self._renderer.draw_with_labels(self._scenes[on_device], self._generator)
        decoder = self.model.model.language_model
        with _autocast(self._device):
            patches = see(self.model, normalise(pictures))
            begin = decoder.embed_tokens(torch.full((self._batch, 1), BOS, device=self._device))
            embeddings = torch.cat([begin, patches.to(begin.dtype), decoder.embed_tokens(tokens)], 1)
            hidden = decoder(inputs_embeds=embeddings, use_cache=False).last_hidden_state
            logits = self.model.lm_head(hidden[:, IMAGE_TOKENS:-1])
        loss = functional.cross_entropy(logits.float().flatten(0, 1), tokens.flatten(), reduction="none")
        weight = torch.from_numpy(answer / answer.sum()).float().to(self._device).flatten()
        loss = (loss * weight).sum()
        if self._words is None:
            return loss
        return loss + self._alignment * self._misalignment(patches.float(), labels, self._words)

    def _misalignment(self, patches: Tensor, labels: Tensor, words: list[list[int]]) -> Tensor:
        with torch.no_grad():
            table = self.model.model.language_model.embed_tokens.weight
            targets = torch.stack([table[word].float().mean(0) for word in words])
            centre = targets.mean(0)
            scale = (targets - centre).norm(dim=-1).mean()
            directions = functional.normalize(targets - centre, dim=-1)
        known = labels != IGNORED
        shown = torch.where(known, labels, 0)
        similarity = functional.normalize(patches - centre, dim=-1) @ directions.T * SHARPNESS
        contrast = functional.cross_entropy(similarity.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        distance = ((patches - targets[shown]) / scale).pow(2).sum(-1)
        return contrast + 0.5 * (distance * known).sum() / known.sum()


def _autocast(device: str) -> torch.autocast:
    return torch.autocast("cuda", dtype=torch.bfloat16, enabled=device == "cuda")


def _causal_mask(length: int, device: str) -> Tensor:
    """bool [1, 1, length, length]. Given explicitly, because transformers takes gaps in positions for packed texts."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()[None, None]
