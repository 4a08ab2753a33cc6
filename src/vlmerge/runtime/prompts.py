"""Questions → tensors: the model's own chat template and processor; where it has no template, the form that it knows best."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vlmerge.errors import CheckpointError, TaskError
from vlmerge.runtime.tower import Pixels
from vlmerge.types import Question

VICUNA_V1 = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
    "USER: {pictures}{question} ASSISTANT:"
)
"""LLaVA-1.5's prompt (`conv_vicuna_v1` of the LLaVA repository), each picture as the placeholder and a newline."""

BY_TOKEN = ("token_type_ids", "mm_token_type_ids", "cross_attention_mask")
"""What a processor may say of each token beside its id, by the names of the model's arguments: [1, tokens, …]."""
BY_PICTURE = (
    "pixel_values", "pixel_attention_mask", "image_sizes", "image_grid_thw", "aspect_ratio_ids", "aspect_ratio_mask",
    "batch_num_images",
)  # fmt: skip
"""What it may say of pictures."""
FOR_THE_DECODER = ("image_grid_thw",)
"""What of that the decoder reads too."""
NOT_ASKED = ("input_ids", "attention_mask", "labels")
"""What has its own place here, or is for training."""


@dataclass(frozen=True)
class Encoded:
    """One question, ready for the decoder.

    Attributes:
        text: The prompt as text, before picture placeholders are multiplied.
        ids: Token ids; a picture's tokens are `placeholder` ids.
        prefix: Number of leading ids up to and including the last picture token; 0 without pictures.
        by_token: What the model wants to know of each token, [1, tokens, …] by argument.
        by_picture: What its decoder wants to know of pictures, [pictures, …] by argument.
        pixel_rows: First dimension of its pixels; 0 without pictures.
    """

    text: str
    ids: tuple[int, ...]
    prefix: int
    by_token: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    by_picture: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    pixel_rows: int = 0


