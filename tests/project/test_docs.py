"""Documents say what the program does: their commands exist, their links lead somewhere, their numbers are the run's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "examples").glob("**/*.md")])


def commands_in(text: str) -> list[list[str]]:
    """Every `vlmerge …` line of code blocks, and every inline one that names a sub-command, as words."""
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.partition(" #")[0] for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(vlmerge [^`]+)`", text)
    found: list[list[str]] = []
    for line in lines:
        words = shlex.split(line.strip())
        if words and words[0].rpartition("/")[2] == "vlmerge" and len(words) > 1 and words[1] != "…":
            found.append(words[1:])
    return found


def command_line() -> dict[str, set[str]]:
    """Sub-command (`merge`, `tasks new`) → its options, from the program itself."""
    import typer.main

    from vlmerge.cli import app

    def options(command: Any) -> set[str]:
        return {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help"}

    group: Any = typer.main.get_command(app)
    known = {"": options(group)}
    for name, command in group.commands.items():
        known[name] = options(command)
        for below, one in getattr(command, "commands", {}).items():
            known[f"{name} {below}"] = options(one)
    return known


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_their_options_exist(path: Path) -> None:
    known = command_line()
    for words in commands_in(path.read_text()):
        if words[0].startswith("-"):
            assert words[0] in known[""], f"vlmerge {words[0]}"
            continue
        two = " ".join(words[:2])
        command = two if two in known else words[0]
        assert command in known, f"vlmerge {words[0]}"
        for word in words[1:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in known[command], f"vlmerge {command} {word}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("#"):
            continue
        assert (path.parent / target.partition("#")[0]).exists(), f"{path.name} links to {target}"


def test_make_targets_in_the_documents_exist() -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):.*## ", (ROOT / "Makefile").read_text()))
    for path in DOCUMENTS:
        named = set(re.findall(r"(?:`|^)make ([a-z]+)", path.read_text(), flags=re.MULTILINE))
        assert named <= targets, f"{path.name}: {named - targets}"


def test_every_command_is_in_the_readme_or_the_documents() -> None:
    said = {name for path in DOCUMENTS for words in commands_in(path.read_text()) for name in (words[0], " ".join(words[:2]))}
    assert set(command_line()) - {""} - said == set()


@pytest.mark.parametrize("name", ["README.md", "README.ja.md"])
def test_the_demo_is_described_with_its_own_numbers(name: str) -> None:
    from vlmerge.config.run import load_run

    search = load_run(ROOT / "src/vlmerge/demo/run.yaml").search
    text = (ROOT / name).read_text()
    for number in (search.global_fevals, search.max_fevals):
        assert re.search(rf"\b{number} ?(?:candidates|in all|候補)", text), f"{name} does not say {number}"


def test_tables_of_the_documents_name_everything_that_is_registered() -> None:
    from vlmerge.config.method_table import METHODS
    from vlmerge.tasks import BUILT_IN, METRICS, PRESETS

    tasks, methods = (ROOT / "docs/tasks.md").read_text(), (ROOT / "docs/methods.md").read_text()
    for name in (*BUILT_IN, *METRICS, *PRESETS):
        assert f"| `{name}` |" in tasks, name
    for spec in METHODS.values():
        assert f"| `{spec.name}` |" in methods, spec.name


def test_the_table_of_methods_is_the_programs_own() -> None:
    from vlmerge.listings import methods_table

    text = (ROOT / "docs/methods.md").read_text()
    table = text.partition("<!-- table of methods -->\n")[2].partition("<!-- end of the table -->")[0]
    assert table == methods_table(), "vlmerge methods --markdown writes it anew"


def test_the_comparison_with_mergekit_has_as_many_recipes_as_the_page_says() -> None:
    names = re.findall(r'^    "\w+": (?:\{|on_base\()', (ROOT / "tests/parity/recipes.py").read_text(), flags=re.M)
    (said,) = re.findall(r"`tests/parity` holds that for (\d+) recipes", (ROOT / "docs/methods.md").read_text())
    assert int(said) == len(names)


def test_both_readmes_have_the_same_sections() -> None:
    english, japanese = ((ROOT / name).read_text() for name in ("README.md", "README.ja.md"))
    outline = [[len(marks) for marks in re.findall(r"(?m)^(#+) ", text)] for text in (english, japanese)]
    assert outline[0] == outline[1]
    assert re.findall(r"<!-- .*? -->", english) == re.findall(r"<!-- .*? -->", japanese)
