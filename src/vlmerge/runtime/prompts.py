"""Questions → token ids: the model's own chat template, or vicuna_v1 where it has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vlmerge.errors import CheckpointError, TaskError
from vlmerge.types import Question

VICUNA_V1 = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
    "USER: {pictures}{question} ASSISTANT:"
)
"""LLaVA-1.5's prompt (`conv_vicuna_v1` of the LLaVA repository), each picture as the placeholder and a newline."""


@dataclass(frozen=True)
class Encoded:
    """One question, ready for the decoder.

    Attributes:
        text: The prompt as text, before picture placeholders are multiplied.
        ids: Token ids; a picture's tokens are `placeholder` ids.
        prefix: Number of leading ids up to and including the last picture token; 0 without pictures.
    """

    text: str
    ids: tuple[int, ...]
    prefix: int


@dataclass(frozen=True)
class Prompter:
    """Wraps and tokenises questions as one checkpoint wants them.

    Attributes:
        processor: transformers' processor of a VLM, or None for a plain language model.
        tokenizer: Its tokenizer.
        placeholder: Token id that stands for one picture token, or None for a plain language model.
        template: `vicuna_v1` forces that prompt; None takes the checkpoint's own chat template.
    """

    processor: Any
    tokenizer: Any
    placeholder: int | None
    template: str | None

    @property
    def _vicuna(self) -> bool:
        return self.template == "vicuna_v1" or not getattr(self.processor or self.tokenizer, "chat_template", None)

    def text(self, question: Question) -> str:
        """The prompt as text.

        Raises:
            TaskError: The question's text holds the token that stands for a picture.
        """
        self._check(question)
        if self._vicuna:
            pictures = "".join(f"{self._picture_token}\n" for _ in question.pictures)
            return VICUNA_V1.format(pictures=pictures, question=question.text)
        pictures = [{"type": "image"} for _ in question.pictures]
        content: Any = [*pictures, {"type": "text", "text": question.text}] if self.processor else question.text
        messages = [{"role": "user", "content": content}]
        renderer = self.processor or self.tokenizer
        return str(renderer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def encode(self, questions: Sequence[Question]) -> tuple[list[Encoded], Tensor | None]:
        """Tokenises questions.

        Returns:
            The encoded questions; pixel values of their pictures in order, [pictures, channels, height, width], or None.
        """
        texts = [self.text(question) for question in questions]
        images = [picture.open() for question in questions for picture in question.pictures]
        bos = self.tokenizer.bos_token
        special = not (bos and texts and texts[0].startswith(bos))
        if not images:
            rows = self.tokenizer(texts, add_special_tokens=special)["input_ids"]
            return [self._encoded(text, row) for text, row in zip(texts, rows, strict=True)], None
        if self.processor is None:
            raise CheckpointError(
                "a language model cannot be asked about pictures",
                where=questions[0].id,
                expected="a vision-language model, or questions without pictures",
                found=f"{len(images)} picture(s)",
                remedy="add a vision-language model to the merge, or take the pictures out of the task",
            )
        batch = self.processor(text=texts, images=images, add_special_tokens=special, padding=True, return_tensors="pt")
        encoded: list[Encoded] = []
        for text, ids, mask in zip(texts, batch["input_ids"], batch["attention_mask"], strict=True):
            encoded.append(self._encoded(text, ids[mask.bool()].tolist()))
        return encoded, batch["pixel_values"]

    @property
    def _picture_token(self) -> str:
        return getattr(self.processor, "image_token", "<image>")

    def _check(self, question: Question) -> None:
        if self.placeholder is not None and self._picture_token in question.text:
            raise TaskError(
                "a question's text holds the token that stands for a picture",
                where=f"task {question.task!r}, question {question.id!r}",
                expected="the question alone; pictures are put before it",
                found=f"{self._picture_token} in {question.text[:80]!r}",
                remedy=f"take {self._picture_token} out of the text, and name the picture in `image`",
            )

    def _encoded(self, text: str, ids: Sequence[int]) -> Encoded:
        places = [place for place, token in enumerate(ids) if token == self.placeholder]
        return Encoded(text, tuple(ids), places[-1] + 1 if places else 0)
