"""Mixtures of experts: each has tensors of its own on disk, transformers holds them stacked. Both merge alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from askable import make_loud, write_tokenizer
from safetensors.torch import load_file
from tiny_families import LM_ROWS, SIZES, WORDS

from vlmerge.anatomy import dissect
from vlmerge.checkpoint import resolve
from vlmerge.config import ModelRef, Recipe
from vlmerge.errors import MismatchError
from vlmerge.merge import merge, prepare_models
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.runtime.live_tensors import EXPERTS, live_tensors
from vlmerge.types import Decoding, Question

SMALL: dict[str, Any] = {
    **SIZES, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": LM_ROWS, "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "num_experts_per_tok": 2,
}  # fmt: skip
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "mixtral": ({"num_local_experts": 3, "sliding_window": None}, "block_sparse_moe.experts.2.w3.weight"),
    "qwen2_moe": (
        {"num_experts": 3, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40},
        "mlp.experts.2.up_proj.weight",
    ),
    "qwen3_moe": ({"num_experts": 3, "moe_intermediate_size": 24, "head_dim": 16}, "mlp.experts.2.up_proj.weight"),
    "olmoe": ({"num_experts": 3}, "mlp.experts.2.up_proj.weight"),
}
"""model_type → its config, and a tensor that its files on the hub have in each layer."""


def write(folder: Path, kind: str, seed: int, **config: Any) -> Path:
    """A tiny model as the hub has it, with a tokenizer."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    torch.manual_seed(seed)
    auto: Any = AutoModelForCausalLM
    model = auto.from_config(CONFIG_MAPPING[kind](**SMALL, **config), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    make_loud(folder)
    write_tokenizer(folder, (), (), words=[*WORDS, *(f"▁y{index}" for index in range(LM_ROWS))][:LM_ROWS])
    return folder


def recipe(*folders: Path, method: str = "linear") -> Recipe:
    models = [
        {"model": str(folder), "parameters": {"weight": weight}} for folder, weight in zip(folders, (0.7, 0.4), strict=True)
    ]
    keys = {"linear": {"parameters": {"normalize": False}}, "ties": {"base_model": str(folders[0])}}[method]
    return Recipe.model_validate({"merge_method": method, "models": models, **keys})


@pytest.fixture(scope="module", params=KINDS)
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    folder, kind = tmp_path_factory.mktemp(request.param), request.param
    return kind, write(folder / "one", kind, 1, **KINDS[kind][0]), write(folder / "two", kind, 2, **KINDS[kind][0])


def test_every_expert_merges_on_disk_and_transformers_misses_none(two: tuple[str, Path, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    kind, *folders = two
    summary = merge(recipe(*folders), tmp_path / "out")
    one, other, result = (load_file(folder / "model.safetensors") for folder in (*folders, tmp_path / "out"))
    assert list(result) == list(one)
    assert {f"model.layers.{layer}.{KINDS[kind][1]}" for layer in (0, 1)} <= result.keys()
    assert summary.merged == len(result)
    for name, tensor in result.items():
        assert torch.allclose(tensor, 0.7 * one[name] + 0.4 * other[name], atol=1e-6), name
    auto: Any = AutoModelForCausalLM
    model, info = auto.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not {key: value for key, value in info.items() if value}
    held = live_tensors(model)
    roles = dissect(resolve(ModelRef(str(tmp_path / "out")))).roles
    assert held.keys() == roles.keys()
    assert all(torch.equal(held[role], result[name]) for role, name in roles.items())


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_what_is_scored_in_place_is_what_is_written(two: tuple[str, Path, Path], method: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, *folders = two
    models = prepare_models([ModelRef(str(folder)) for folder in folders])
    live = LiveModel.load(models, choose_placement("cpu", batch_size=2, host_dtype="float32"))
    asked = [Question(str(n), "t", words, (), ("",)) for n, words in enumerate(("▁w3", "▁w7 ▁w2 ▁w9", "▁w5 ▁w5"))]
    read = torch.tensor([[1, 5, 6, 9]])
    before = live._model(input_ids=read).logits
    wanted = recipe(*folders, method=method)
    live.merge(wanted)
    merge(wanted, tmp_path / "out")
    held, written = live_tensors(live._model), load_file(tmp_path / "out" / "model.safetensors")
    roles = dissect(resolve(ModelRef(str(tmp_path / "out")))).roles
    assert all(torch.equal(held[role], written[name]) for role, name in roles.items())
    auto: Any = AutoModelForCausalLM
    model, tokenizer = auto.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    after = live._model(input_ids=read).logits
    assert torch.equal(after, model(input_ids=read).logits)
    assert not torch.allclose(after, before, atol=0.1)
    expected: list[str] = []
    for question in asked:
        inputs = tokenizer([live.prompt(question)], return_tensors="pt", return_token_type_ids=False)
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        expected.append(tokenizer.decode(ids, skip_special_tokens=True))
    assert [answer.text for answer in live.answer(asked, Decoding(max_new_tokens=8))] == expected


def test_a_kind_whose_stacking_is_not_known_is_refused_in_place_and_merges_on_disk(tmp_path: Path) -> None:
    folders = [write(tmp_path / name, "flex_olmo", seed, num_experts=3) for seed, name in enumerate(("one", "two"), 1)]
    assert "flex_olmo" not in EXPERTS
    models = prepare_models([ModelRef(str(folder)) for folder in folders])
    with pytest.raises(MismatchError, match=r"lacks tensors that its files have(.|\n)*experts.0(.|\n)*vlmerge merge"):
        LiveModel.load(models, choose_placement("cpu", batch_size=2, host_dtype="float32"))
    assert merge(recipe(*folders), tmp_path / "out").kept == 0
