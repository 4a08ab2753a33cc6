"""A result with a vocabulary of its own: what a vision-language model allows, whose rows go where, which files say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_family import HOST_ROWS, HOST_TOKENS, LM_TOKENS, read_result, write_lm, write_vlm
from transformers import AutoTokenizer

from vlmerge.carded import merge_with_card
from vlmerge.config.recipe import dump_recipe, load_recipe, parse_recipe, read_recipe
from vlmerge.errors import CheckpointError, ConfigError, MismatchError
from vlmerge.merge import merge, prepare

NEW = ["▁犬", "▁猫", "▁魚"]


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    return {
        "vlm": write_vlm(tmp_path / "vlm", "hf", sizes=True).path,
        "ja": write_lm(tmp_path / "ja", seed=3, tokens=[*LM_TOKENS[:20], *NEW], rows=24).path,
        "base": write_lm(tmp_path / "base", seed=2).path,
    }


def recipe(models: dict[str, Path], **keys: object) -> dict[str, object]:
    return {
        "merge_method": "linear",
        "models": [{"model": str(models[name]), "parameters": {"weight": 0.5}} for name in ("vlm", "ja")],
        **keys,
    }


def test_a_union_keeps_the_rows_of_a_vlm_and_adds_what_it_lacks(models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    merge(parse_recipe(recipe(models, tokenizer={"source": "union", "pad_to_multiple_of": 16}), "a test"), out)
    tensors = read_result(out)
    embedding = tensors["language_model.model.embed_tokens.weight"]
    # 30 tokens of the host, three new ones, padding to 48.
    assert embedding.shape[0] == 48
    config = json.loads((out / "config.json").read_text())
    assert config["text_config"]["vocab_size"] == config["vocab_size"] == 48
    assert config["image_token_index"] == HOST_TOKENS.index("<image>")
    host, other = read_result(models["vlm"]), read_result(models["ja"])
    own, theirs = host["language_model.model.embed_tokens.weight"], other["model.embed_tokens.weight"]
    tokens_of_ja = [*LM_TOKENS[:20], *NEW]
    for row, token in enumerate([*HOST_TOKENS, *NEW]):
        # A token of one model alone comes out as that model has it: the other one gets its row.
        rows = [own[row]] if token in HOST_TOKENS else []
        if token in tokens_of_ja:
            rows.append(theirs[tokens_of_ja.index(token)])
        expected = torch.stack(rows).float().mean(0)
        assert torch.equal(embedding[row], expected.half()), token
    mean = embedding[: len(HOST_TOKENS) + 3].double().mean(0)
    assert torch.allclose(embedding[40].double(), mean, atol=1e-4)
    words = AutoTokenizer.from_pretrained(out)
    assert words.get_vocab() == {token: row for row, token in enumerate([*HOST_TOKENS, *NEW])}
    # All else is the host's, and the models are as they were.
    assert sorted(tensors) == sorted(host)
    assert AutoTokenizer.from_pretrained(models["vlm"]).get_vocab() == {token: row for row, token in enumerate(HOST_TOKENS)}


def test_a_vlm_cannot_get_a_vocabulary_that_moves_its_tokens(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match="would move tokens") as caught:
        merge(parse_recipe(recipe(models, tokenizer_source=str(models["ja"])), "a test"), tmp_path / "out")
    assert "union" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_protected_tensor_keeps_its_rows_in_a_larger_vocabulary(models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    merge(parse_recipe(recipe(models, tokenizer={"source": "union"}, protect=["lm_head"]), "a test"), out)
    head, own = read_result(out)["language_model.lm_head.weight"], read_result(models["vlm"])["language_model.lm_head.weight"]
    count = len(HOST_TOKENS)
    assert head.shape[0] == count + 3 < HOST_ROWS
    assert torch.equal(head[:count], own[:count])
    assert torch.allclose(head[count:].double(), own[:count].double().mean(0).expand(3, -1), atol=1e-4)


def test_a_plain_model_may_take_over_another_tokenizer(models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = json.loads((models["ja"] / "config.json").read_text()) | {"eos_token_id": 20}
    (models["ja"] / "config.json").write_text(json.dumps(settings))
    plain = {
        "merge_method": "task_arithmetic",
        "base_model": str(models["base"]),
        "models": [{"model": str(models["ja"]), "parameters": {"weight": 0.7}}],
        "tokenizer": {"source": str(models["ja"])},
    }
    merge(parse_recipe(plain, "a test"), out)
    config = json.loads((out / "config.json").read_text())
    assert config["vocab_size"] == len([*LM_TOKENS[:20], *NEW])
    assert config["eos_token_id"] == 20
    assert (out / "tokenizer.json").read_bytes() == (models["ja"] / "tokenizer.json").read_bytes()
    embedding, ja = read_result(out)["model.embed_tokens.weight"], read_result(models["ja"])["model.embed_tokens.weight"]
    # The base lacks the new tokens and gets their rows: their differences are zero.
    assert torch.equal(embedding[20:23], ja[20:23])


def test_chat_templates_are_written_for_the_result(models: dict[str, Path], tmp_path: Path) -> None:
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    merge(parse_recipe(recipe(models, chat_template=template), "a test"), tmp_path / "one")
    assert AutoTokenizer.from_pretrained(tmp_path / "one").chat_template == template
    for name, own in (("vlm", "{{ 'a' }}"), ("ja", "{{ 'b' }}"), ("base", "{{ 'b' }}")):
        (models[name] / "chat_template.jinja").write_text(own)
    auto = recipe(models, chat_template="auto")
    auto["models"] = [{"model": str(models[name]), "parameters": {"weight": 0.5}} for name in ("vlm", "ja", "base")]
    merge(parse_recipe(auto, "a test"), tmp_path / "two")
    assert (tmp_path / "two" / "chat_template.jinja").read_text() == "{{ 'b' }}"


def test_a_chat_template_may_be_named(models: dict[str, Path], tmp_path: Path) -> None:
    blind = {
        "merge_method": "linear",
        "models": [{"model": str(models[name]), "parameters": {"weight": 0.5}} for name in ("base", "ja")],
        "chat_template": "llama3",
    }
    merge(parse_recipe(blind, "a test"), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    said = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True)
    assert said.endswith(
        "<|start_header_id|>user<|end_header_id|>\n\nx<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert load_recipe(tmp_path / "out" / "recipe.yaml").chat_template == "llama3"


def test_the_card_names_a_model_that_gives_its_tokenizer_alone(models: dict[str, Path], tmp_path: Path) -> None:
    blind = {
        "merge_method": "linear",
        "models": [{"model": str(models["base"]), "parameters": {"weight": 0.5}}],
        "tokenizer": {"source": str(models["ja"])},
    }
    merge_with_card(parse_recipe(blind, "a test"), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"| {models['base'].name} | host |" in card
    assert f"| {models['ja'].name} | tokenizer |" in card
    assert "pipeline_tag: text-generation" in card


def test_a_named_chat_template_is_refused_for_a_result_that_sees(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"know no pictures(.|\n)*leave `chat_template` out"):
        merge(parse_recipe(recipe(models, chat_template="chatml"), "a test"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_recipes_with_tokenizers_read_back(models: dict[str, Path]) -> None:
    rules = {
        "▁犬": {"source": str(models["ja"]), "force": True},
        "<x>": {"source": {"kind": "model_token", "model": str(models["base"]), "token_id": 3}},
        "<y>": {"source": {"kind": "zero"}},
    }
    given = parse_recipe(
        recipe(models, tokenizer={"source": "union", "tokens": rules, "pad_to_multiple_of": 8}, chat_template="auto"), "a test"
    )
    assert read_recipe(dump_recipe(given), "again") == given


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"tokenizer": {"source": "union"}, "tokenizer_source": "base"}, "named twice"),
        ({"tokenizer": {"source": "union", "tokens": {"a": {"source": {"kind": "one"}}}}}, "model_token"),
        ({"tokenizer": {"tokens": {"a": {"source": {"kind": "model_token", "model": "m"}}}}}, "which row"),
        ({"tokenizer": {"sorce": "union"}}, "did you mean `source`"),
        ({"tokenizer": {"pad_to_multiple_of": 0}}, "greater than or equal to 1"),
        ({"chat_template": "chat_ml"}, r"is no template(.|\n)*alpaca, chatml, exaone, llama3, mistral"),
    ],
)
def test_mistakes_in_a_tokenizer_are_named(keys: dict[str, object], says: str) -> None:
    models = [{"model": "m", "parameters": {"weight": 1}}]
    with pytest.raises(ConfigError, match=says):
        parse_recipe({"merge_method": "linear", "models": models, **keys}, "a test")


def test_a_rule_that_names_no_row_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    rules = {"<x>": {"source": {"kind": "model_token", "model": str(models["ja"]), "token": "nowhere"}}}
    with pytest.raises(ConfigError, match="a row that is not there"):
        merge(parse_recipe(recipe(models, tokenizer={"tokens": rules}), "a test"), tmp_path / "out")


def test_a_tokenizer_that_would_number_new_tokens_otherwise_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    """Tokens beyond the rows of the base are cut, as they have none; a gap in its numbers cannot be kept."""
    file = models["base"] / "tokenizer.json"
    whole = json.loads(file.read_text())
    kind = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    plain = {
        "merge_method": "linear",
        "base_model": str(models["base"]),
        "models": [{"model": str(models[name]), "parameters": {"weight": 0.5}} for name in ("base", "ja")],
        "tokenizer": {"source": "union"},
    }
    count = len(LM_TOKENS)
    # 28 tokens and 32 rows: four more have rows, the fifth has none.
    beyond = [{"id": row, "content": f"<more {row}>", **kind} for row in range(count, count + 5)]
    file.write_text(json.dumps({**whole, "added_tokens": beyond}))
    merge(parse_recipe(plain, "a test"), tmp_path / "out")
    vocabulary = AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab()
    assert f"<more {count + 4}>" not in vocabulary
    assert [vocabulary[token] for token in NEW] == [32, 33, 34]
    assert len(read_result(tmp_path / "out")["model.embed_tokens.weight"]) == 35 == len(vocabulary)
    whole["model"]["vocab"]["<far>"] = 30
    file.write_text(json.dumps(whole))
    with pytest.raises(CheckpointError, match="new tokens cannot be added"):
        merge(parse_recipe(plain, "a test"), tmp_path / "gap")


def test_tokens_that_find_no_row_are_told_of(models: dict[str, Path]) -> None:
    given = parse_recipe(recipe(models, tokenizer={"source": "base"}), "a test")
    warnings = prepare(given).pairing.warnings
    assert any("3 tokens of" in each and "ja" in each and "no row in the result" in each for each in warnings)
