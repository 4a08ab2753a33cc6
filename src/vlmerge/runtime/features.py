"""Picture features: computed once per run, since merging leaves the vision tower alone.

Where a recipe merges the tower too (two VLMs), `forget` drops them and they are computed again for each candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

PICTURES_AT_ONCE = 16
"""Pictures that go through the tower together; fewer where memory runs out."""


class FeatureCache:
    """Projected picture tokens by the picture's digest.

    Args:
        model: A live VLM.
        device: Where the tower runs.
        room: Bytes of device memory that features may take; the rest waits in host memory.
    """

    def __init__(self, model: Any, device: torch.device, room: int) -> None:
        self._model = model
        self._device = device
        self._room = self._left = room
        self._features: dict[str, Tensor] = {}
        self._at_once = PICTURES_AT_ONCE

    def __contains__(self, digest: str) -> bool:
        return digest in self._features

    def forget(self) -> None:
        """Drops all features: the tower has changed."""
        self._features.clear()
        self._left = self._room

    @torch.inference_mode()
    def compute(self, digests: Sequence[str], pixel_values: Tensor) -> None:
        """Runs the tower over pictures that are new.

        Args:
            digests: One digest per picture; repeats and known ones are skipped.
            pixel_values: [pictures, channels, height, width], as the processor gives them.

        Raises:
            torch.OutOfMemoryError: There is no room for a single picture.
        """
        seen: set[str] = set(self._features)
        new: list[int] = []
        for place, digest in enumerate(digests):
            if digest not in seen:
                seen.add(digest)
                new.append(place)
        dtype = next(self._model.parameters()).dtype
        while new:
            places, rest = new[: self._at_once], new[self._at_once :]
            try:
                output = self._model.get_image_features(pixel_values=pixel_values[places].to(self._device, dtype))
                for place, features in zip(places, output.pooler_output, strict=True):
                    self._keep(digests[place], features)
                new = rest
                continue
            except torch.OutOfMemoryError:
                if len(places) == 1:
                    raise
            # Outside of the handler nothing holds on to what was being made.
            torch.cuda.empty_cache()
            self._at_once = len(places) // 2

    def get(self, digest: str) -> Tensor:
        """Features of one picture, [picture tokens, hidden], on the device."""
        return self._features[digest].to(self._device)

    def _keep(self, digest: str, features: Tensor) -> None:
        size = features.numel() * features.element_size()
        if self._device.type != "cpu" and size > self._left:
            features = features.cpu()
        else:
            self._left -= size
        self._features[digest] = features.clone()
