"""Plain language models merge with their like; those that no row names, by their names and with a warning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import (
    COHERE,
    COHERE2,
    GEMMA,
    GEMMA2,
    GEMMA3,
    LLAMA,
    LM_ROWS,
    MINISTRAL3,
    MISTRAL,
    QWEN2,
    QWEN3,
    SIZES,
    write_lm,
)

from vlmerge.anatomy import Anatomy, dissect, live_roles
from vlmerge.checkpoint import resolve
from vlmerge.config import ModelRef, Recipe
from vlmerge.errors import MismatchError
from vlmerge.merge import MergeSummary, merge, prepare

HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2}
PHI3 = {"model_type": "phi3", **SIZES, **HEADS, "pad_token_id": 0, "tie_word_embeddings": False}
KNOWN = {
    "Llama": LLAMA, "Mistral": MISTRAL, "Qwen2": QWEN2, "Qwen3": QWEN3, "Gemma": GEMMA, "Gemma 2": GEMMA2, "Gemma 3": GEMMA3,
    "Phi-3": PHI3, "Cohere": COHERE, "Cohere2": COHERE2, "Ministral 3": MINISTRAL3,
}  # fmt: skip
UNKNOWN = {
    "olmo2": {"model_type": "olmo2", **SIZES, **HEADS, "pad_token_id": 0},
    "granite": {"model_type": "granite", **SIZES, **HEADS},
    "smollm3": {"model_type": "smollm3", **SIZES, **HEADS, "pad_token_id": 0},
    "starcoder2": {"model_type": "starcoder2", **SIZES, **HEADS},  # another MLP: c_fc, c_proj
}


def write(folder: Path, config: dict[str, Any], seed: int) -> Path:
    return write_lm(folder, {**config, "vocab_size": LM_ROWS}, seed)


def opened(folder: Path) -> Anatomy:
    return dissect(resolve(ModelRef.parse(str(folder))))


def linear(*folders: Path) -> Recipe:
    models = [{"model": str(folder), "parameters": {"weight": 0.5}} for folder in folders]
    return Recipe.model_validate({"merge_method": "linear", "models": models})


@pytest.fixture(scope="module", params=[*KNOWN, *UNKNOWN])
def trio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A kind of decoder, and the folder with two models and a base of it."""
    config, folder = (KNOWN | UNKNOWN)[request.param], tmp_path_factory.mktemp("trio")
    for seed, name in enumerate(("one", "two", "base"), 1):
        write(folder / name, config, seed)
    return config, folder


def merged(tmp_path: Path, one: dict[str, Any], two: dict[str, Any]) -> MergeSummary:
    return merge(linear(write(tmp_path / "one", one, 1), write(tmp_path / "two", two, 2)), tmp_path / "out")


def test_two_of_a_kind_merge_wholly(tmp_path: Path, trio: tuple[dict[str, Any], Path]) -> None:
    from transformers import AutoModelForCausalLM

    config, folder = trio
    summary = merge(linear(folder / "one", folder / "two"), tmp_path / "out")
    one, two = (load_file(folder / name / "model.safetensors") for name in ("one", "two"))
    result = load_file(tmp_path / "out" / "model.safetensors")
    assert summary.merged == len(result) == len(one)
    for name, tensor in result.items():
        rows = 28 if "embed_tokens" in name or "lm_head" in name else len(tensor)
        assert torch.allclose(tensor[:rows], (one[name][:rows] + two[name][:rows]) / 2, atol=1e-6), name
    auto: Any = AutoModelForCausalLM
    model, info = auto.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not {key: value for key, value in info.items() if value}
    assert torch.isfinite(model(input_ids=torch.tensor([[1, 5, 6]])).logits).all()
    anatomy = opened(tmp_path / "out")
    assert live_roles(name for name, _ in model.named_parameters()).keys() == anatomy.roles.keys()
    known = config["model_type"] not in UNKNOWN
    assert [f"type {config['model_type']!r}" in warning for warning in summary.pairing.warnings] == (
        [] if known else [True] * 2
    )


