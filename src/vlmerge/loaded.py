"""A loaded model that answers: `vlmerge.load`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmerge.ask import answer, load_model, pictures_of
from vlmerge.given import decoding_of, question_of

if TYPE_CHECKING:
    from vlmerge.ask import Shown
    from vlmerge.checkpoint import Progress
    from vlmerge.config.run import RuntimeSpec


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
            ConfigError: No text; a number that cannot be.
            CheckpointError: The model cannot answer.
        """
        text = question_of(question, "ask, `question`")
        decoding = decoding_of(max_new_tokens, temperature, seed, "ask")
        return answer(self._live, self.name, pictures_of(image), text, decoding).text

    def __repr__(self) -> str:
        return f"Model({self.name!r}, on {self.device})"
