"""A live model whose parents have adapters: what is scored is what is exported, the unmerged host included."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vlmerge.anatomy import FAMILIES, live_roles, roles_of
from vlmerge.config.model_ref import ModelRef
from vlmerge.config.recipe import parse_recipe
from vlmerge.merge import Prepared, merge, prepare_models
from vlmerge.runtime.live import LiveModel, choose_placement
from vlmerge.runtime.parents import Parents

from .conftest import FAMILY

HIDDEN, RANK = 192, 3


def write_adapter(folder: Path, seed: int, modules: list[str], whole: dict[str, torch.Tensor]) -> ModelRef:
    generator = torch.Generator().manual_seed(seed)
    tensors = dict(whole)
    for module in modules:
        for side, shape in (("A", (RANK, HIDDEN)), ("B", (HIDDEN, RANK))):
            tensors[f"base_model.model.{module}.lora_{side}.weight"] = torch.randn(shape, generator=generator) * 0.05
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 5}))
    return ModelRef(str(folder))


@pytest.fixture
def family(tmp_path: Path) -> Prepared:
    """A VLM and a Japanese LM, each with an adapter, and their base."""
    queries = [f"layers.{layer}.self_attn.q_proj" for layer in range(6)]
    norm = {"base_model.model.model.language_model.norm.weight": torch.linspace(0.5, 1.5, HIDDEN)}
    host = write_adapter(tmp_path / "host", 1, [f"model.language_model.{name}" for name in queries], norm)
    source = write_adapter(tmp_path / "source", 2, [f"model.{name}" for name in queries[2:]], {})
    refs = [
        ModelRef(str(FAMILY / "vlm"), None, host),
        ModelRef(str(FAMILY / "ja"), None, source),
        ModelRef(str(FAMILY / "base")),
    ]
    return prepare_models(refs, base=refs[2])


def test_the_host_alone_is_the_host_with_its_adapter(family: Prepared) -> None:
    live = LiveModel.load_single(family, choose_placement("cpu", batch_size=1, host_dtype="float16"))
    parameters = dict(live._model.named_parameters())
    checkpoint, anatomy = family.checkpoints[family.host], family.anatomies[family.host]
    for role, name in live_roles(parameters).items():
        assert torch.equal(parameters[name], checkpoint.read(anatomy.roles[role]).float()), role


@pytest.mark.parametrize("home", ["card", "host", "file"])
@pytest.mark.parametrize("protect", [[], ["q_proj"]])
def test_what_is_scored_is_what_is_exported(family: Prepared, tmp_path: Path, protect: list[str], home: str) -> None:
    vlm, ja, base = (ref.plain() for ref in family.checkpoints)
    live = LiveModel.load_single(family, choose_placement("cpu", batch_size=1, host_dtype="float16"))
    homes = dict.fromkeys(family.anatomies[family.host].roles, home)
    parents = live._parents = Parents.read(family, live._model, torch.device("cpu"), homes)
    held = {name for ref, name in parents._tensors if ref == family.host}
    adapter = family.checkpoints[family.host].adapter
    assert adapter is not None
    assert adapter.changed is not None
    assert adapter.changed & held == (set() if home == "file" else adapter.changed), "computed tensors are in no file"

    def recipe(*weights: float, protect: list[str]):
        models = [{"model": m, "parameters": {"weight": w}} for m, w in zip((vlm, ja, base), weights, strict=True)]
        return parse_recipe({"merge_method": "linear", "models": models, "protect": protect}, "a test")

    live.merge(recipe(0.1, 0.2, 0.7, protect=[]))
    live.merge(recipe(0.5, 0.6, -0.1, protect=protect))
    merge(recipe(0.5, 0.6, -0.1, protect=protect), tmp_path / "out")
    parameters = dict(live._model.named_parameters())
    scored = {role: parameters[name] for role, name in live_roles(parameters).items()}
    with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as exported:
        names = roles_of(exported.keys(), FAMILIES["LLaVA"])
        assert set(names) == set(scored)
        for role, key in names.items():
            assert torch.equal(scored[role], exported.get_tensor(key).float()), role
