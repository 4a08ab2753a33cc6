"""Definitions of the public data sets that are known by name. Data only; hub.py loads them and questions.py reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class BuiltIn:
    """A public data set that is known by name.

    Attributes:
        name: What `name:` in a run says.
        repository: Hub id of the data set.
        splits: Its splits, with what each is good for.
        split: The split that is taken where none is named.
        metric: Metric where none is named.
        languages: Languages of questions and answers.
        licence: What its card says.
        what: One line: content and size.
        good_for: One line: search or holdout, and why.
        fields: Which column is what, where a column has another name.
        nested: Column that lists several questions with each picture; each entry is laid over its row.
    """

    name: str
    repository: str
    splits: Mapping[str, str]
    split: str
    metric: str
    languages: tuple[str, ...]
    licence: str
    what: str
    good_for: str
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    nested: str | None = None


JA_VLM_BENCH_IN_THE_WILD = BuiltIn(
    name="ja-vlm-bench-in-the-wild",
    repository="SakanaAI/JA-VLM-Bench-In-the-Wild",
    splits={"test": "50 questions about 42 pictures"},
    split="test",
    metric="rougeL_ja",
    languages=("ja",),
    licence="pictures: Unsplash licence; the card names none for the texts",
    what="Photographs from Japan with demanding questions and long answers: 50 questions, 42 pictures",
    good_for="holdout (the published tables report it; too small to search on)",
)

JA_VG_VQA_500 = BuiltIn(
    name="ja-vg-vqa-500",
    repository="SakanaAI/JA-VG-VQA-500",
    splits={"train": "1000 pictures", "test": "500 pictures, the published tables"},
    split="test",
    metric="rougeL_ja",
    languages=("ja",),
    licence="cc-by-4.0",
    what="Visual Genome photographs with short Japanese questions, several for each picture: train 1000, test 500 pictures",
    good_for="search on `split: train`; holdout on `split: test`",
    fields={"id": "qa_id"},
    nested="qas",
)
