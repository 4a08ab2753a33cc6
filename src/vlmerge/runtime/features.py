"""Picture features: computed once per run, since merging leaves the vision tower alone.

Where a recipe merges the tower too (two VLMs), `forget` drops them and they are computed again for each candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from vlmerge.runtime.tower import Pixels, Seen, Tower

AT_ONCE = 16
"""Questions whose pictures go through the tower together; fewer where memory runs out."""
Pictures = tuple[str, ...]
"""Digests of a question's pictures, in order: how one is cut up may depend on the others."""


class FeatureCache:
    """What the tower gives, by the pictures of a question.

    Args:
        tower: A live VLM's.
        device: Where the tower runs.
        room: Bytes of device memory that features may take; the rest waits in host memory.
    """

    def __init__(self, tower: Tower, device: torch.device, room: int) -> None:
        self._tower = tower
        self._device = device
        self._room = self._left = room
        self._seen: dict[Pictures, Seen] = {}
        self._at_once = 1 if tower.one_by_one else AT_ONCE

    def __contains__(self, pictures: Pictures) -> bool:
        return pictures in self._seen

    def forget(self) -> None:
        """Drops all features: the tower has changed."""
        self._seen.clear()
        self._left = self._room

    def compute(self, pictures: Sequence[Pictures], pixels: Sequence[Pixels]) -> None:
        """Runs the tower over pictures that are new.

        Args:
            pictures: Of each question; repeats and known ones are skipped.
            pixels: Of each question, as the processor gives them.

        Raises:
            torch.OutOfMemoryError: There is no room for a single question's pictures.
        """
        alike: dict[Any, dict[Pictures, Pixels]] = {}
        for asked, given in zip(pictures, pixels, strict=True):
            if asked not in self._seen:
                shapes = tuple((name, tensor.shape) for name, tensor in given.items())
                alike.setdefault(shapes, {}).setdefault(asked, given)
        for group in alike.values():
            self._see(list(group), list(group.values()))

    def get(self, pictures: Pictures) -> Seen:
        """What was seen of one question's pictures, on the device."""
        return self._seen[pictures].on(self._device)

    def _see(self, new: list[Pictures], pixels: list[Pixels]) -> None:
        while new:
            count = min(self._at_once, len(new))
            try:
                for asked, seen in zip(new[:count], self._tower.see(pixels[:count]), strict=True):
                    self._keep(asked, seen)
                new, pixels = new[count:], pixels[count:]
                continue
            except torch.OutOfMemoryError:
                if count == 1:
                    raise
            # Outside of the handler nothing holds on to what was being made.
            torch.cuda.empty_cache()
            self._at_once = count // 2

    def _keep(self, pictures: Pictures, seen: Seen) -> None:
        if self._device.type != "cpu" and seen.bytes > self._left:
            self._seen[pictures] = seen.on("cpu")
            return
        self._left -= seen.bytes
        self._seen[pictures] = seen.on(self._device, copy=True)
