"""Figures that others published on the public benchmarks, with source and protocol. They stand apart from our own rows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vlmerge.store import TaskRecord

IN_THE_WILD = "JA-VLM-Bench-In-the-Wild"
VG_VQA = "JA-VG-VQA-500"

_AKIBA = "Akiba et al. 2024, Evolutionary Optimization of Model Merging Recipes, arXiv:2403.13187"
_SAKANA = "rougeL_ja; 5 beams, repetition penalty 1.5, at most 512 tokens, fp16"
_AUTHORS = "published by its authors"
_OWN = "ROUGE-L, its authors' own protocol"
_COLAB = "Colab notebook, 2024: llava-v1.5-7b + Llama-2-7b + ELYZA-japanese-Llama-2-7b"
_COLAB_PROTOCOL = "rougeL (no language gate); temperature 0.2, at most 256 tokens; best of 104 on the 50 questions searched"


@dataclass(frozen=True)
class Published:
    """One published score, ROUGE-L in points of 100."""

    model: str
    benchmark: str
    score: float
    source: str
    protocol: str
    searched_on_it: bool = False


PUBLISHED = (
    Published("EvoVLM-JP (evolved, parameter space)", IN_THE_WILD, 51.25, _AKIBA, _SAKANA),
    Published("Colab run (evolved, linear)", IN_THE_WILD, 48.97, _COLAB, _COLAB_PROTOCOL, searched_on_it=True),
    Published("PS + DFS (evolved)", IN_THE_WILD, 47.6, _AKIBA, _SAKANA),
    Published("DFS (evolved)", IN_THE_WILD, 46.5, _AKIBA, _SAKANA),
    Published("TIES by hand", IN_THE_WILD, 46.5, _AKIBA, _SAKANA),
    Published("llava-jp-1.3b", IN_THE_WILD, 44.58, _AUTHORS, _OWN),
    Published("chat-vector LLaVA (ELYZA)", IN_THE_WILD, 42.23, _AUTHORS, _OWN),
    Published("LLaVA-1.6-Mistral-7B", IN_THE_WILD, 41.1, _AKIBA, _SAKANA),
    Published("Japanese Stable VLM", IN_THE_WILD, 40.5, _AKIBA, _SAKANA),
    Published("DARE-TIES by hand", IN_THE_WILD, 36.0, _AKIBA, _SAKANA),
    Published("PS + DFS (evolved)", VG_VQA, 20.4, _AKIBA, _SAKANA),
    Published("EvoVLM-JP (evolved, parameter space)", VG_VQA, 19.7, _AKIBA, _SAKANA),
    Published("chat-vector LLaVA (ELYZA)", VG_VQA, 18.64, _AUTHORS, _OWN),
    Published("DFS (evolved)", VG_VQA, 16.8, _AKIBA, _SAKANA),
    Published("TIES by hand", VG_VQA, 16.0, _AKIBA, _SAKANA),
    Published("LLaVA-1.6-Mistral-7B", VG_VQA, 14.3, _AKIBA, _SAKANA),
    Published("llava-jp-1.3b", VG_VQA, 12.69, _AUTHORS, _OWN),
    Published("DARE-TIES by hand", VG_VQA, 9.4, _AKIBA, _SAKANA),
)


def benchmark_of(task: TaskRecord) -> str | None:
    """The public benchmark that a task is, by its name or by where its questions come from; None for any other."""
    for benchmark in (IN_THE_WILD, VG_VQA):
        if any(_plain(benchmark) in _plain(text) for text in (task.task, task.source)):
            return benchmark
    return None


def differences(task: TaskRecord, figure: Published) -> list[str]:
    """What makes our score and a published one not comparable: any of `metric`, `decoding`, `questions`; `prompt` always.

    No publication gives its prompt whole, so that a prompt is never known to be the same.
    """
    found: list[str] = []
    if figure.protocol.split(" ")[0].rstrip(";") != task.metric:
        found.append("metric")
    beams, penalty, tokens = ("5 beams", "repetition penalty 1.5", "at most 512 tokens")
    sakana = all(part in task.decoding for part in (beams, penalty, tokens))
    colab = "temperature 0.2" in task.decoding and "at most 256 tokens" in task.decoding
    if not (colab if figure.searched_on_it else sakana):
        found.append("decoding")
    if figure.searched_on_it:
        found.append("questions")
    return [*found, "prompt"]


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
