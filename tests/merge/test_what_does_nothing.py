"""What a person wrote and what would do nothing, or give no result, is told of before weights are read or fetched."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from tiny_adapter import write_adapter
from tiny_family import write_lm, write_vlm

from vlmerge.check import check, render
from vlmerge.config import Recipe, load_recipe
from vlmerge.errors import ConfigError
from vlmerge.merge import merge


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("models")
    write_vlm(home / "vlm", "hf")
    write_lm(home / "vlm-ja")  # the host's name is the beginning of its own
    write_lm(home / "other" / "vlm-ja", seed=3)
    write_adapter(home / "lora")
    return home


def recipe(home: Path, *names: str, **keys: Any) -> Recipe:
    models = [{"model": name, "parameters": {"weight": 0.5}} for name in names or ("./vlm", "./vlm-ja")]
    (home / "recipe.yaml").write_text(yaml.safe_dump({"merge_method": "linear", "models": models, **keys}), encoding="utf-8")
    return load_recipe(home / "recipe.yaml")


def by_name(*filters: str) -> dict[str, Any]:
    entries = [*({"filter": text, "value": 0.2} for text in filters), {"value": 0.5}]
    return {"models": [{"model": f"./{name}", "parameters": {"weight": entries}} for name in ("vlm", "vlm-ja")]}


def test_what_protects_nothing_is_told_of(home: Path) -> None:
    found = check(recipe(home, protect=["layernorm", "lyernorm", "multi_modal_projector", "model.norm", "token:</s>"]))
    assert [each for each in found.warnings if "protects nothing" in each] == [
        f"`protect: lyernorm` protects nothing: no tensor of {home / 'vlm'} has that in its name"
    ]


def test_a_filter_that_meets_nothing_is_told_of_by_check_and_merge(home: Path, tmp_path: Path) -> None:
    asked = recipe(home, **by_name("self_atn", "mlp", "language_model.lm_head", "model.layers.1.", "vision_tower", "*"))
    told = [
        f"`filter: {text}` (of `weight`) meets nothing: no tensor that merges has that in its name"
        for text in ("self_atn", "vision_tower")
    ]
    assert [each for each in check(asked).warnings if "meets nothing" in each] == told
    assert [each for each in merge(asked, tmp_path / "out").warnings if "meets nothing" in each] == told


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            {"merge_method": "della", "base_model": "./vlm-ja", "models": [{"model": "./vlm"}],
             "parameters": {"weight": 1, "density": 0.05}},
            "density ± epsilon has to lie between 0 and 1 (0.05 ± 0.15)",
        ),
        (
            {"models": [{"model": "./vlm"}, {"model": "./vlm-ja"}],
             "parameters": {"weight": [{"filter": "mlp", "value": 1}]}},
            "`weight` has no value for a tensor",
        ),
        (
            {"models": [{"model": "./vlm", "parameters": {"weight": [1, -1]}},
                        {"model": "./vlm-ja", "parameters": {"weight": 1}}]},
            "set `normalize: false`",
        ),
    ],
)  # fmt: skip
def test_check_refuses_values_without_a_result(home: Path, tmp_path: Path, keys: dict[str, Any], says: str) -> None:
    asked = recipe(home, **keys)
    for attempt in (lambda: check(asked), lambda: merge(asked, tmp_path / "out")):
        with pytest.raises(ConfigError) as caught:
            attempt()
        assert says in str(caught.value)
        assert ("normalize: false" in str(caught.value)) == (says == "set `normalize: false`")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [("ties", "density", 40), ("dare_ties", "density", -0.1), ("breadcrumbs", "gamma", 1.5), ("sce", "select_topk", 20)],
)
def test_a_share_that_is_none_is_refused(method: str, name: str, value: float) -> None:
    given: dict[str, Any] = {"merge_method": method, "base_model": "b", "models": [{"model": "a"}]}
    weight = {} if method == "sce" else {"weight": 1}
    for fine in (0, 0.3, 1):
        Recipe.model_validate({**given, "parameters": {**weight, name: fine}})
    with pytest.raises(ConfigError) as caught:
        parse(given, {**weight, name: [0.5, value]})
    assert f"`{name}` cannot have this value" in str(caught.value)
    assert "a number from 0 to 1" in str(caught.value)


def parse(given: dict[str, Any], parameters: dict[str, Any]) -> Recipe:
    from vlmerge.config import parse_recipe

    return parse_recipe({**given, "parameters": parameters}, "a test")


def shown(asked: Recipe) -> str:
    console = Console(width=250, file=StringIO())
    console.print(render(check(asked)))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_tables_call_folders_by_their_last_part_where_that_is_one_models(home: Path) -> None:
    text = shown(recipe(home, "./vlm", "./vlm-ja+./lora"))
    for words in ("│ vlm ", "│ vlm-ja+lora ", "adapter lora, "):
        assert words in text
    assert str(home) not in text
    text = shown(recipe(home, "./vlm", "./vlm-ja", "./other/vlm-ja"))
    one, other = home / "vlm-ja", home / "other" / "vlm-ja"
    for words in (f"│ {one} ", f"│ {other} ", f"the host's: {one} has no such tensor"):
        assert words in text
