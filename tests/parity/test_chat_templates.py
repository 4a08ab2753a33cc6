"""The chat templates that have a name give what their formats say, and what mergekit's give but for its stray white space."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conversations import BOS, CONVERSATIONS, EOS, NAMES, render

from vlmerge.config.chat_templates import CHAT_TEMPLATES

GOLDEN = Path(__file__).with_name("golden") / "mergekit-0.1.5-chat-templates.json"
ASKED = " Where is {the} cat?\nAnd why?\n"
"""The user's first turn, as it is given; some formats trim it."""

EXPECTED = {
    "alpaca": {
        "user …": f"### Instruction:\n{ASKED.strip()}\n\n### Response:\n",
        "system, user, assistant, user …": f"Be brief, 100 %.\n\n### Instruction:\n{ASKED.strip()}\n\n### Response:\n"
        "On the mat.\n\n### Instruction:\nSure?\n\n### Response:\n",
        "user, assistant": f"### Instruction:\n{ASKED.strip()}\n\n### Response:\nOn the mat.",
    },
    "chatml": {
        "user …": f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n",
        "system, user, assistant, user …": "<|im_start|>system\nBe brief, 100 %. <|im_end|>\n"
        f"<|im_start|>user\n{ASKED}<|im_end|>\n"
        "<|im_start|>assistant\n On the mat. <|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n",
        "user, assistant": f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n On the mat. <|im_end|>\n",
    },
    "exaone": {
        "user …": f"[|system|][|endofturn|]\n[|user|]{ASKED}\n[|assistant|]",
        "system, user, assistant, user …": f"[|system|]Be brief, 100 %. [|endofturn|]\n[|user|]{ASKED}\n"
        "[|assistant|] On the mat. [|endofturn|]\n[|user|]Sure?\n[|assistant|]",
        "user, assistant": f"[|system|][|endofturn|]\n[|user|]{ASKED}\n[|assistant|] On the mat. [|endofturn|]\n",
    },
    "llama3": {
        "user …": f"{BOS}<|start_header_id|>user<|end_header_id|>\n\n{ASKED.strip()}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "system, user, assistant, user …": f"{BOS}<|start_header_id|>system<|end_header_id|>\n\nBe brief, 100 %.<|eot_id|>"
        f"<|start_header_id|>user<|end_header_id|>\n\n{ASKED.strip()}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nOn the mat.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nSure?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "user, assistant": f"{BOS}<|start_header_id|>user<|end_header_id|>\n\n{ASKED.strip()}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nOn the mat.<|eot_id|>",
    },
    "mistral": {
        "user …": f"{BOS} [INST] {ASKED} [/INST]",
        "system, user, assistant, user …": f"{BOS} [INST] Be brief, 100 %. \n\n{ASKED} [/INST]"
        f"  On the mat. {EOS} [INST] Sure? [/INST]",
        "user, assistant": f"{BOS} [INST] {ASKED} [/INST]  On the mat. {EOS}",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_named_template_renders_as_its_format_says(name: str) -> None:
    rendered = render(CHAT_TEMPLATES[name])
    assert {conversation: rendered[conversation] for conversation in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize("name", NAMES)
def test_it_renders_what_mergekits_renders(name: str) -> None:
    """Three of mergekit's carry the line ends and indents of their own files into the prompt, or leave out a blank line."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[name]
    rendered = render(CHAT_TEMPLATES[name])
    assert rendered.keys() == golden.keys()
    if name in ("chatml", "mistral"):
        assert rendered == golden
    assert {key: "".join(text.split()) for key, text in rendered.items()} == {
        key: "".join(text.split()) for key, text in golden.items()
    }


def test_there_are_as_many_as_mergekit_has() -> None:
    assert list(CHAT_TEMPLATES) == list(NAMES) == list(json.loads(GOLDEN.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", NAMES)
def test_no_white_space_comes_from_the_environment(name: str) -> None:
    from jinja2 import Environment

    told = {"add_generation_prompt": True, "bos_token": BOS, "eos_token": EOS}
    for environment in (Environment(), Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)):
        for conversation, messages in CONVERSATIONS.items():
            text = environment.from_string(CHAT_TEMPLATES[name]).render(messages=messages, **told)
            assert text == render(CHAT_TEMPLATES[name])[f"{conversation} …"]


def test_mistrals_turns_alternate() -> None:
    from jinja2 import Environment, TemplateError

    def refuse(message: str) -> None:
        raise TemplateError(message)

    template = Environment().from_string(CHAT_TEMPLATES["mistral"])
    for roles in (("assistant",), ("user", "user"), ("system", "assistant"), ("user", "tool")):
        with pytest.raises(TemplateError, match="alternate"):
            template.render(
                messages=[{"role": role, "content": ""} for role in roles], bos_token="", eos_token="", raise_exception=refuse
            )
