"""Plain LMs merge as in mergekit 0.1.5, within one unit in the last place, wherever it computes in float32.

golden/ was made by make_golden.py with the real mergekit.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from models import write_models
from recipes import IN_16_BITS, RECIPES, TOKENIZERS, by_token
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from vlmerge.config import load_recipe
from vlmerge.merge import merge

GOLDEN = Path(__file__).with_name("golden") / "mergekit-0.1.5.safetensors"
OF_TOKENIZERS = GOLDEN.with_name("mergekit-0.1.5-tokenizers.safetensors")
IN_16 = GOLDEN.with_name("mergekit-0.1.5-in-16-bits.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("golden")
    write_models(made)
    return made


@pytest.mark.parametrize("name", RECIPES)
def test_equals_mergekit(folder: Path, name: str) -> None:
    golden = {key.split("/")[1]: tensor for key, tensor in load_file(GOLDEN).items() if key.split("/")[0] == name}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(RECIPES[name]), encoding="utf-8")
    merge(load_recipe(folder / f"{name}.yaml"), folder / name)
    result = load_file(folder / name / "model.safetensors")
    assert_equal(result, golden)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_vocabularies_are_laid_out_as_in_mergekit_token_by_token(folder: Path, name: str) -> None:
    golden = {key.partition("/")[2]: tensor for key, tensor in load_file(OF_TOKENIZERS).items() if key.split("/")[0] == name}
    (folder / f"{name}-tokens.yaml").write_text(yaml.safe_dump(TOKENIZERS[name]), encoding="utf-8")
    out = folder / f"{name}-tokens"
    merge(load_recipe(folder / f"{name}-tokens.yaml"), out)
    tensors = load_file(out / "model.safetensors")
    assert_equal(by_token(out, tensors), golden)
    config = json.loads((out / "config.json").read_text())
    assert config["vocab_size"] == len(tensors["model.embed_tokens.weight"])
    model = AutoModelForCausalLM.from_pretrained(out)
    words = AutoTokenizer.from_pretrained(out)
    assert len(words.get_vocab()) <= config["vocab_size"]
    assert torch.isfinite(model(torch.tensor([list(words.get_vocab().values())])).logits).all()


def assert_equal(result: dict[str, torch.Tensor], golden: dict[str, torch.Tensor]) -> None:
    """Within a unit in the last place."""
    assert set(result) == set(golden)
    different = 0
    for key, tensor in golden.items():
        assert result[key].dtype == tensor.dtype
        got, want = result[key].double(), tensor.double()
        ulp = (
            torch.finfo(tensor.dtype).eps
            * 2.0 ** want.abs().clamp_min(torch.finfo(tensor.dtype).smallest_normal).log2().floor()
        )
        # Where terms cancel, float32's own rounding of terms of about 0.1 is what is left.
        assert ((got - want).abs() <= torch.maximum(ulp, torch.tensor(2.0**-26))).all(), key
        different += int((got != want).sum())
    # float32 results may differ by the order of roundings; 16-bit ones only where a result lies between two values.
    if tensor.dtype != torch.float32:
        assert different <= 0.01 * sum(tensor.numel() for tensor in golden.values())


@pytest.mark.parametrize("name", IN_16_BITS)
def test_is_nearer_to_float64_where_mergekit_rounds_every_step(folder: Path, name: str) -> None:
    (folder / f"{name}-16.yaml").write_text(yaml.safe_dump(IN_16_BITS[name]), encoding="utf-8")
    merge(load_recipe(folder / f"{name}-16.yaml"), folder / f"{name}-16")
    result, golden = load_file(folder / f"{name}-16" / "model.safetensors"), load_file(IN_16)
    ours, theirs = [], []
    for key, tensor in result.items():
        exact = golden[f"{name} float64/{key}"].double()
        assert tensor.dtype == torch.bfloat16
        ours.append((tensor.double() - exact).view(-1))
        theirs.append((golden[f"{name} bfloat16/{key}"].double() - exact).view(-1))
    # Both are rounded to bfloat16 at the end; what is smaller is what comes before.
    assert torch.cat(ours).norm() < torch.cat(theirs).norm()
