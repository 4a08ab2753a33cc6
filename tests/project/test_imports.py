"""Torch is slow to import and not everybody has it at hand: what need not know it does not load it."""

from __future__ import annotations

import importlib.util
import json
import pkgutil
import subprocess
import sys

import pytest

import vlmerge

LIGHT = ("config", "store", "search", "tasks", "report", "types", "errors")
HEAVY = ("torch", "transformers", "datasets", "matplotlib", "pandas", "pyarrow", "starlette", "uvicorn")


def modules_below(name: str) -> list[str]:
    """The module, and everything in it if it is a package."""
    spec = importlib.util.find_spec(f"vlmerge.{name}")
    assert spec is not None, f"vlmerge.{name} is gone: change this list"
    inside = pkgutil.walk_packages(spec.submodule_search_locations or [], prefix=f"vlmerge.{name}.")
    return [f"vlmerge.{name}", *(module.name for module in inside)]


def loaded_by(code: str) -> list[str]:
    """Which of the heavy libraries are in memory after the code ran in a process of its own."""
    asked = f"import json, sys\n{code}\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("package", LIGHT)
def test_the_light_packages_load_nothing_heavy(package: str) -> None:
    lines = "\n".join(f"import {name}" for name in modules_below(package))
    assert loaded_by(lines) == []


def test_reading_headers_and_pairing_them_load_nothing_heavy() -> None:
    lines = "\n".join(f"import {name}" for package in ("checkpoint", "anatomy") for name in modules_below(package))
    assert loaded_by(lines) == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["check", "--help"], ["merge", "--help"], ["methods"], ["families"], ["tasks"]]
)
def test_help_and_lists_load_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import contextlib, io
sys.argv = ["vlmerge", *{arguments!r}]
from vlmerge.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    try:
        main()
    except SystemExit as stop:
        assert stop.code in (None, 0), stop.code
assert out.getvalue().strip()
"""
    assert loaded_by(code) == []


def test_the_page_of_a_run_needs_no_torch() -> None:
    assert "torch" not in loaded_by("import vlmerge.web.watch, vlmerge.web.serving")


def test_every_package_is_in_the_layers_of_the_import_contract() -> None:
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    named = {part.strip("() ") for layer in layers for part in layer.split("|")}
    there = {module.name for module in pkgutil.iter_modules(vlmerge.__path__)}
    assert there - named == set(), "name the new modules in pyproject.toml, in the layer where they belong"


def test_the_package_itself_loads_nothing() -> None:
    code = "import vlmerge, sys\ndir(vlmerge)\nassert [name for name in sys.modules if name.startswith('vlmerge.')] == []"
    assert loaded_by(code) == []
    others = ("pydantic", "rich", "numpy", "yaml", "typer")
    assert loaded_by(f"import vlmerge, sys\nassert not set({others!r}) & set(sys.modules)") == []
    assert loaded_by("import vlmerge\nassert callable(vlmerge.evolve) and callable(vlmerge.load)") == []
