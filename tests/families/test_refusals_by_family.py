"""What does not fit is refused by name, before anything is written; what only looks otherwise is not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import LLAMA, LM_ROWS, QWEN2, TINY, write_host, write_lm

from vlmerge.anatomy import dissect
from vlmerge.checkpoint import resolve
from vlmerge.checkpoint.headers import WeightsFormat
from vlmerge.config import ModelRef, Recipe
from vlmerge.errors import MismatchError
from vlmerge.merge import merge, prepare
from vlmerge.types import TensorInfo

HOSTS = ["llava-llama", "qwen2-vl", "qwen3-vl", "gemma3", "mllama", "aya-vision", "smolvlm"]
"""One of each kind of decoder and layout."""


@dataclass(frozen=True)
class Headers:
    """A checkpoint of which only config.json and names are known."""

    config: dict[str, Any]
    names: tuple[str, ...] = ()
    ref: ModelRef = field(default_factory=lambda: ModelRef("model"))
    path: Path = Path("nowhere")
    revision: str | None = None
    weights_format: WeightsFormat = "safetensors"
    total_bytes: int = 0
    licence: str | None = None

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        return {name: TensorInfo(name, "F16", (8, 8), "model.safetensors") for name in self.names}

    def side_files(self) -> dict[str, Path]:
        return {}


def linear(folder: Path, **more: Any) -> Recipe:
    models = [{"model": str(folder / name), "parameters": {"weight": 0.5}} for name in ("host", "lm")]
    return Recipe.model_validate({"merge_method": "linear", "models": models, **more})


def refused(folder: Path, words: str) -> str:
    with pytest.raises(MismatchError, match=words) as caught:
        merge(linear(folder), folder / "out")
    assert not (folder / "out").exists()
    assert caught.value.remedy
    return str(caught.value)


PLAIN = ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.norm.weight", "lm_head.weight")


@pytest.mark.parametrize("key", HOSTS)
def test_a_language_model_of_another_kind(tmp_path: Path, key: str) -> None:
    write_host(tmp_path / "host", TINY[key])
    kind = TINY[key].lm["model_type"]
    other = LLAMA if kind.startswith("qwen") else QWEN2
    write_lm(tmp_path / "lm", {**other, "vocab_size": LM_ROWS}, seed=2)
    message = refused(tmp_path, "different kinds")
    assert kind in message
    assert other["model_type"] in message


@pytest.mark.parametrize("key", HOSTS)
@pytest.mark.parametrize(
    ("changes", "words"),
    [({"hidden_size": 32}, "hidden width"), ({"intermediate_size": 40}, "MLP width"),
     ({"num_hidden_layers": 3}, "decoder layers"),
     ({"num_attention_heads": 2, "num_key_value_heads": 2}, "attention heads|key/value heads|head width|hidden width")],
)  # fmt: skip
def test_a_language_model_of_another_size(tmp_path: Path, key: str, changes: dict[str, int], words: str) -> None:
    write_host(tmp_path / "host", TINY[key])
    smaller = dict(TINY[key].lm)
    if "hidden_size" in changes and "num_attention_heads" not in smaller:
        smaller |= {"num_attention_heads": 8, "num_key_value_heads": 8}
    if smaller["model_type"] == "qwen3" and "num_attention_heads" in changes:
        changes = {"num_attention_heads": 4, "num_key_value_heads": 4}
    write_lm(tmp_path / "lm", smaller | changes, seed=2)
    refused(tmp_path, f"{words}|attention heads" if "hidden_size" in changes else words)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "some_new_vl", "architectures": ["SomeNewVLForConditionalGeneration"], "vision_config": {"depth": 4}},
        {"model_type": "phi4_multimodal", "architectures": ["Phi4MultimodalForCausalLM"], "vision_config": {}},
        {"model_type": "phi4mm", "architectures": ["Phi4MMForCausalLM"], "img_processor": None},
        {"model_type": "qwen3_vl_moe", "text_config": {}, "vision_config": {}},
        {"model_type": "llama4", "text_config": {}, "vision_config": {}},
        {"model_type": "internvl_chat", "llm_config": {}, "vision_config": {}},
        {"model_type": "minicpmv", "vision_config": {}},
        {"model_type": "qwen", "architectures": ["QWenLMHeadModel"], "visual": {"layers": 48}},
        {"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"]},
    ],
    ids=lambda config: config["model_type"],
)
def test_unknown_models_are_refused_by_their_type(config: dict[str, Any]) -> None:
    names = PLAIN if config["model_type"] != "gpt_neox" else ("gpt_neox.embed_in.weight",)
    for known in (names, ()):
        with pytest.raises(MismatchError, match=f"type '{config['model_type']}' are not supported") as caught:
            dissect(Headers({**config, "num_attention_heads": 2}, known))
        assert "Qwen2-VL" in (caught.value.expected or "")


def test_a_tensor_that_is_no_plain_language_models_gives_an_unknown_model_away() -> None:
    config = {"model_type": "mine", "num_attention_heads": 1, "hidden_size": 8}
    assert dissect(Headers(config, PLAIN)).warnings
    with pytest.raises(MismatchError, match="'mine' are not supported"):
        dissect(Headers(config, (*PLAIN, "vpm.encoder.layers.0.mlp.fc1.weight")))


def test_a_decoder_that_a_family_does_not_have() -> None:
    for model_type, decoder in (
        ("internvl", "qwen3_moe"),
        ("llava_onevision", "llama"),
        ("gemma3", "gemma2"),
        ("mllama", "llama"),
    ):
        with pytest.raises(MismatchError, match=f"decoder of the type '{decoder}'"):
            dissect(Headers({"model_type": model_type, "text_config": {"model_type": decoder}}, PLAIN))


def test_cross_attention_layers_that_config_and_files_do_not_agree_on(tmp_path: Path) -> None:
    folder = write_host(tmp_path / "host", TINY["mllama"])
    config = json.loads((folder / "config.json").read_text())
    for said in ([1, 2], None):
        config["text_config"]["cross_attention_layers"] = said
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(MismatchError, match="which layers have cross-attention") as caught:
            dissect(resolve(ModelRef(str(folder))))
        assert "1, 3" in (caught.value.expected or "")


def sliced(folder: Path, *ranges: tuple[int, int]) -> Recipe:
    slices = [
        {
            "sources": [
                {"model": str(folder / name), "layer_range": each, "parameters": {"weight": 0.5}} for name in ("host", "lm")
            ]
        }
        for each in ranges
    ]
    return Recipe.model_validate({"merge_method": "linear", "slices": slices})


def test_layers_of_a_host_with_cross_attention_are_not_stacked_anew(tmp_path: Path) -> None:
    write_host(tmp_path / "host", TINY["mllama"])
    write_lm(tmp_path / "lm", TINY["mllama"].lm, seed=2)
    assert len(prepare(sliced(tmp_path, (0, 1), (1, 2))).pairing.merged) == TINY["mllama"].merged
    with pytest.raises(MismatchError, match="cross-attention layers cannot be stacked"):
        prepare(sliced(tmp_path, (0, 2), (1, 2)))


@pytest.mark.parametrize("key", ["qwen2-vl", "qwen3-vl", "gemma3", "idefics3"])
def test_layers_stacked_anew_are_counted_where_the_config_counts_them(tmp_path: Path, key: str) -> None:
    from transformers import AutoModelForImageTextToText

    write_host(tmp_path / "host", TINY[key])
    write_lm(tmp_path / "lm", TINY[key].lm, seed=2)
    merge(sliced(tmp_path, (0, 2), (1, 2)), tmp_path / "out")
    auto: Any = AutoModelForImageTextToText
    model, info = auto.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not {key: value for key, value in info.items() if value}
    assert model.config.get_text_config().num_hidden_layers == 3
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert set(config) == set(TINY[key].config)


@pytest.mark.parametrize("key", ["gemma3", "paligemma2", "aya-vision"])
def test_layers_stacked_anew_go_on_seeing_what_they_saw(tmp_path: Path, key: str) -> None:
    """Where a layer's number says whether it sees a window alone, config.json says it for each layer of the result."""
    from transformers import AutoConfig

    tiny = TINY[key]
    deep = replace(
        tiny,
        config=tiny.config | {"text_config": tiny.config["text_config"] | {"num_hidden_layers": 6}},
        lm=tiny.lm | {"num_hidden_layers": 6},
    )
    write_host(tmp_path / "host", deep)
    write_lm(tmp_path / "lm", deep.lm, seed=2)
    before = AutoConfig.from_pretrained(tmp_path / "host").get_text_config().layer_types
    assert len(set(before)) == 2
    for number, ranges in enumerate([((0, 5), (3, 6)), ((0, 3), (2, 5))]):
        out = tmp_path / f"out{number}"
        merge(sliced(tmp_path, *ranges), out)
        after = AutoConfig.from_pretrained(out).get_text_config().layer_types
        assert after == [before[layer] for first, end in ranges for layer in range(first, end)]


