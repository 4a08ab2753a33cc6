"""A loaded model that answers: `vlmerge.load`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, Union, cast

from vlmerge.ask import failing_as_error, load_model, picture_of
from vlmerge.types import Decoding, Question

if TYPE_CHECKING:
    from PIL.Image import Image

    from vlmerge.checkpoint import Progress
    from vlmerge.config.run import RuntimeSpec

Shown: TypeAlias = Union[str, "os.PathLike[str]", bytes, "Image"]
"""A picture: a path, an http(s) address, encoded bytes, or a PIL picture."""


class Model:
    """A model in memory. Made by `vlmerge.load`.

    Args:
        name: A folder (a run folder stands for its winner) or a hub id.
        runtime: Where it runs.
        progress: Told of bytes downloaded.

    Attributes:
        name: As the person named it.
    """

    def __init__(self, name: str, runtime: RuntimeSpec, progress: Progress | None = None) -> None:
        self.name = name
        self._live = load_model(name, runtime, progress=progress)

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self._live.placement.device

    def ask(
        self,
        image: Shown | Sequence[Shown] | None,
        question: str,
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 1,
    ) -> str:
        """Asks one question.

        Args:
            image: A path, an http(s) address, encoded bytes, a PIL picture; several in a list; None for a question without one.
            question: In any language.
            max_new_tokens: Longest answer, in tokens.
            temperature: 0: always the same answer.
            seed: Of the sampling, from 1.

        Returns:
            The answer.

        Raises:
            TaskError: A picture that cannot be fetched or read.
            CheckpointError: The model cannot answer.
        """
        several = image if isinstance(image, list | tuple) else [] if image is None else [image]
        shown = tuple(picture_of(each) for each in cast("Sequence[Shown]", several))
        for picture in shown:
            picture.open()
        asked = Question("ask", "ask", question, shown, ("",))
        decoding = Decoding(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        with failing_as_error(self.name):
            return next(self._live.answer([asked], decoding)).text

    def __repr__(self) -> str:
        return f"Model({self.name!r}, on {self.device})"
