"""What the tasks of this folder are made of: rows, pictures, a metric."""

import json
from importlib import resources
from pathlib import Path

import datasets
from PIL import Image
from rouge_score.rouge_scorer import RougeScorer

BENCH = Path(str(resources.files("vlmerge"))) / "demo" / "bench" / "search"


class Characters:
    """Japanese without spaces: every character is a word."""

    def tokenize(self, text):
        return [letter for letter in text if not letter.isspace()]


def rows(**_):
    lines = (BENCH / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    kept = ("image", "question_ja", "answer_ja")
    given = [{key: row[key] for key in kept} for row in map(json.loads, lines)]
    return {"test": datasets.Dataset.from_list(given)}


def rows_with_choices(**_):
    test = rows()["test"]
    answers = sorted(set(test["answer_ja"]))

    def choices(row, place):
        others = [answer for answer in answers if answer != row["answer_ja"]]
        right = place % 3
        two = [others[place % len(others)], others[(7 * place + 1) % len(others)]]
        return {"choices": [*two[:right], row["answer_ja"], *two[right:]], "right": right}

    return {"test": test.map(choices, with_indices=True)}


def picture(doc):
    return [Image.open(BENCH / doc["image"]).convert("RGB")]


def score(doc, results):
    scorer = RougeScorer(["rougeL"], tokenizer=Characters())
    return {"rouge_l": scorer.score(doc["answer_ja"], results[0])["rougeL"].fmeasure}