@pytest.mark.parametrize("key", ["qwen2-vl", "mllama", "gemma3"])
def test_a_dtype_stands_where_the_host_says_one(tmp_path: Path, key: str) -> None:
    write_host(tmp_path / "host", TINY[key])
    write_lm(tmp_path / "lm", TINY[key].lm, seed=2)
    merge(linear(tmp_path, out_dtype="bfloat16"), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config.pop("torch_dtype") == "bfloat16"
    assert config == {name: value for name, value in TINY[key].config.items() if name != "torch_dtype"}
    tensors = load_file(tmp_path / "out" / "model.safetensors").values()
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}


def test_rotary_positions_in_three_parts_are_no_difference(tmp_path: Path) -> None:
    write_host(tmp_path / "host", TINY["qwen2-vl"])
    write_lm(tmp_path / "lm", TINY["qwen2-vl"].lm, seed=2)
    config = json.loads((tmp_path / "lm" / "config.json").read_text())
    config["rope_parameters"] = {"rope_theta": config.pop("rope_theta"), "rope_type": "default"}
    (tmp_path / "lm" / "config.json").write_text(json.dumps(config))
    assert not [warning for warning in prepare(linear(tmp_path)).pairing.warnings if "rot" in warning or "rope" in warning]
    config["rope_parameters"] |= {"rope_type": "yarn"}
    (tmp_path / "lm" / "config.json").write_text(json.dumps(config))
    assert [warning for warning in prepare(linear(tmp_path)).pairing.warnings if "yarn" in warning]


