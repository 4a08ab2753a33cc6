"""Protocols of published experiments: everything that must be the same before two scores may be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vlmerge.types import Decoding


@dataclass(frozen=True)
class Preset:
    """How a published experiment asked and scored.

    Attributes:
        name: What `preset:` in a run says.
        decoding: How answers are generated.
        metric: Name of a metric.
        template: Prompt template that is forced on every model; None leaves each model its own chat template.
        first_question_per_image: Of a data set that lists several questions with each picture (`qas`), only the first counts.
        description: One line for tables.
    """

    name: str
    decoding: Decoding
    metric: str
    template: Literal["vicuna_v1"] | None
    first_question_per_image: bool
    description: str


SAKANA = Preset(
    name="sakana",
    decoding=Decoding(max_new_tokens=512, num_beams=5, repetition_penalty=1.5),
    metric="rougeL_ja",
    template=None,
    first_question_per_image=True,
    description="EvoVLM-JP's tables (Akiba et al., 2024): 5 beams, repetition penalty 1.5, at most 512 tokens, language gate, "
    "the model's own chat template, first question per picture of JA-VG-VQA-500",
)

COLAB_2024 = Preset(
    name="colab-2024",
    decoding=Decoding(max_new_tokens=256, temperature=0.2),
    metric="rougeL",
    template="vicuna_v1",
    first_question_per_image=False,
    description="The LLaVA-1.5 and ELYZA merge experiment on Colab (2024): sampling at temperature 0.2, at most 256 tokens, "
    "no language gate, LLaVA's vicuna_v1 prompt",
)

EVOLLM_JP = Preset(
    name="evollm-jp",
    decoding=Decoding(max_new_tokens=1024),
    metric="mgsm_ja",
    template=None,
    first_question_per_image=False,
    description="EvoLLM-JP's table on MGSM-JA (Akiba et al., 2024): no examples, greedy, at most 1024 tokens, the last number, "
    "language gate. The prompt is the model's own, where that table's models had an Alpaca prompt that asks for steps",
)
"""SakanaAI/evolutionary-model-merge: `evomerge/eval/ja_mgsm.py`, `evomerge/models/causallm.py`, `configs/llm`."""

JMMMU_PUBLISHED = Preset(
    name="jmmmu",
    decoding=Decoding(max_new_tokens=1024),
    metric="jmmmu",
    template=None,
    first_question_per_image=False,
    description="JMMMU as lmms-eval asks it (Onohara et al., 2024): greedy, at most 1024 tokens, pictures before the question, "
    "the model's own chat template",
)

MMMU_PUBLISHED = Preset(
    name="mmmu",
    decoding=Decoding(max_new_tokens=512),
    metric="mmmu",
    template=None,
    first_question_per_image=False,
    description="MMMU with its own prompts and answer parsing (Yue et al., 2024), decoded as in lm-evaluation-harness: greedy, "
    "at most 512 tokens; pictures before the question, the model's own chat template",
)
