"""The package from Python: what docs/api.md shows runs, the verbs stay functions, mistakes are told in words."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import yaml
from PIL import Image

import vlmerge
from vlmerge.config.recipe import load_recipe
from vlmerge.errors import ConfigError, RunFolderError, TaskError
from vlmerge.evaluations import read_evaluations

ROOT = Path(__file__).parents[2]
FAMILY = ROOT / "src" / "vlmerge" / "demo"
PAGE = ROOT / "docs" / "api.md"
VERBS = ("ask", "check", "evaluate", "evolve", "export", "load", "merge", "report")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def task(split: str, limit: int) -> dict[str, Any]:
    fields = {"question": "question_ja", "answer": "answer_ja"}
    return {"name": str(FAMILY / "bench" / split / "questions.jsonl"), "limit": limit, "fields": fields}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a reader of the page would sit: models, questions, a picture, a run and a recipe."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(FAMILY, folder / "models", ignore=shutil.ignore_patterns("bench"))
    bench = FAMILY / "bench" / "holdout"
    shutil.copyfile(bench / "000.png", folder / "photo.png")
    lines = (bench / "questions.jsonl").read_text(encoding="utf-8").splitlines()[:6]
    (folder / "questions.jsonl").write_text("\n".join(line.replace('"image": "', f'"image": "{bench}/') for line in lines))
    run = {
        "merge": {"models": ["models/vlm", "models/ja", "models/base"], "base_model": "models/base"},
        "tasks": [task("search", 3)],
        "validation": [task("validation", 2)],
        "holdout": [task("holdout", 2)],
        "search": {"max_fevals": 4, "global_fevals": 2, "population": 2},
        "decoding": {"max_new_tokens": 8},
        "runtime": {"device": "cpu", "threads": 1},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(run))
    sources = [{"model": f"models/{name}", "parameters": {"weight": 0.5}} for name in ("vlm", "ja")]
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"merge_method": "linear", "models": sources}))
    return folder


@pytest.fixture(scope="module")
def told(place: Path) -> dict[str, Any]:
    """Every name that the code of the page defines, after it ran from top to bottom."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for number, block in enumerate(BLOCKS, start=1):
            exec(compile(block, f"docs/api.md, block {number}", "exec"), names)
    return names


