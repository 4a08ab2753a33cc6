"""What a licence's name stands for, and what several ask together."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_checkpoints as tiny

from vlmerge.checkpoint import resolve
from vlmerge.config.model_ref import ModelRef
from vlmerge.licences import KINDS, TABLE, apart, duties, joined, terms_of, verdict

NAMES = {
    "Llama 2 Community": ["llama2", "LLAMA 2 COMMUNITY LICENSE AGREEMENT", "other: https://ai.meta.com/llama/license/"],
    "Llama 3 Community": ["llama3", "other: llama-3", "META LLAMA 3 COMMUNITY LICENSE AGREEMENT"],
    "Llama 3.1 Community": ["llama3.1", "other: llama3.1 (https://example.org)", "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT"],
    "Llama 3.2 Community": ["llama3.2", "other: llama-3.2-community-license"],
    "Llama 3.3 Community": ["llama3.3"],
    "Llama 4 Community": ["llama4", "other: llama4"],
    "Gemma Terms of Use": ["gemma", "other: gemma-terms-of-use", "other: mine (https://ai.google.dev/gemma/terms)"],
    "Qwen Research": ["other: qwen-research", "Qwen RESEARCH LICENSE AGREEMENT"],
    "Tongyi Qianwen": ["other: tongyi-qianwen", "other: qwen", "Tongyi Qianwen LICENSE AGREEMENT"],
    "Tongyi Qianwen Research": ["other: tongyi-qianwen-research"],
    "Apache 2.0": ["apache-2.0", "Apache License", "Apache License 2.0"],
    "MIT": ["mit", "MIT License"],
    "CC BY": ["cc-by-4.0", "cc-by-3.0"],
    "CC BY-SA": ["cc-by-sa-4.0"],
    "CC BY-NC": ["cc-by-nc-4.0"],
    "CC BY-NC-SA": ["cc-by-nc-sa-4.0"],
    "CC BY-ND": ["cc-by-nd-4.0"],
    "CC BY-NC-ND": ["cc-by-nc-nd-4.0"],
    "OpenRAIL": ["openrail", "creativeml-openrail-m", "bigscience-openrail-m", "openrail++", "bigscience-bloom-rail-1.0"],
}


@pytest.mark.parametrize("name", NAMES)
def test_a_licence_is_known_by_its_names(name: str):
    assert [terms_of(spelling).name for spelling in NAMES[name]] == [name] * len(NAMES[name])


@pytest.mark.parametrize(
    "licence",
    ["other", "unknown", "other: our-own", "other: llama-lookalike", "other: https://huggingface.co/x/Llama-3.1/blob/main/LICENSE",
     "commercial", "mitigated", "qwen-mit-research-gemma", "cc", ""],
)  # fmt: skip
def test_what_is_not_in_the_table_is_unknown_and_never_guessed(licence: str):
    found = duties({"model": licence})
    assert [duty.kind for duty in found] == ["unknown"]
    assert "of model, may be stricter" in verdict(found)


def test_each_licence_of_the_table_has_a_name_of_its_own_and_known_duties():
    assert len({terms.name for terms in TABLE}) == len(TABLE)
    assert {kind for terms in TABLE for kind in terms.asks} <= set(KINDS)


def test_the_strictest_terms_come_first_and_name_their_models():
    found = duties({"vlm": "llama3.1", "ja": "cc-by-nc-sa-4.0", "base": None, "en": "llama3.1"})
    kinds = [KINDS.index(duty.kind) for duty in found]
    assert kinds == sorted(kinds)
    assert (found[0].kind, found[0].models) == ("non-commercial", ("ja",))
    named = next(duty for duty in found if duty.kind == "name")
    assert named.models == ("vlm", "en")
    assert "“Built with Llama”" in named.line()
    assert "begins with “Llama”" in named.line()


def test_licences_of_the_parts_of_a_model_all_count():
    text = joined(("llama2", None, "mit", "llama2"))
    assert apart(text) == ["llama2", None, "mit"]
    assert {duty.licence for duty in duties({"model": text})} == {"Llama 2 Community", "not stated", "MIT"}
    assert joined((None, None)) is None
    assert apart(None) == [None]


@pytest.mark.parametrize(
    ("licences", "words"),
    [
        (("mit", "apache-2.0"), ("open licences",)),
        (("mit", "cc-by-nc-4.0"), ("not for commercial use, by CC BY-NC",)),
        (("llama2", "apache-2.0"), ("a use policy and limits of use",)),
        (("cc-by-nc-nd-4.0", "mit"), ("for its maker alone",)),
        (("cc-by-sa-4.0", "mit"), ("to be shared under CC BY-SA",)),
        (("cc-by-sa-4.0", "gemma"), ("under CC BY-SA, beside what Gemma Terms of Use asks",)),
        (("cc-by-sa-4.0", "gpl-3.0"), ("CC BY-SA and GNU (L)GPL, which cannot both be",)),
        (("mit", None), ("of model 1, may be stricter",)),
        (("mit, cc-by-nc-4.0",), ("not for commercial use",)),
    ],
)
def test_the_union_is_as_strict_as_its_strictest(licences: tuple[str | None, ...], words: tuple[str, ...]):
    said = verdict(duties({f"model {number}": licence for number, licence in enumerate(licences)}))
    assert all(word in said for word in words), said


def test_more_parents_never_ask_for_less():
    names = [spelling for spellings in NAMES.values() for spelling in spellings[:1]]
    for first in names:
        alone = {(duty.kind, duty.asks) for duty in duties({"a": first})}
        assert all(alone <= {(duty.kind, duty.asks) for duty in duties({"a": first, "b": other})} for other in names)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("license: other\nlicense_name: llama3.1\nlicense_link: https://example.org/LICENSE", "other: llama3.1 (https://example.org/LICENSE)"),
        ("license: other\nlicense_name: llama3.1\nlicense_link: LICENSE", "other: llama3.1"),
        ("license: other\nlicense_link: https://example.org/LICENSE", "other: https://example.org/LICENSE"),
        ('license: "a\\e]0;b\\n c"', "a\\x1b]0;b c"),
        ("license: " + "x" * 1000, "x" * 300),
    ],
)  # fmt: skip
def test_a_card_names_its_licence_in_one_line(tmp_path: Path, card: str, expected: str):
    folder = tiny.whole(tmp_path)
    (folder / "README.md").write_text(f"---\n{card}\n---\n", encoding="utf-8")
    assert resolve(ModelRef(str(folder))).licence == expected
