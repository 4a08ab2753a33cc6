"""The card of an exported model: what the hub reads, and the same honesty as the page's."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import Kind

from vlmerge.errors import RunFolderError
from vlmerge.licences import terms_of
from vlmerge.report import Parent, merge_card, model_card
from vlmerge.report.card_sections import code, plain
from vlmerge.store import STORE_NAME, Store


def card_of(folder: Path, trial: int | None = None) -> str:
    with Store.read_only(folder / STORE_NAME) as store:
        return model_card(store, trial)


def test_front_matter_is_what_the_hub_reads(finished: Path) -> None:
    _, front, _ = card_of(finished).split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["tags"] == ["vlmerge", "merge"]
    assert fields["language"] == ["ja", "en"]
    assert fields["license"] == "other"  # three models, three licences
    assert fields["pipeline_tag"] == "image-text-to-text"
    assert "base_model" not in fields  # local folders are no names on the hub


def test_the_winners_card_has_scores_protocol_and_recipe(finished: Path) -> None:
    card = card_of(finished)
    assert "| holdout | all | char\\_rouge\\_l |" in card
    assert "| host, unmerged |" in card
    assert "the holdout had been looked at 1 time;" in card
    assert "greedy, at most 128 tokens" in card
    recipe = card.split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(recipe)["merge_method"] == "linear"
    assert "apache-2.0" in card
    assert "/models/" not in card  # no path of the machine that made it
    assert "model: ./vlm" in recipe


def test_what_was_merged_is_what_the_run_noted(finished: Path) -> None:
    card = card_of(finished)
    assert "- 57 are merged" in card
    assert "- 93 are, wholly or in part, those of `vlm`: ja has none" in card


def test_any_trial_has_a_card(finished: Path) -> None:
    card = card_of(finished, 2)
    assert "trial 2" in card
    assert "--trial 2" in card
    assert "winner − row" not in card


def test_no_holdout_no_claim(make_run: Callable[[Kind], Path]) -> None:
    assert "**No claim**" in card_of(make_run(Kind(holdout=False, generations=5)))


def test_contamination_is_said_at_the_table(make_run: Callable[[Kind], Path]) -> None:
    card = card_of(make_run(Kind(contaminated=True, generations=5)))
    assert "**CONTAMINATED**: 3 pictures stand on both sides" in card
    assert "| score (CONTAMINATED) |" in card


def test_without_a_winner_or_such_a_trial_there_is_no_card(make_run: Callable[[Kind], Path]) -> None:
    folder = make_run(Kind(finished=False, generations=1))
    with pytest.raises(RunFolderError, match="no such trial"):
        card_of(folder)
    with pytest.raises(RunFolderError, match="no such trial"):
        card_of(folder, 999)


def test_names_cannot_leave_their_place() -> None:
    assert plain("a|b\n# c <img>") == r"a\|b \# c \<img\>"
    assert code("a`b``c") == "``` a`b``c ```"


def test_the_card_says_what_the_parents_licences_ask(make_run: Callable[[Kind], Path]) -> None:
    folder = make_run(Kind(generations=5))
    with Store.read_only(folder / STORE_NAME) as store:
        licences = [model.licence for model in store.models()]
        card = model_card(store)
    assert any(licence is not None for licence in licences)
    for licence in filter(None, licences):
        assert plain(terms_of(licence).name) in card
    assert "no legal advice" in card


@pytest.mark.parametrize(
    ("licences", "named"),
    [
        (("llama2", "llama2, llama2"), "llama2"),
        (("llama2", "llama2, mit"), "other"),
        (("llama2", None), "other"),
        (("LLAMA 2 COMMUNITY LICENSE AGREEMENT",) * 2, "other"),
    ],
)
def test_a_merges_card_names_its_parents_on_the_hub(licences: tuple[str | None, ...], named: str) -> None:
    own = Parent("org/vlm", "vlm", "host", licences[0], None, None, False)
    adapted = Parent("org/lm@v1+org/lora", "lm+lora", "source", licences[1], None, None, True)
    recipe = "merge_method: linear\n"
    card = merge_card("a merge", "linear", recipe, [own, adapted], sees=False, merged=3, kept={"org/vlm alone has it": 2})
    _, front, text = card.split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["base_model"] == ["org/vlm", "org/lm", "org/lora"]
    assert fields["license"] == named
    assert fields["pipeline_tag"] == "text-generation"
    assert "- 2 are, wholly or in part, those of `vlm`: vlm alone has it" in text
    assert "fingerprint" not in text


def test_the_hubs_own_reader_takes_the_card(finished: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    (tmp_path / "README.md").write_text(card_of(finished), encoding="utf-8")
    card = ModelCard.load(tmp_path / "README.md")
    data = card.data
    assert (data.library_name, data.license, data.license_name) == ("transformers", "other", "licences-of-the-merged-models")
    assert data.to_dict()["merged_licences"] == {"vlm": "apache-2.0", "ja": "llama2", "base": None}
    rows = {row["task"]: row for row in json.loads((finished / "results.json").read_text())["rows"]
            if (row["candidate"], row["set"]) == ("winner", "holdout")}  # fmt: skip
    assert data.eval_results is not None
    assert {result.dataset_type: result.metric_value for result in data.eval_results} == {
        task: rows[task]["score"] for task in ("pictures-ja", "pictures-en")
    }
    low, high, questions = (rows["pictures-ja"][key] for key in ("low", "high", "questions"))
    assert data.eval_results[0].metric_name == f"char_rouge_l of {questions} questions, 95 % interval {low:.1f}–{high:.1f}"
    assert data.eval_results[0].task_type == "image-text-to-text"
    assert data.model_name == "demo <run>, winner"


def test_lineage_is_as_the_hub_writes_it() -> None:
    from huggingface_hub import ModelCard

    parents = [
        Parent(name, name.split("/")[1], role, licence, None, None, False)
        for name, role, licence in (("org/vlm", "host", "cc-by-nc-4.0"), ("org/lm", "source", "cc-by-nc-4.0"))
    ]
    text = merge_card("a merge", "linear", "merge_method: linear\n", parents, sees=True, merged=3, kept={})
    data = ModelCard(text).data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == (["org/vlm", "org/lm"], "merge")
    assert data["license"] == "cc-by-nc-4.0"
    assert "non-commercial" in data["tags"]


@pytest.mark.parametrize("kind", [Kind(contaminated=True, generations=5), Kind(holdout=False, generations=5)])
def test_searched_or_leaked_scores_are_no_results_for_the_hub(make_run: Callable[[Kind], Path], kind: Kind) -> None:
    fields = yaml.safe_load(card_of(make_run(kind)).split("---\n", 2)[1])
    assert "model-index" not in fields
    assert ("contaminated-evaluation" in fields["tags"]) == kind.contaminated


def test_the_cards_pictures_are_drawn_and_named(finished: Path) -> None:
    from vlmerge.report import card_pictures

    with Store.read_only(finished / STORE_NAME) as store:
        pictures = card_pictures(store)
        card = model_card(store, None, pictures)
    assert set(pictures) == {"figures/search.png", "figures/recipe.png"}
    assert all(data.startswith(b"\x89PNG") for data in pictures.values())
    assert re.findall(r"!\[[^\]]+\]\(([^)]+)\)", card) == list(pictures)
    assert "![" not in card_of(finished)
