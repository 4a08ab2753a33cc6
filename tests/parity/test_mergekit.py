"""Plain LMs merge as in mergekit 0.1.5, within one unit in the last place, wherever it computes in float32.

golden/ was made by make_golden.py with the real mergekit.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from models import write_models
from recipes import RECIPES
from safetensors.torch import load_file

from vlmerge.config import load_recipe
from vlmerge.merge import merge

GOLDEN = Path(__file__).with_name("golden") / "mergekit-0.1.5.safetensors"


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