def test_the_page_runs_and_means_what_its_comments_say(
    told: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    run, merged, score = told["run"], told["merged"], told["score"]
    assert run.path.samefile(place / "runs/run")
    assert re.fullmatch(r"Run\('.*runs/run': winner \d+\.\d( \[\d+\.\d, \d+\.\d\])? on holdout, 4 candidates\)", repr(run))
    assert "winner − row" in str(run)
    assert "winner − row" in run._repr_html_()
    assert run.page.is_file()
    assert (run.model / "config.json").is_file()
    assert load_recipe(run.recipe)
    assert dict(told["rows"])["host"] == run.row("host").score
    assert told["second"].rows != run.rows, "another seed, the same run"
    assert told["answer"].strip()
    assert merged.path == Path("out/first")
    assert repr(merged).startswith(f"Merged('out/first': {merged.merged} tensors, {merged.kept} kept from the host; 10.7 MB")
    assert merged.merged > 0
    assert merged.kept > 0
    assert score.questions == 6
    assert repr(score).startswith("Evaluation('runs/run': questions:question_ja: char_rougeL ")
    assert (told["third"].trial, told["third"].label) == (3, "swap:base")
    assert "hand-set merges: 20" in told["lines"].said
    assert any(line.startswith("global 1/1  best ") for line in told["lines"].said)


def test_the_page_names_every_function_with_its_arguments() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert sorted(re.findall(r"(?m)^\| `(\w+)\(", text)) == list(VERBS)
    for verb, told in re.findall(r"(?m)^\| `(\w+)\(([^)]*)\)", text):
        known = list(inspect.signature(getattr(vlmerge, verb)).parameters)
        if " or " not in told:
            assert [each.partition("=")[0] for each in told.split(", ")] == known[: len(told.split(", "))]


def test_a_dict_means_what_the_file_means(place: Path, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    data = yaml.safe_load(Path("run.yaml").read_text())
    again = vlmerge.evolve(data, told["run"].path, observer=None)  # Another run would be refused in this folder.
    assert again.rows == told["run"].rows
    assert repr(vlmerge.check("run.yaml", observer=None)) == repr(vlmerge.check(data, observer=None))
    assert "4 candidates" not in repr(vlmerge.check("recipe.yaml", observer=None))
    out = vlmerge.merge(yaml.safe_load(Path("recipe.yaml").read_text()), "out/dict", observer=None)
    other = vlmerge.merge(load_recipe(Path("recipe.yaml")), Path("out/value"), observer=None)
    assert (out.path / "model.safetensors").read_bytes() == (other.path / "model.safetensors").read_bytes()


def test_pictures_of_every_kind_are_the_same_picture(place: Path, told: dict[str, Any]) -> None:
    file = place / "photo.png"
    with Image.open(file) as opened:
        turned = opened.convert("RGB").rotate(90, expand=True)
        exif = Image.Exif()
        exif[0x0112] = 6  # As a camera writes it that was held upright: the viewer turns the picture back.
        turned.save(place / "turned.png", exif=exif)
        given = (file, str(file), file.read_bytes(), opened, [file], place / "turned.png", Image.open(place / "turned.png"))
        answers = {told["model"].ask(each, "下に見えるのは何ですか?", max_new_tokens=12) for each in given}
    given[-1].close()
    assert len(answers) == 1
    assert told["model"].ask(None, "これは何ですか?", max_new_tokens=12) not in answers
    assert vlmerge.ask(place / "out/first", file, "下に見えるのは何ですか?",
                       max_new_tokens=12, observer=None) in answers  # fmt: skip


def test_mistakes_are_told_in_words(place: Path, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    data = yaml.safe_load(Path("run.yaml").read_text())
    with pytest.raises(ConfigError, match="no name for its folder"):
        vlmerge.evolve(data)
    with pytest.raises(ConfigError, match="this is a run, not a recipe"):
        vlmerge.merge(data, "out/never")
    with pytest.raises(ConfigError, match=r"(?s)this is a recipe, not a run.*use `vlmerge merge recipe.yaml`"):
        vlmerge.evolve("recipe.yaml")
    with pytest.raises(ConfigError, match=r"(?s)this is a recipe, not a run.*use `vlmerge\.merge"):
        vlmerge.evolve(yaml.safe_load(Path("recipe.yaml").read_text()), "runs/never")
    with pytest.raises(TaskError, match=r"(?s)this is no picture.*found: set"):
        told["model"].ask({1}, "?")
    with pytest.raises(RunFolderError, match=r"(?s)no such row.*expected: .*host \(holdout\).*found: nobody"):
        told["run"].row("nobody")
    with pytest.raises(AttributeError, match="'vlmerge' has no attribute 'evolv'"):
        vlmerge.evolv  # type: ignore[attr-defined]  # noqa: B018
    assert not (place / "out/never").exists()


class Model:
    """Named as a loaded model is, which takes seconds to load."""

    name = "out/first"


WRONG: list[tuple[str, Callable[[], object]]] = [
    (r"expected: a recipe or a run: a file.*found: 5 \(int\)", lambda: vlmerge.check(5)),  # type: ignore[arg-type]
    (r"a run: a file, a dict.*found: None", lambda: vlmerge.evolve(None, "x")),  # type: ignore[arg-type]
    (r"vlmerge.merge, `out`.*expected: a path.*found: None", lambda: vlmerge.merge({"merge_method": "linear", "models": [
        {"model": "a", "parameters": {"weight": 1}}]}, None)),  # type: ignore[arg-type]
    (r"this is a loaded model.*what to do: .*'out/first'", lambda: vlmerge.evaluate(Model(), "x.jsonl")),  # type: ignore[call-overload]
    ("there is no task", lambda: vlmerge.evaluate("m", [])),
    (r"a task's name or file.*found: 7 \(int\)", lambda: vlmerge.evaluate("m", [7])),
    (r"`task`.*found: '' \(str\)", lambda: vlmerge.evaluate("m", "")),
    (r"evaluate, task 'x.jsonl'.*limt", lambda: vlmerge.evaluate("m", "x.jsonl", limt=3)),
    (r"'cpu' or 'cuda'.*found: 'gpu'", lambda: vlmerge.evaluate("m", "x.jsonl", device="gpu")),  # type: ignore[call-overload]
    (r"a preset's name.*found: 5", lambda: vlmerge.evaluate("m", "x.jsonl", preset=5)),  # type: ignore[call-overload]
    (r"`max_new_tokens`.*found: '9'", lambda: vlmerge.evaluate("m", "x", max_new_tokens="9")),  # type: ignore[call-overload]
    (r"`device`", lambda: vlmerge.load("m", device="gpu")),  # type: ignore[arg-type]
    (r"a folder, a run folder or a hub id.*found: None", lambda: vlmerge.load(None)),  # type: ignore[arg-type]
    (r"this is no question.*found: None", lambda: vlmerge.ask("m", None, None)),  # type: ignore[arg-type]
    (r"`max_new_tokens` cannot be that.*found: 0", lambda: vlmerge.ask("m", None, "?", max_new_tokens=0)),
    (r"`temperature` cannot be that.*found: 'hot'", lambda: vlmerge.ask("m", None, "?", temperature="hot")),  # type: ignore[arg-type]
    (r"'en' or 'ja'.*found: 'fr'", lambda: vlmerge.report("x", lang="fr")),  # type: ignore[arg-type]
    (r"no number of a trial.*found: '3'", lambda: vlmerge.export("x", "y", "3")),  # type: ignore[arg-type]
    (r"cannot watch.*found: int without say, begin", lambda: vlmerge.check({"merge_method": "linear", "models": [
        {"model": "a", "parameters": {"weight": 1}}]}, observer=3)),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(("words", "call"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_types_are_told_before_anything_is_opened(words: str, call: Callable[[], object]) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    assert re.search(words, caught.value.message(), re.DOTALL), caught.value.message()


def test_nobody_watches_where_nobody_shall(place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(place)
    vlmerge.merge("recipe.yaml", "out/quiet", observer=None)
    vlmerge.evolve("run.yaml", observer=None)
    scored = vlmerge.evaluate("out/quiet", task("holdout", 2), observer=None, max_new_tokens=4, out="out/quiet.json")
    (kept,) = read_evaluations(place / "out/quiet.json")
    assert (kept.score, kept.answers[0]["answer"]) == (scored.score, scored.answers[0]["answer"])
    assert capfd.readouterr() == ("", "")
    vlmerge.evaluate("out/quiet", task("holdout", 2), max_new_tokens=4)
    assert "questions:question_ja (2)" in capfd.readouterr().err


def test_verbs_stay_functions_whatever_is_imported() -> None:
    modules = ", ".join(f"vlmerge.{verb}" for verb in VERBS if verb != "load")
    code = f"""
import {modules}
from types import FunctionType, ModuleType
from vlmerge.evolve import search
import sys, vlmerge.cli
for verb in {VERBS!r}:
    assert type(getattr(vlmerge, verb)) is FunctionType, verb
    assert verb in dir(vlmerge)
assert search is sys.modules["vlmerge.evolve"].search
assert type(vlmerge.cli) is ModuleType
from vlmerge import *
assert evolve is vlmerge.evolve
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    assert all(isinstance(getattr(vlmerge, verb), FunctionType) for verb in VERBS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_notebook_shows_bars_lines_and_tables(place: Path, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    del told  # Its run is in the folder.
    monkeypatch.setenv("IPYTHONDIR", str(place / "ipython"))
    cells = [
        "import vlmerge\nrun = vlmerge.evolve('run.yaml', 'runs/notebook')\nrun",
        "vlmerge.merge('recipe.yaml', 'out/notebook')",
        "vlmerge.evaluate('out/notebook', 'questions.jsonl', limit=2, max_new_tokens=4, observer=None,"
        " fields={'question': 'question_ja', 'answer': 'answer_ja'}).score > 200",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(place)}}).execute()
    first, second, third = (cell.outputs for cell in notebook.cells)
    bars = [output.data["text/plain"] for output in first if output.output_type == "display_data"]
    assert any(re.fullmatch(r"hand-set merges  █{24}  20/20  \d:\d\d", bar) for bar in bars), bars
    assert "global 1/1  best" in "".join(output.text for output in first if output.output_type == "stream")
    assert "<pre>" in first[-1].data["text/html"]
    assert second[-1].data["text/plain"].startswith("Merged('out/notebook'")
    assert [output.data["text/plain"] for output in third] == ["False"]