def test_differences_from_a_base_merge_wholly(tmp_path: Path, trio: tuple[dict[str, Any], Path]) -> None:
    """The host whole is the host; task arithmetic and TIES are their formulas; and the last of them loads and answers."""
    from transformers import AutoModelForCausalLM

    _, folder = trio
    base, one, two = (load_file(folder / name / "model.safetensors") for name in ("base", "one", "two"))

    def result(method: str, *weights: float, **named: str) -> dict[str, torch.Tensor]:
        models = [
            {"model": str(folder / name), "parameters": {"weight": w}} for name, w in zip(("one", "two"), weights, strict=True)
        ]
        merge(Recipe.model_validate({"merge_method": method, "models": models, **named}), tmp_path / method)
        return load_file(tmp_path / method / "model.safetensors")

    same = result("linear", 1, 0, vlm=str(folder / "one"))
    assert list(same) == list(one)
    assert all(torch.equal(tensor, one[name]) for name, tensor in same.items())
    moved, elected = (result(method, 0.7, 0.4, base_model=str(folder / "base")) for method in ("task_arithmetic", "ties"))
    for name, tensor in base.items():
        rows = 28 if "embed_tokens" in name or "lm_head" in name else len(tensor)
        first, second = (0.7 * (one[name] - tensor)[:rows], 0.4 * (two[name] - tensor)[:rows])
        assert torch.allclose(moved[name][:rows], tensor[:rows] + first + second, rtol=1e-5, atol=1e-6), name
        # Where their signs differ the larger one is left, divided by its own weight.
        apart = torch.where(first.abs() > second.abs(), first / 0.7, second / 0.4)
        total = torch.where(first * second > 0, (first + second) / 1.1, apart)
        assert torch.allclose(elected[name][:rows], tensor[:rows] + total, rtol=1e-5, atol=1e-6), name
        assert torch.equal(moved[name][rows:], tensor[rows:]), name
    auto: Any = AutoModelForCausalLM
    model, info = auto.from_pretrained(tmp_path / "ties", output_loading_info=True)
    assert not {key: value for key, value in info.items() if value}
    assert torch.isfinite(model(input_ids=torch.tensor([[1, 5, 6]])).logits).all()


def test_sizes_from_shapes_are_those_of_config_and_class(trio: tuple[dict[str, Any], Path]) -> None:
    """Where config.json says all, shapes say the same; unknown kinds among them."""
    from transformers import AutoConfig

    _, folder = trio
    whole = AutoConfig.from_pretrained(folder / "one")
    facts = opened(folder / "one").facts
    assert (facts.hidden, facts.intermediate, facts.layers) == (64, 48, 2)
    assert (facts.heads, facts.kv_heads) == (whole.num_attention_heads, whole.num_key_value_heads)
    assert facts.head_dim == (getattr(whole, "head_dim", None) or 64 // whole.num_attention_heads)


def test_llama_and_mistral_meet_with_a_warning(tmp_path: Path) -> None:
    heads = {"num_key_value_heads": 8}
    summary = merged(tmp_path, LLAMA | heads, MISTRAL)
    assert [warning for warning in summary.pairing.warnings if "of the type mistral" in warning]
    assert summary.merged == 21


def test_an_unknown_kind_may_meet_a_known_one_of_the_same_tensors_alone(tmp_path: Path) -> None:
    write(tmp_path / "one", LLAMA, 1)
    write(tmp_path / "two", LLAMA, 2)
    config = json.loads((tmp_path / "two" / "config.json").read_text()) | {"model_type": "mine", "num_attention_heads": 32}
    (tmp_path / "two" / "config.json").write_text(json.dumps(config))
    prepared = prepare(linear(tmp_path / "one", tmp_path / "two"))
    assert len([warning for warning in prepared.pairing.warnings if "mine" in warning]) == 2
    tensors = load_file(tmp_path / "two" / "model.safetensors")
    tensors["model.layers.0.self_attn.q_norm.weight"] = torch.ones(2)
    save_file(tensors, tmp_path / "two" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MismatchError, match="q_norm") as caught:
        prepare(linear(tmp_path / "one", tmp_path / "two"))
    assert "llama" in str(caught.value)
    del config["num_attention_heads"]
    (tmp_path / "two" / "config.json").write_text(json.dumps(config))
    with pytest.raises(MismatchError, match="num_attention_heads"):
        opened(tmp_path / "two")


@pytest.mark.parametrize(
    ("one", "two"),
    [("Llama", "Qwen2"), ("Qwen2", "Llama"), ("Qwen3", "Qwen2"), ("Gemma", "Llama"), ("Gemma 2", "Gemma"),
     ("Cohere", "Cohere2"), ("Phi-3", "Llama"), ("Mistral", "Ministral 3")],
)  # fmt: skip
def test_kinds_that_compute_otherwise_are_refused(tmp_path: Path, one: str, two: str) -> None:
    with pytest.raises(MismatchError, match="different kinds") as caught:
        merged(tmp_path, KNOWN[one], KNOWN[two])
    for word in (KNOWN[one]["model_type"], KNOWN[two]["model_type"], str(tmp_path / "one"), str(tmp_path / "two")):
        assert word in str(caught.value)
    assert not (tmp_path / "out").exists()