def test_a_head_beside_a_tied_config_is_told_of(tmp_path: Path) -> None:
    folder = write_host(tmp_path / "host", TINY["gemma3"])
    tensors = load_file(folder / "model.safetensors")
    tensors["language_model.lm_head.weight"] = tensors["language_model.model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert any("the files hold a head" in warning for warning in dissect(resolve(ModelRef(str(folder)))).warnings)


def test_two_vlms_of_one_family_in_two_layouts_share_everything(tmp_path: Path) -> None:
    for key in ("llava-next", "qwen2.5-vl", "mllama"):
        folder = tmp_path / key
        write_host(folder / "host", TINY[key])
        write_host(folder / "lm", TINY[key], seed=5, names=())
        pairing = prepare(linear(folder)).pairing
        assert len(pairing.merged) == sum(1 for each in pairing.tensors if each.dtype == "F32")
        assert pairing.dropped == {}


@pytest.mark.parametrize(
    ("one", "two", "shared"),
    [("qwen2.5-vl", "internvl", ()), ("llava-qwen2", "internvl", ()), ("pixtral-12b", "mistral3", ("vision",))],
)
def test_vlms_of_two_families_share_their_decoders(tmp_path: Path, one: str, two: str, shared: tuple[str, ...]) -> None:
    """Their towers and projectors have names in common, mostly of other things."""
    for host, other in ((one, two), (two, one)):
        folder = tmp_path / host
        write_host(folder / "host", TINY[host])
        write_host(folder / "lm", TINY[other], seed=4)
        pairing = prepare(linear(folder)).pairing
        assert len([each for each in pairing.merged if each.is_decoder]) == TINY[host].merged
        assert {each.role.partition(".")[0] for each in pairing.merged if not each.is_decoder} == set(shared)
        another = "projector" if shared else "vision tower"
        assert [warning for warning in pairing.warnings if f"another {another}" in warning]


def test_a_projector_of_its_own_behind_the_same_tower(tmp_path: Path) -> None:
    write_host(tmp_path / "host", TINY["llava-llama"])
    folder = write_host(tmp_path / "lm", TINY["llava-llama"], seed=4)
    tensors = load_file(folder / "model.safetensors")
    for name in ("weight", "bias"):
        tensors[f"multi_modal_projector.linear_3.{name}"] = tensors.pop(f"multi_modal_projector.linear_2.{name}")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    pairing = prepare(linear(tmp_path)).pairing
    kept = [each for each in pairing.tensors if not each.merged and each.dtype != "I64"]
    assert {each.role.partition(".")[0] for each in kept} == {"projector"}
    assert {each.reason for each in kept} == {
        f"{tmp_path / 'lm'} has another projector",
        f"{tmp_path / 'lm'} has no such tensor",
    }


def test_original_checkpoints_of_other_decoders_are_known_by_their_type() -> None:
    """LLaVA-1.6 as its authors save it: what pairs follows from model_type, and the projector is no part of the decoder."""
    names = (*PLAIN, "model.mm_projector.0.weight", "model.image_newline")
    for model_type, kind in (("llava", "llama"), ("llava_mistral", "mistral"), ("llava_qwen", "qwen2")):
        config = {"model_type": model_type, "mm_vision_tower": "somewhere", "num_attention_heads": 2}
        anatomy = dissect(Headers(config, names))
        assert anatomy.facts.kind == kind
        assert {role for role in anatomy.roles if not role.startswith("projector.")} == {
            name.removeprefix("model.") for name in PLAIN
        }
