"""The documents' commands run: every `vlmerge …` line of a shell block, in order, in one folder, on the demo family.

The folder has what the pages name: their own files (run files with a tiny budget), the examples, pictures, a finished run; and
a hub cache in which the demo's models stand under the names of the published ones, so that lines run as they are written.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.test_commands import vlmerge
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from documented_commands import OTHER_PROGRAMS, PAGES, ROOT, STANDS_FOR, commands_of, files_of

sys.path.pop(0)

FAMILY = ROOT / "src" / "vlmerge" / "demo"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PUBLISHED = {
    "llava-hf/llava-1.5-7b-hf": "vlm",
    "llava-hf/llava-v1.6-mistral-7b-hf": "vlm",
    "elyza/ELYZA-japanese-Llama-2-7b": "ja",
    "augmxnt/shisa-gamma-7b-v1": "ja",
    "meta-llama/Llama-2-7b-hf": "base",
    "mistralai/Mistral-7B-v0.1": "base",
}
"""Models that the documents name → the model of the demo family that stands under that name here."""
SHIPPED = {
    ("ja-vg-vqa-500", "train"): "search",
    ("ja-vg-vqa-500", "test"): "validation",
    ("ja-vlm-bench-in-the-wild", None): "holdout",
}
"""Tasks of the hub and their splits → the set of the demo that stands for them."""
HARNESS = ("pictures_ja", "choices_ja")
"""Tasks of lm-eval in examples/mergekit-evolve/tasks."""
JAPANESE = {"question": "question_ja", "answer": "answer_ja"}

pytestmark = pytest.mark.slow
RUNNING = [path for path in PAGES if any(command.words[0] == "vlmerge" for command in commands_of(path))]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which the documents' commands are typed."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "src").symlink_to(ROOT / "src")
    for picture, scene in (("photo.jpg", "000"), ("mine/kyoto.jpg", "001"), ("mine/nara.jpg", "002"), ("mine/kobe.jpg", "003")):
        (folder / picture).parent.mkdir(exist_ok=True)
        Image.open(FAMILY / "bench" / "search" / f"{scene}.png").convert("RGB").save(folder / picture)
    (folder / "held-out").symlink_to(own_questions(tmp_path_factory.mktemp("held-out")))
    shutil.copytree(ROOT / "examples", folder / "examples")
    for path in (folder / "examples").rglob("*.y*ml"):
        if path.parent.name == "tasks":  # lm-eval's, with tags of its own
            continue
        path.write_text(small(path.read_text(encoding="utf-8")), encoding="utf-8")
    for page in PAGES:
        for name, text in files_of(page).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(small(text) if name.endswith(".yaml") else text, encoding="utf-8")
    hub = folder / "hub"
    for repository, model in PUBLISHED.items():
        home = hub / f"models--{repository.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text(COMMIT)
        (home / "snapshots").mkdir()
        shutil.copytree(FAMILY / model, home / "snapshots" / COMMIT)
        (home / "snapshots" / COMMIT / "README.md").write_text("---\nlicense: llama2\n---\n")
    before = Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
        os.chdir(folder)
        try:
            # A documents' own command; where a page has it too, it finds the run finished. Other pages speak of runs/demo.
            done = vlmerge("evolve", "run.yaml", "--out", "runs/ja")
            assert done.code == 0, done.err
            shutil.copytree("runs/ja", "runs/demo")
            yield folder
        finally:
            os.chdir(before)


def own_questions(folder: Path) -> Path:
    """Questions that no search asks, in Japanese and English, in the field names that need no mapping."""
    rows = [json.loads(line) for line in (FAMILY / "bench/holdout/questions.jsonl").read_text(encoding="utf-8").splitlines()][
        :4
    ]
    for name, language in (("questions", "ja"), ("english", "en")):
        lines = [
            {
                "id": row["id"],
                "image": row["image"],
                "question": row[f"question_{language}"],
                "answer": row[f"answer_{language}"],
            }
            for row in rows
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for row in rows:
        shutil.copy(FAMILY / "bench/holdout" / row["image"], folder / row["image"])
    return folder


def small(text: str) -> str:
    """A run file with a tiny budget, asking the demo's questions in place of the hub's; any other file as it is."""
    run: dict[str, Any] = yaml.safe_load(text)
    if "tasks" not in run:
        return text
    for where in ("tasks", "validation", "holdout"):
        tasks = run.get(where)
        if isinstance(tasks, list):
            run[where] = [asked(task) for task in tasks]
    search = run.get("search", {})
    coarse = 2 if "merge" in run and search.get("global_fevals") != 0 else 0
    run["search"] = {**search, "max_fevals": 4, "population": 2, "global_fevals": coarse}
    run["decoding"] = {"max_new_tokens": 8}
    run["runtime"] = {"device": "cpu", "threads": 1}
    if run.get("genome", {}).get("layer_granularity") == 4:
        run["genome"]["layer_granularity"] = 3  # 6 layers here
    return yaml.safe_dump(run, allow_unicode=True, sort_keys=False)


def asked(task: Any) -> dict[str, Any]:
    """A task of the hub as one of the demo's; files of questions and tasks of lm-eval as they are. The first few questions."""
    task = {"name": task} if isinstance(task, str) else task
    if Path(task["name"]).suffix or task["name"] in HARNESS:
        return {**task, "limit": 4}
    kept = {key: value for key, value in task.items() if key in ("weight", "label", "metric", "preset")}
    name = str(FAMILY / "bench" / SHIPPED[task["name"], task.get("split")] / "questions.jsonl")
    return {"label": f"{task['name']} {task.get('split', '')}".strip(), **kept, "name": name, "fields": JAPANESE, "limit": 4}


DONE: set[str] = set()
"""Lines that were run, so that what stands on several pages is run once."""


@pytest.mark.parametrize("path", RUNNING, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_a_page_run(path: Path, desk: Path) -> None:
    assert desk.is_dir()
    for command in commands_of(path):
        if command.words[0] != "vlmerge" or command.only_parsed or command.line in DONE:
            continue
        done = vlmerge(*(STANDS_FOR.get(word, word) for word in command.words[1:]))
        assert done.code == 0, f"{command.page}: {command.line}\n{done.err}"
        DONE.add(command.line)


def test_every_other_program_in_the_documents_is_accounted_for() -> None:
    others = {command.words[0] for path in PAGES for command in commands_of(path)} - {"vlmerge"}
    assert others <= set(OTHER_PROGRAMS), f"neither run nor explained: {others - set(OTHER_PROGRAMS)}"


def test_what_python_starts_in_the_documents_is_there_and_knows_its_options() -> None:
    options: dict[tuple[str, ...], set[str]] = {}
    for command in (each for path in PAGES for each in commands_of(path) if each.words[0] == "python"):
        program = command.words[1:3] if command.words[1] == "-m" else command.words[1:2]
        options.setdefault(program, set()).update(word for word in command.words if word.startswith("--"))
    assert options
    for program, named in options.items():
        told = subprocess.run([sys.executable, *program, "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert named <= set(re.findall(r"--[a-z-]+", told)), program


def test_a_file_that_several_pages_show_is_the_same_file() -> None:
    """But for comments, which are in the page's language."""
    shown: dict[str, Any] = {}
    for path in PAGES:
        for name, text in files_of(path).items():
            meant = yaml.safe_load(text) if name.endswith(".yaml") else text
            assert shown.setdefault(name, meant) == meant, f"{path.name} shows another {name}"
