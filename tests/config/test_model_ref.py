"""How models are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmerge.config import ModelRef
from vlmerge.errors import ConfigError

words = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)


alone = st.builds(ModelRef, words.filter(str.strip), st.none() | words)


@given(st.builds(ModelRef, words.filter(str.strip), st.none() | words, st.none() | alone))
def test_what_is_written_reads_back(ref: ModelRef) -> None:
    assert ModelRef.parse(ref.plain()) == ref


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("org/name", ModelRef("org/name")),
        ("org/name@v1.0", ModelRef("org/name", "v1.0")),
        ("./folder", ModelRef("./folder")),
        ({"model": "org/name@abc"}, ModelRef("org/name", "abc")),
        ({"path": "org/name", "revision": "abc"}, ModelRef("org/name", "abc")),
        ({"model": {"path": "a+b@c", "revision": None}, "lora": None}, ModelRef("a+b@c")),
        ("org/name+org/lora", ModelRef("org/name", None, ModelRef("org/lora"))),
        ("org/name@v1+org/lora@v2", ModelRef("org/name", "v1", ModelRef("org/lora", "v2"))),
        ({"model": "org/name@v1", "lora": "org/lora"}, ModelRef("org/name", "v1", ModelRef("org/lora"))),
        (
            {"model": {"path": "org/name"}, "lora": {"path": "a+b", "revision": "v2"}},
            ModelRef("org/name", None, ModelRef("a+b", "v2")),
        ),
        ({"model": "a+b"}, ModelRef("a+b")),
    ],
)
def test_mergekits_forms_are_understood(given: object, expected: ModelRef) -> None:
    assert ModelRef.parse(given) == expected


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("a+b+c", "only one adapter"),
        ("a+", "not a model with an adapter"),
        ("+a", "not a model with an adapter"),
        ("a+b@", "not a model's name"),
        ({"model": "a", "lora": {"model": "b"}}, "not a model"),
        ({"model": "a", "lora": False}, "in quotes"),
        ({"lora": "b"}, "not a model"),
        ({"model": "org/name", "override_architecture": "X"}, "not supported yet"),
        ("a@b@c", "mapping|model: {path"),
        ("org/name@", "not a model's name"),
        ("", "not a model's name"),
        (False, "in quotes"),
        (7, "in quotes"),
        (None, "nothing"),
        ({"path": "a", "revison": "b"}, "revison"),
        ({"path": "a", "revision": 3}, "in quotes"),
    ],
)
def test_what_is_no_model_is_refused_with_a_remedy(given: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ModelRef.parse(given)


def test_local_paths_are_relative_to_the_file_and_names_stay_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "here").mkdir(parents=True)
    (tmp_path / "at@home").mkdir()
    monkeypatch.setenv("HOME", "/somebody")

    def located(text: str) -> ModelRef:
        return ModelRef.parse(text).relative_to(tmp_path)

    assert located("org/here") == ModelRef(str(tmp_path / "org/here"))
    assert located("org/there") == ModelRef("org/there")
    assert located("org/there@main") == ModelRef("org/there", "main")
    (tmp_path / "org" / "here" / "config.json").write_text("{}")
    assert located("org/there") == ModelRef(str(tmp_path / "org/there")), "a slip beside models is no organisation"
    assert located("org/there@main") == ModelRef("org/there", "main")
    assert located("./missing") == ModelRef(str(tmp_path / "missing"))
    assert located("../beside") == ModelRef(str(tmp_path.parent / "beside"))
    assert located("~/models/x") == ModelRef("/somebody/models/x")
    assert located("/abs/x") == ModelRef("/abs/x")
    assert located("./at@home") == ModelRef(str(tmp_path / "at@home"))


def test_a_model_and_its_adapter_are_located_each_for_itself(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "tuned" / "first").mkdir(parents=True)
    (tmp_path / "tuned" / "first" / "adapter_config.json").write_text("{}")
    (tmp_path / "base+tuned").mkdir()
    (tmp_path / "kept+whole").mkdir()

    def located(text: str) -> ModelRef:
        return ModelRef.parse(text).relative_to(tmp_path)

    base = str(tmp_path / "base")
    assert located("base+tuned/first") == ModelRef(base, None, ModelRef(str(tmp_path / "tuned/first")))
    assert located("base+tuned/frist").adapter == ModelRef(str(tmp_path / "tuned/frist")), "a slip beside adapters"
    assert located("org/base@v1+./tuned") == ModelRef("org/base", "v1", ModelRef(str(tmp_path / "tuned")))
    assert located("./base+org/lora@v1") == ModelRef(base, None, ModelRef("org/lora", "v1"))
    assert located("base+tuned").adapter is not None, "the model is there: its result of that name is not meant"
    assert located("kept+whole") == ModelRef(str(tmp_path / "kept+whole"))
    assert located("base+tuned/first").name == "base+first"