@dataclass(frozen=True)
class Prompter:
    """Wraps and tokenises questions as one checkpoint wants them.

    Attributes:
        processor: transformers' processor of a VLM, or None for a plain language model.
        tokenizer: Its tokenizer.
        placeholder: Token id that stands for one picture token, or None for a plain language model.
        template: `vicuna_v1` forces that prompt; None takes the checkpoint's own chat template.
        bare: Where there is no template: `vicuna_v1`, or `plain`, picture tokens and the question, to which a processor may
            add what its model was trained with (PaliGemma's puts a beginning between them and a newline at the end).
        reads: Names of the arguments of the model's forward.
        cannot_ask: Why the model cannot be asked at all.
    """

    processor: Any
    tokenizer: Any
    placeholder: int | None
    template: str | None
    bare: str = "vicuna_v1"
    reads: frozenset[str] = frozenset()
    cannot_ask: CheckpointError | None = None

    @property
    def _form(self) -> str:
        """Which prompt is taken."""
        if self.template is not None:
            return self.template
        return "template" if getattr(self.processor or self.tokenizer, "chat_template", None) else self.bare

    def text(self, question: Question) -> str:
        """The prompt as text.

        Raises:
            CheckpointError: The model's processor could not be loaded.
            TaskError: The question's text holds the token that stands for a picture.
        """
        if self.cannot_ask is not None:
            raise self.cannot_ask
        if question.ready:
            return question.text
        self._check(question)
        form, token = self._form, self.picture_token
        if form == "plain":
            return token * len(question.pictures) + question.text
        if form == "vicuna_v1":
            return VICUNA_V1.format(pictures=f"{token}\n" * len(question.pictures), question=question.text)
        pictures = [{"type": "image"} for _ in question.pictures]
        content: Any = [*pictures, {"type": "text", "text": question.text}] if self.processor else question.text
        messages = [{"role": "user", "content": content}]
        renderer = self.processor or self.tokenizer
        return str(renderer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def encode(self, question: Question) -> tuple[Encoded, Pixels]:
        """Tokenises a question, alone, so that nothing of it depends on what else is asked.

        Returns:
            The encoded question, and what its tower is to see; empty without pictures.

        Raises:
            CheckpointError: Pictures for a language model, or a processor that gives what is not known here.
            TaskError: The processor refuses the question; or a ready prompt with pictures is too long.
        """
        text = self.text(question)
        images = [picture.open() for picture in question.pictures] or None
        bos = self.tokenizer.bos_token
        how = {"add_special_tokens": not (bos and text.startswith(bos)), "return_tensors": "pt"}
        if self.processor is not None and not (question.ready and images is None):
            if question.ready:
                del how["add_special_tokens"]  # lm-eval leaves this to processors, too.
            try:
                given = self.processor(text=[text], images=images, **how)
            except ValueError as error:
                raise TaskError(
                    "the model's processor does not take a question",
                    where=f"task {question.task!r}, question {question.id!r}, {len(question.pictures)} picture(s)",
                    found=str(error).splitlines()[0],
                    remedy="take the question out of the task, or use another model",
                ) from error
        elif images is None:
            given = self.tokenizer([text], **how)
            if question.ready:
                given = {"input_ids": given["input_ids"]}
        else:
            raise CheckpointError(
                "a language model cannot be asked about pictures",
                where=question.id,
                expected="a vision-language model, or questions without pictures",
                found=f"{len(images)} picture(s)",
                remedy="add a vision-language model to the merge, or take the pictures out of the task",
            )
        if question.ready and given["input_ids"].shape[1] > question.ready:
            if images is not None:
                raise TaskError(
                    "a prompt with a picture is longer than the model reads",
                    where=f"task {question.task!r}, question {question.id!r}",
                    expected=f"at most {question.ready} tokens, so that the answer has room",
                    found=f"{given['input_ids'].shape[1]} tokens",
                    remedy="ask for shorter answers (`max_gen_toks` of the task) or fewer examples (`num_fewshot`)",
                )
            given = {"input_ids": given["input_ids"][:, -question.ready :]}
        return self._sorted(text, given)

    @property
    def picture_token(self) -> str:
        """What stands for a picture in a prompt's text."""
        return getattr(self.processor, "image_token", "<image>")

    def _check(self, question: Question) -> None:
        if self.placeholder is not None and self.picture_token in question.text:
            raise TaskError(
                "a question's text holds the token that stands for a picture",
                where=f"task {question.task!r}, question {question.id!r}",
                expected="the question alone; pictures are put before it",
                found=f"{self.picture_token} in {question.text[:80]!r}",
                remedy=f"take {self.picture_token} out of the text, and name the picture in `image`",
            )

    def _sorted(self, text: str, given: Mapping[str, Any]) -> tuple[Encoded, Pixels]:
        """What a processor gives, by what becomes of it. What the model's forward does not read is left out."""
        read = {name: tensor for name, tensor in given.items() if name in self.reads and name not in NOT_ASKED}
        strange = [name for name in read if name not in (*BY_TOKEN, *BY_PICTURE)]
        if strange:
            raise CheckpointError(
                "the model's processor gives more than is known here, and the model reads it",
                where=type(self.processor or self.tokenizer).__name__,
                expected=", ".join((*BY_TOKEN, *BY_PICTURE)),
                found=", ".join(strange),
                remedy="use the version of transformers that this release names",
            )
        ids: list[int] = given["input_ids"][0].tolist()
        places = [place for place, token in enumerate(ids) if token == self.placeholder]
        pixels = {name: read[name] for name in BY_PICTURE if name in read}
        encoded = Encoded(
            text=text,
            ids=tuple(ids),
            prefix=places[-1] + 1 if places else 0,
            by_token={name: read[name] for name in BY_TOKEN if name in read},
            by_picture={name: read[name] for name in FOR_THE_DECODER if name in read},
            pixel_rows=len(pixels["pixel_values"]) if pixels else 0,
        )
        return encoded, pixels


def read_by(model_class: Any) -> frozenset[str]:
    """Names of the arguments of a model's forward."""
    return frozenset(inspect.signature(model_class.forward).parameters)
