"""Small tasks of lm-eval's with their data beside them: texts, options, likelihoods and pictures of the demo family."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

FAMILY = Path(__file__).parents[2] / "src" / "vlmerge" / "demo"
QUESTIONS = FAMILY / "bench" / "search" / "questions.jsonl"

CODE = '''"""What the tasks of this folder are made of, in Python."""

from pathlib import Path

from PIL import Image

PICTURES = Path(__file__).parent / "pictures"


def look(doc):
    return [Image.open(PICTURES / doc["image"])]


def ask(doc):
    return "<image>" + doc["question_ja"]


def shared_letters(doc, results):
    """A metric of this folder's own."""
    said, wanted = set(results[0]), set(doc["answer_ja"])
    return {"overlap": len(said & wanted) / len(said | wanted), "missed": 1 - len(said & wanted) / len(wanted)}
'''


def documents(count: int) -> list[dict[str, Any]]:
    """The first questions of the demo family, with options."""
    rows = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()[:count]]
    answers = list(dict.fromkeys(row["answer_ja"] for row in rows))
    for place, row in enumerate(rows):
        others = [answer for answer in answers if answer != row["answer_ja"]][place % 5 : place % 5 + 2]
        row["gold"] = place % 3
        row["options"] = [*others[: place % 3], row["answer_ja"], *others[place % 3 :]]
        del row["concepts"]
    return rows


def base(name: str, folder: Path, **keys: Any) -> dict[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "documents.jsonl"), "train": str(folder / "train.jsonl")}},
        "test_split": "test",
        **keys,
    }


def write_tasks(folder: Path, count: int = 10) -> Path:
    """Writes the tasks into a folder for `task_search_path`."""
    folder.mkdir(parents=True)
    rows = documents(count + 4)
    for name, part in (("documents", rows[:count]), ("train", rows[count:])):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (folder / "pictures").mkdir()
    for row in rows:
        shutil.copy(QUESTIONS.with_name(row["image"]), folder / "pictures" / row["image"])
    (folder / "utils.py").write_text(CODE, encoding="utf-8")
    mean = {"aggregation": "mean", "higher_is_better": True}
    generate = {"output_type": "generate_until", "generation_kwargs": {"until": ["。", "\n"], "max_gen_toks": 12}}
    exact = [{"metric": "exact_match", **mean}]
    first = {"name": "first-words", "filter": [{"function": "regex", "regex_pattern": "(.{2})"}, {"function": "take_first"}]}
    tasks: dict[str, dict[str, Any]] = {
        "small_text": base(
            "small_text", folder, **generate, doc_to_text="<q>{{question_ja}}<a>", doc_to_target="{{answer_ja[:2]}}",
            metric_list=exact, fewshot_split="train", training_split="train",
            filter_list=[{"name": "none", "filter": [{"function": "take_first"}]}, first],
        ),
        "small_options": base(
            "small_options", folder, output_type="multiple_choice", doc_to_text="{{question_ja}}", doc_to_choice="options",
            doc_to_target="gold", target_delimiter="", fewshot_split="train", training_split="train",
            metric_list=[{"metric": "acc", **mean}, {"metric": "acc_norm", **mean}, {"metric": "mcc"}],
        ),
        "small_likelihood": base(
            "small_likelihood", folder, output_type="loglikelihood", doc_to_text="{{question_ja}}",
            doc_to_target="{{answer_ja}}", metric_list=[{"metric": "perplexity"}, {"metric": "acc", **mean}],
        ),
    }  # fmt: skip
    for name, task in tasks.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task, allow_unicode=True), encoding="utf-8")
    picture = base("small_pictures", folder, **{**generate, "generation_kwargs": {"until": ["\n"], "max_gen_toks": 16}})
    picture |= {
        "metric_list": [{"metric": "overlap", **mean}, {"metric": "missed", "aggregation": "mean", "higher_is_better": False}],
        "doc_to_target": "{{answer_ja}}",
    }
    text = yaml.safe_dump(picture, allow_unicode=True)
    text += "doc_to_image: !function utils.look\ndoc_to_text: !function utils.ask\n"
    text += "process_results: !function utils.shared_letters\n"
    (folder / "small_pictures.yaml").write_text(text, encoding="utf-8")
    (folder / "small_group.yaml").write_text("group: small_group\ntask: [small_text, small_options]\n", encoding="utf-8")
    return folder
