"""docs/families.md is what the registry says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from vlmerge.anatomy import FAMILIES
from vlmerge.families_page import families_page

ROOT = Path(__file__).parents[2]


def test_the_page_is_current() -> None:
    page = (ROOT / "docs/families.md").read_text(encoding="utf-8")
    assert page == families_page(), "write it anew: vlmerge families --markdown > docs/families.md"


def test_the_command_prints_the_page_and_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from vlmerge.cli import main

    printed = {}
    for option in ("--markdown", "--json"):
        monkeypatch.setattr(sys, "argv", ["vlmerge", "families", option])
        with pytest.raises(SystemExit):
            main()
        printed[option] = capsys.readouterr().out
    assert printed["--markdown"] == families_page()
    assert [row["family"] for row in json.loads(printed["--json"])] == list(FAMILIES)


def test_every_family_and_type_is_on_the_page() -> None:
    page = families_page()
    for family in FAMILIES.values():
        assert f"### {family.name}\n" in page if family.is_vlm else True
        assert all(f"`{model_type}`" in page for model_type in family.model_types)
