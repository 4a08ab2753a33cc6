"""Chat templates that a recipe may name: the formats of well-known models, in Jinja, for messages whose content is text.

White space stands in the strings alone, so that they render the same whatever a Jinja environment trims.
"""

from __future__ import annotations

from collections.abc import Mapping

ALPACA = """\
{%- set told = messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | map('trim') | list -%}
{%- set headings = {'user': 'Instruction', 'user_context': 'Input', 'assistant': 'Response'} -%}
{%- set parts = namespace(all=told[-1:]) -%}
{%- for message in messages if message['role'] in headings -%}
  {%- set heading = '### ' ~ headings[message['role']] ~ ':\\n' -%}
  {%- set parts.all = parts.all + [heading ~ message['content'] | trim] -%}
{%- endfor -%}
{%- if add_generation_prompt and messages[-1]['role'] != 'assistant' -%}
  {%- set parts.all = parts.all + ['### Response:\\n'] -%}
{%- endif -%}
{{- parts.all | join('\\n\\n') -}}
"""
"""Stanford Alpaca, by turns: a blank line between parts, the system's text before them."""

CHATML = """\
{%- for message in messages -%}
  {{- '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ '<|im_end|>\\n' -}}
{%- endfor -%}
{{- '<|im_start|>assistant\\n' if add_generation_prompt else '' -}}
"""
"""OpenAI's ChatML, as Qwen has it, but for Qwen's system prompt."""

EXAONE = """\
{{- '' if messages[0]['role'] == 'system' else '[|system|][|endofturn|]\\n' -}}
{%- for message in messages -%}
  {%- set end = '\\n' if message['role'] == 'user' else '[|endofturn|]\\n' -%}
  {{- '[|' ~ message['role'] ~ '|]' ~ message['content'] ~ end -}}
{%- endfor -%}
{{- '[|assistant|]' if add_generation_prompt else '' -}}
"""
"""LG's EXAONE 3: a line per turn, an empty system turn where none is given, no end of turn after the user's."""

LLAMA3 = """\
{%- set begin, end = '<|start_header_id|>', '<|end_header_id|>\\n\\n' -%}
{%- for message in messages -%}
  {{- bos_token if loop.first else '' -}}
  {{- begin ~ message['role'] ~ end ~ message['content'] | trim ~ '<|eot_id|>' -}}
{%- endfor -%}
{{- begin ~ 'assistant' ~ end if add_generation_prompt else '' -}}
"""
"""Meta's Llama 3: a header, two ends of line, the text, an end of turn; nothing between turns."""

MISTRAL = """\
{{- bos_token -}}
{%- set told = messages[0]['content'] ~ '\\n\\n' if messages[0]['role'] == 'system' else '' -%}
{%- for message in (messages[1:] if told else messages) -%}
  {%- if message['role'] != ('assistant' if loop.index is even else 'user') -%}
    {{- raise_exception('Behind a system message the turns of user and assistant alternate, the user begins.') -}}
  {%- elif message['role'] == 'user' -%}
    {{- ' [INST] ' ~ (told if loop.first else '') ~ message['content'] ~ ' [/INST]' -}}
  {%- else -%}
    {{- ' ' ~ message['content'] ~ eos_token -}}
  {%- endif -%}
{%- endfor -%}
"""
"""Mistral-Instruct with SentencePiece's spaces: the system's text stands in the first instruction."""

CHAT_TEMPLATES: Mapping[str, str] = {
    "alpaca": ALPACA,
    "chatml": CHATML,
    "exaone": EXAONE,
    "llama3": LLAMA3,
    "mistral": MISTRAL,
}
"""Name → Jinja text; the names are mergekit's."""
