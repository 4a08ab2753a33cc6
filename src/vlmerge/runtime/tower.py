"""The part of a live VLM that sees: what it gives for pictures, and how the model's own forward finds that instead of seeing.

Facts checked against transformers 5.17 and 5.23; `tests/families` holds them to every family's class.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Pixels = Mapping[str, Tensor]
"""What a processor makes of one question's pictures, by the names of the model's own arguments."""


@dataclass(frozen=True)
class Seen:
    """What a tower and its projector give for the pictures of one question.

    Attributes:
        blocks: One tensor per picture or per tile, in order: [picture tokens, hidden]; of a decoder with cross-attention one
            for all pictures, [pictures, tiles, patches, hidden].
        deep: For each decoder layer that is given pictures anew: tensors alike to `blocks`. Empty for most families.
    """

    blocks: tuple[Tensor, ...]
    deep: tuple[tuple[Tensor, ...], ...] = ()

    @property
    def rows(self) -> Tensor:
        """All of it as rows that stand for placeholders, [picture tokens, hidden]."""
        return torch.cat(self.blocks)

    @property
    def bytes(self) -> int:
        """Size in memory."""
        every = (*self.blocks, *(tensor for layer in self.deep for tensor in layer))
        return sum(tensor.numel() * tensor.element_size() for tensor in every)

    def on(self, device: torch.device | str, *, copy: bool = False) -> Seen:
        """The same on a device; `copy`: in memory of its own."""
        deep = tuple(tuple(tensor.to(device, copy=copy) for tensor in layer) for layer in self.deep)
        return Seen(tuple(tensor.to(device, copy=copy) for tensor in self.blocks), deep)


class Tower:
    """Vision tower and projector of a live model.

    Args:
        model: A live transformers model that sees.
        device: Where it is.

    Attributes:
        crossing: Whether the decoder looks at pictures by cross-attention, not as rows among its embeddings.
        one_by_one: Whether questions must be seen apart: what layers are given anew comes without telling whose it is.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._inner, self._device = model, model.model, device
        self.crossing = not hasattr(self._inner, "get_image_features")
        self.one_by_one = hasattr(getattr(model.config, "vision_config", None), "deepstack_visual_indexes")
        # In which of two forms this model's forward wants what its tower gives.
        self._listed = self._deep_listed = True

    @torch.inference_mode()
    def see(self, pixels: Sequence[Pixels]) -> list[Seen]:
        """Runs the tower.

        Args:
            pixels: One of each question, of the same names and shapes.

        Raises:
            torch.OutOfMemoryError: There is no room for so many.
        """
        dtype = next(self._model.parameters()).dtype
        given = {
            name: (joined.to(self._device, dtype) if joined.is_floating_point() else joined.to(self._device))
            for name, joined in ((name, torch.cat([one[name] for one in pixels])) for name in pixels[0])
        }
        if self.crossing:
            states = self._inner.vision_model(**given).last_hidden_state
            return [Seen((each,)) for each in self._inner.multi_modal_projector(states)]
        output = self._model.get_image_features(**given)
        self._listed = not isinstance(output.pooler_output, Tensor)
        blocks, layers = list(output.pooler_output), getattr(output, "deepstack_features", None) or ()
        self._deep_listed = not any(isinstance(layer, Tensor) for layer in layers)
        deep = tuple((layer,) if isinstance(layer, Tensor) else tuple(layer) for layer in layers)
        each, rest = divmod(len(blocks), len(pixels))
        assert not rest, f"{len(blocks)} blocks of features for {len(pixels)} questions of one shape"
        return [Seen(tuple(blocks[start : start + each]), deep) for start in range(0, len(blocks), each)]

    @contextlib.contextmanager
    def remembering(self, seen: Sequence[Seen], rows: int) -> Generator[dict[str, Tensor]]:
        """Lets the model's own forward find what was seen where it would run the tower.

        Args:
            seen: Of the questions of a batch, in order; empty for questions without pictures.
            rows: First dimension of the pixels that stand for all of them; a model with cross-attention has one per
                question, and as many pictures in each.

        Yields:
            What to give the model in place of pixels, of which it needs to know no more than that they are there.
        """
        if not seen:
            yield {}
            return
        pixels = torch.zeros((rows, 1, 1, 1), device=self._device)

        def beams(given: Tensor) -> int:
            # Some versions ask before they repeat rows for beams, some after. They would then repeat each picture, not each
            # question's pictures: right for one picture, wrong for two.
            return len(given) // rows

        if self.crossing:
            states = torch.stack([each.blocks[0] for each in seen])

            def look(pixel_values: Tensor, **_: Any) -> SimpleNamespace:
                return SimpleNamespace(last_hidden_state=states.repeat_interleave(beams(pixel_values), 0))

            def as_it_is(projected: Tensor) -> Tensor:
                return projected

            with (
                _instead(self._inner.vision_model, "forward", look),
                _instead(self._inner.multi_modal_projector, "forward", as_it_is),
            ):
                yield {"pixel_values": pixels, "aspect_ratio_ids": torch.zeros_like(pixels[..., 0, 0], dtype=torch.long)}
            return

        def look_up(pixel_values: Tensor, *_: Any, **__: Any) -> SimpleNamespace:
            again = [each for each in seen for _ in range(beams(pixel_values))]
            blocks = [block for each in again for block in each.blocks]
            deep = [[one for each in again for one in each.deep[layer]] for layer in range(len(seen[0].deep))]
            found = SimpleNamespace(pooler_output=blocks if self._listed else torch.stack(blocks))
            if deep:
                found.deepstack_features = deep if self._deep_listed else [torch.cat(layer) for layer in deep]
            return found

        with _instead(self._inner, "get_image_features", look_up):
            yield {"pixel_values": pixels}


@contextlib.contextmanager
def _instead(module: Any, name: str, call: Any) -> Generator[None]:
    """Puts a function in a method's place on this one module."""
    before = module.__dict__.get(name)
    setattr(module, name, call)
    try:
        yield
    finally:
        delattr(module, name)
        if before is not None:
            setattr(module, name, before)
