"""Conversations on which chat templates are compared. Imports nothing of vlmerge."""

from __future__ import annotations

from typing import Any

SYSTEM = {"role": "system", "content": "Be brief, 100 %. "}
USER = {"role": "user", "content": " Where is {the} cat?\nAnd why?\n"}
ANSWER = {"role": "assistant", "content": " On the mat. "}
AGAIN = {"role": "user", "content": "Sure?"}
BOS, EOS = "<s>", "</s>"
NAMES = ("alpaca", "chatml", "exaone", "llama3", "mistral")

CONVERSATIONS: dict[str, list[dict[str, str]]] = {
    "user": [USER],
    "system, user": [SYSTEM, USER],
    "user, assistant": [USER, ANSWER],
    "user, assistant, user": [USER, ANSWER, AGAIN],
    "system, user, assistant, user": [SYSTEM, USER, ANSWER, AGAIN],
    "system, user, assistant": [SYSTEM, USER, ANSWER],
}


def render(template: str) -> dict[str, str]:
    """What transformers makes of every conversation: its name, `…` behind it where an answer is begun → text."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words: Any = Tokenizer(WordLevel({BOS: 0, EOS: 1}, unk_token=BOS))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token=BOS, eos_token=EOS)
    return {
        name + " …" * begun: tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=begun
        )
        for name, messages in CONVERSATIONS.items()
        for begun in (False, True)
    }
