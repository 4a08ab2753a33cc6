"""The notebooks run from top to bottom on the demo, in both languages, and say the same."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LANGUAGES = ("en", "ja")


def read(language: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"vlmerge_colab_{language}.ipynb", as_version=4)


def code(notebook: nbformat.NotebookNode) -> list[str]:
    """Code cells without what may differ between the languages: form titles and the page's language."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return [re.sub(r"(?m)^# @title .*$|--lang \w+", "", cell) for cell in cells]


def test_both_languages_hold_the_same_code_and_no_output() -> None:
    english, japanese = (read(language) for language in LANGUAGES)
    assert code(english) == code(japanese)
    for notebook in (english, japanese):
        nbformat.validate(notebook)
        assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of notebooks stay: the second one goes on with the first one's, as after Colab has ended a session."""
    return tmp_path_factory.mktemp("drive")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_notebook_runs_on_the_demo(language: str, drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    out = drive / "runs/notebook"
    overrides = {"DEMO": True, "VLMERGE_SOURCE": "", "QUESTIONS": 8, "BUDGET": 9, "FOLDER": str(out)}
    notebook = read(language)
    place = next(index for index, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    settings = "\n".join(f"{name} = {value!r}" for name, value in overrides.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(settings))

    NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()

    results = json.loads((out / "results.json").read_text())
    assert results["trials"] == overrides["BUDGET"]
    assert {row["set"] for row in results["rows"]} == {"search", "validation", "holdout"}
    assert (out / "model" / "config.json").is_file()
    by_id = {cell.id: cell for cell in notebook.cells}
    shown = str(by_id["page"].outputs)
    assert "srcdoc=" in shown
    assert f"lang=&quot;{language}&quot;" in shown or f'lang="{language}"' in shown
    assert any(output.get("text", "").strip() for output in by_id["ask"].outputs if output.output_type == "stream")
