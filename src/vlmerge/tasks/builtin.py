"""Definitions of the public data sets that are known by name. Data only; hub.py loads them and questions.py reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vlmerge.tasks.judged_rows import heron_row
from vlmerge.tasks.mmmu_rows import jmmmu_row, mmmu_row
from vlmerge.tasks.rows import Row


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
        configs: Its configurations, which are one task together. Where there are several, each is the `kind` of its rows, and a
            task's `kinds` chooses among them; what is not chosen is not read.
        form: Makes a row of it one that questions.py reads; given the row and its place, for messages.
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
    configs: tuple[str, ...] = ()
    form: Callable[[Row, str], Row] | None = None


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

JAPANESE_HERON_BENCH = BuiltIn(
    name="japanese-heron-bench",
    repository="Silviase/Japanese-Heron-Bench",
    splits={"train": "103 questions about 21 pictures"},
    split="train",
    metric="judge",
    languages=("ja",),
    licence="pictures: each its own (public domain, CC0, CC BY 2.0, others), listed by turing-motors/Japanese-Heron-Bench",
    what="Pictures of Japan with questions of three kinds (conv, detail, complex), answered freely: 103 questions, 21 pictures",
    good_for="holdout (published tables; a judge scores it, which costs money)",
    form=heron_row,
)
"""Inoue et al., "Heron-Bench: a benchmark for evaluating vision language models in Japanese", 2024, arXiv 2404.07824.

The benchmark's own repository (turing-motors/Japanese-Heron-Bench) holds pictures and JSONL files that `datasets` cannot join;
this is the same with one row per question, which llm-jp-eval-mm reads too. Columns: question_id, image, category,
image_category, context, text, answer (one text for each of four models). The paper counts 102 questions, its file has 103.
"""

ELYZA_TASKS_100 = BuiltIn(
    name="elyza-tasks-100",
    repository="elyza/ELYZA-tasks-100",
    splits={"test": "100 instructions"},
    split="test",
    metric="judge",
    languages=("ja",),
    licence="cc-by-sa-4.0",
    what="Instructions of every kind in Japanese, no pictures: 100, each with an answer and what to look for in one",
    good_for="holdout for language (published tables; a judge scores it from 1 to 5, which costs money)",
    fields={"question": "input", "answer": "output", "context": "eval_aspect"},
)
"""Sasaki et al., "ELYZA-tasks-100", 2023: `test.csv` with the columns input, output, eval_aspect."""

MMMU_SUBJECTS = (
    "Accounting", "Agriculture", "Architecture_and_Engineering", "Art", "Art_Theory", "Basic_Medical_Science", "Biology",
    "Chemistry", "Clinical_Medicine", "Computer_Science", "Design", "Diagnostics_and_Laboratory_Medicine", "Economics",
    "Electronics", "Energy_and_Power", "Finance", "Geography", "History", "Literature", "Manage", "Marketing", "Materials",
    "Math", "Mechanical_Engineering", "Music", "Pharmacy", "Physics", "Psychology", "Public_Health", "Sociology",
)  # fmt: skip
JAPANESE_SUBJECTS = ("Japanese_Art", "Japanese_Heritage", "Japanese_History", "World_History")
NOT_TRANSLATED = ("Art", "Art_Theory", "Geography", "History", "Literature", "Sociology")

JMMMU = BuiltIn(
    name="jmmmu",
    repository="JMMMU/JMMMU",
    splits={"test": "1320 questions of 28 subjects"},
    split="test",
    metric="jmmmu",
    languages=("ja",),
    licence="see its card: pictures come from many sources with licences of their own",
    what="University examinations in Japanese, up to seven pictures a question: 720 translated from MMMU, 600 about Japan",
    good_for="holdout (published tables); a subject alone with `kinds: [Japanese_Art]`",
    configs=(*(subject for subject in MMMU_SUBJECTS if subject not in NOT_TRANSLATED), *JAPANESE_SUBJECTS),
    form=jmmmu_row,
)
"""Onohara et al., "JMMMU: a Japanese massive multi-discipline multimodal understanding benchmark for culture-aware evaluation",
2024, arXiv 2410.17250. Subjects, prompts and answers as lmms-eval's `jmmmu`; columns: `mmmu_rows.py`."""

MMMU = BuiltIn(
    name="mmmu",
    repository="MMMU/MMMU",
    splits={
        "validation": "900 questions of 30 subjects, the published tables",
        "dev": "150 questions, five of each subject",
        "test": "10500 questions whose answers are withheld",
    },
    split="validation",
    metric="mmmu",
    languages=("en",),
    licence="apache-2.0",
    what="University examinations in English, up to seven pictures a question: validation 900, dev 150 questions, 30 subjects",
    good_for="holdout on `split: validation` (published tables): whether English has been kept",
    configs=MMMU_SUBJECTS,
    form=mmmu_row,
)
"""Yue et al., "MMMU: a massive multi-discipline multimodal understanding and reasoning benchmark for expert AGI", 2024,
arXiv 2311.16502; columns: `mmmu_rows.py`."""

MGSM_JA = BuiltIn(
    name="mgsm-ja",
    repository="juletxara/mgsm",
    splits={"test": "250 problems, the published tables", "train": "8 solved examples"},
    split="test",
    metric="number_match",
    languages=("ja",),
    licence="cc-by-sa-4.0",
    what="School arithmetic in Japanese (GSM8K, translated by people), no pictures: 250 problems",
    good_for="holdout (published tables); to search on, take problems of your own: the paper searched on 1069 others",
    fields={"answer": "answer_number"},
    configs=("ja",),
)
"""Shi et al., "Language models are multilingual chain-of-thought reasoners", 2022, arXiv 2210.03057. Columns: question, answer
(only in `train`), answer_number, equation_solution; a configuration for each language."""
